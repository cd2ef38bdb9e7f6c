"""Make a data set for training: a folder or zip of any pictures becomes a zip of square RGB PNGs of one size."""

import sys
from collections.abc import Sequence

import click

from dataset_tools import FITS, RESIZE_FILTERS, Conversion, PictureSource, Report, prepare_dataset
from dataset_tools.prepare import check_dest
from dataset_tools.workers import default_workers
from dnnlib.cli import command, option, progress, run


@command(name='prepare_data')
@option('--source', required=True, metavar='DIR|ZIP', group='What',
        help='A folder or zip of pictures, sub-folders included. Files that are no pictures are passed over; labels in its '
             'dataset.json are carried over.')
@option('--dest', required=True, metavar='FILE.zip', group='What',
        help='The data set to write. An existing file is replaced, at the very end and only if all went well.')
@option('--resolution', required=True, type=int, metavar='R', group='What',
        help='Width and height in pixels: a power of two. Smaller pictures are enlarged, and counted.')
@option('--fit', type=click.Choice(FITS), default='crop', group='How',
        help='How a picture becomes square: its centre, the whole on white, or the whole distorted.')
@option('--resize-filter', type=click.Choice(list(RESIZE_FILTERS)), default='lanczos', group='How',
        help='Changes FID: always prepare the sets that you compare with the same filter. FFHQ at 256 was made with box.')
@option('--max-images', type=click.IntRange(min=1), metavar='N', group='How', help='Stop after N pictures.  [default: all]')
@option('--workers', type=click.IntRange(min=1), metavar='N', group='How',
        help='Processes that decode and resize.  [default: one a core]')
def cli(source: str, dest: str, resolution: int, fit: str, resize_filter: str, max_images: int | None, workers: int | None) -> None:
    """Make a data set for training from a folder or zip of pictures.

    Pictures of every kind (grey, palette, transparent, CMYK, 16 bits, rotated by EXIF) become RGB over white. Those that
    can't be read are skipped, named on stderr and counted.
    """
    conversion = Conversion(resolution, fit, resize_filter)
    check_dest(dest, source)
    pictures = PictureSource(source)
    with progress(list[str](), total=min(max_images or len(pictures), len(pictures)), desc='preparing', unit='pic') as bar:
        report = prepare_dataset(pictures, dest, conversion, max_images=max_images, workers=workers or default_workers(), tick=bar.update)
    for item in report.skipped:
        click.echo(f'skipped {item.name}: {item.kind}: {item.reason}', err=True)
    click.echo(_summary(report, dest, resolution))


def _summary(report: Report, dest: str, resolution: int) -> str:
    parts = [f'written {_count(len(report.files), "picture")} at {resolution}x{resolution} to {dest}', f'{report.num_enlarged} enlarged']
    parts.append(f'skipped {len(report.skipped)}' + (f' ({report.skipped_by_kind})' if report.skipped else ''))
    if report.num_other_files:
        parts.append(f'passed over {_count(report.num_other_files, "file")} that are no pictures')
    return '; '.join(parts)


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see `dnnlib.cli.run` for the exit codes."""
    return run(cli, argv)


if __name__ == '__main__':
    sys.exit(main())
