"""Make a data set for training: a folder or zip of any pictures becomes a zip of square RGB PNGs of one size."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from dataset_tools import FITS, RESIZE_FILTERS, Alignment, Conversion, PictureSource, Report, prepare_dataset
from dataset_tools.faces import FACES, check_detector
from dataset_tools.landmarks import load_landmarks
from dataset_tools.prepare import check_dest
from dataset_tools.sheet import check_sheet
from dataset_tools.workers import default_workers
from dnnlib import UserError
from dnnlib.cli import command, given_path, option, progress, run


@command(name='prepare_data')
@option('--source', required=True, metavar='DIR|ZIP', group='What',
        help='A folder or zip of pictures, sub-folders included. Files that are no pictures are passed over; labels in its '
             'dataset.json are carried over.')
@option('--dest', required=True, metavar='FILE.zip', group='What',
        help='The data set to write. An existing file is replaced, at the very end and only if all went well.')
@option('--resolution', required=True, type=int, metavar='R', group='What',
        help='Width and height in pixels: a power of two. Smaller pictures are enlarged, and counted.')
@option('--fit', type=click.Choice(FITS), group='How',
        help='How a picture becomes square: its centre, the whole on white, or the whole distorted. Not with --align ffhq, which '
             'cuts squares.  [default: crop]')
@option('--resize-filter', type=click.Choice(list(RESIZE_FILTERS)), default='lanczos', group='How',
        help='Changes FID: always prepare the sets that you compare with the same filter. FFHQ at 256 was made with box.')
@option('--max-images', type=click.IntRange(min=1), metavar='N', group='How', help='Stop after N pictures.  [default: all]')
@option('--workers', type=click.IntRange(min=1), metavar='N', group='How',
        help='Processes that decode and resize.  [default: one a core]')
@option('--align', type=click.Choice(['none', 'ffhq']), default='none', group='Faces',
        help='ffhq cuts out faces as FFHQ did: upright, eyes and mouth in the same places, mirrored and blurred beyond the '
             "picture's edges, scaled to --resolution with --resize-filter. Pictures without a face are skipped, named and counted. "
             'Faces are found by dlib, which is made for photographs and misfires on drawings.')
@option('--landmarks', type=given_path, metavar='FILE.json', group='Faces',
        help='Where the faces are, instead of dlib: {"a/1.jpg": [{"eye_left": [x, y], "eye_right": [x, y], "mouth_left": [x, y], '
             '"mouth_right": [x, y]}, …], …}: centres of the eyes and corners of the mouth, in pixels, left and right as you see them.')
@option('--faces', type=click.Choice(FACES), group='Faces', help='Of a picture with several: the largest, or all.  [default: one]')
@option('--align-sheet', type=given_path, metavar='FILE.png', group='Faces',
        help='Draw a contact sheet of every face that was cut out, under it the name of its picture. Look at it before you train.')
def cli(source: str, dest: str, resolution: int, fit: str | None, resize_filter: str, max_images: int | None, workers: int | None,
        align: str, landmarks: Path | None, faces: str | None, align_sheet: Path | None) -> None:
    """Make a data set for training from a folder or zip of pictures.

    Pictures of every kind (grey, palette, transparent, CMYK, 16 bits, rotated by EXIF) become RGB over white. Those that
    can't be read are skipped, named on stderr and counted.
    """
    check_face_options(align, fit, {'--landmarks': landmarks, '--faces': faces, '--align-sheet': align_sheet})
    conversion = Conversion(resolution, fit or FITS[0], resize_filter)
    check_dest(dest, source)
    pictures = PictureSource(source)
    if align_sheet is not None:
        check_sheet(align_sheet, source)
    alignment = None
    if align == 'ffhq':
        if landmarks is None:
            click.echo(check_detector(), err=True)
        marked = load_landmarks(landmarks, pictures.picture_names) if landmarks is not None else None
        alignment = Alignment(faces or FACES[0], marked, align_sheet)
    with progress(list[str](), total=min(max_images or len(pictures), len(pictures)), desc='preparing', unit='pic') as bar:
        report = prepare_dataset(pictures, dest, conversion, alignment=alignment, max_images=max_images,
                                 workers=workers or default_workers(), tick=bar.update)
    for item in report.skipped:
        click.echo(f'skipped {item.name}: {item.kind}: {item.reason}', err=True)
    if alignment is not None and report.num_enlarged:
        click.echo(f'warning: {report.num_enlarged} of {_count(len(report.files), "face")} had to be enlarged to {resolution} px and will '
                   'be blurred: leave them out, or take a smaller --resolution', err=True)
    click.echo(_summary(report, dest, resolution))


def check_face_options(align: str, fit: str | None, others: Mapping[str, object]) -> None:
    """Refuse options that would do nothing.

    Raises:
        UserError: `--fit` with `--align ffhq`, or one of the others without.
    """
    if align == 'ffhq':
        if fit is not None:
            raise UserError(f'--fit {fit}: --align ffhq cuts squares, so there is nothing to fit; leave one of the two out')
        return
    for name, value in others.items():
        if value is not None:
            raise UserError(f'{name} {value} does nothing without --align ffhq; add that, or leave it out')


def _summary(report: Report, dest: str, resolution: int) -> str:
    parts = [f'written {_count(len(report.files), "picture")} at {resolution}x{resolution} to {dest}', f'{report.num_enlarged} enlarged']
    parts.append(f'skipped {len(report.skipped)}' + (f' ({report.skipped_by_kind})' if report.skipped else ''))
    if report.num_other_files:
        parts.append(f'passed over {_count(report.num_other_files, "file")} that are no pictures')
    if report.sheets:
        parts.append(f'contact sheet: {", ".join(map(str, report.sheets))}')
    return '; '.join(parts)


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see `dnnlib.cli.run` for the exit codes."""
    return run(cli, argv)


if __name__ == '__main__':
    sys.exit(main())
