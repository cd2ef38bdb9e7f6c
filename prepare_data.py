"""Make a data set for training: pictures of any kind from any archive become a zip of square RGB
pictures of one size.
"""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dataset_tools import (
    FITS,
    RESIZE_FILTERS,
    Alignment,
    Policy,
    Report,
    open_sources,
    options,
    prepare_dataset,
    summary,
)
from dataset_tools.encode import FORMATS
from dataset_tools.faces.detect import FACES, Faces, check_detector
from dataset_tools.faces.landmarks import load_landmarks
from dataset_tools.prepare import Refused, check_dest
from dataset_tools.sheet import check_sheet
from dataset_tools.workers import default_workers
from dnnlib import UserError
from dnnlib.cli import command, echo, given_path, given_text, option, progress, run

COUNT = click.IntRange(min=1)


@command(name='prepare_data')
@option(
    '--source',
    'sources',
    required=True,
    multiple=True,
    type=given_text,
    metavar='PATH',
    group='What',
    help='A picture, a folder (with its sub-folders), zip or tar of pictures; archives of '
    'CIFAR-10, CIFAR-100 and MNIST as they are; '
    "an LMDB, such as LSUN's; a video; a data set. Give it several times to merge them.",
)
@option(
    '--dest',
    type=given_text,
    metavar='FILE.zip|DIR',
    group='What',
    help='The data set to write. A zip is replaced, at the very end and only if all went well; '
    'a folder must be new.',
)
@option(
    '--resolution',
    metavar='R',
    group='What',
    help='Width and height in pixels: a power of two. Smaller pictures are enlarged, and counted.',
)
@option(
    '--width',
    type=int,
    metavar='W',
    group='What',
    help='The same in two, for command lines that have it so.',
)
@option('--height', type=int, metavar='H', group='What', help='Likewise.')
@option(
    '--labels',
    metavar='none|folder|json|csv:COLUMN',
    group='What',
    help='What the classes are: the folders of the first level (or of each --source), '
    'dataset.json, or the values of a column, of one '
    'table or of a CSV beside each picture.  [default: those that the source brings '
    'along]',
)
@option(
    '--every',
    type=COUNT,
    metavar='N',
    group='What',
    help='Of a video, every Nth frame.  [default: 1]',
)
@option(
    '--max-images',
    type=COUNT,
    metavar='N',
    group='What',
    help='Stop after N pictures.  [default: all]',
)
@option(
    '--dedupe',
    is_flag=True,
    group='What',
    help='Drop pictures that become exactly the same pixels as an earlier one.',
)
@option(
    '--min-size',
    type=COUNT,
    metavar='PIXELS',
    group='What',
    help='Drop pictures whose shorter side is smaller.  [default: none]',
)
@option(
    '--format',
    'file_format',
    type=click.Choice(FORMATS),
    default='png',
    group='What',
    help="png isn't compressed, and read fastest. jpeg and webp keep the files of pictures "
    'that need no change; others become '
    'JPEGs of quality 95 without subsampling, or lossless WebPs.',
)
@option(
    '--fit',
    type=click.Choice(FITS),
    group='How',
    help='How a picture becomes square: its centre, the whole on the colour of --alpha, the '
    'whole distorted; error refuses '
    'pictures that are not square. Not with --align ffhq, which cuts squares.  [default: '
    'crop]',
)
@option(
    '--transform',
    type=click.Choice(options.TRANSFORMS),
    group='How',
    help="NVIDIA's names: center-crop is --fit crop; center-crop-wide crops to --width x "
    '--height, with black bars above and below.',
)
@option(
    '--resize-filter',
    type=click.Choice(list(RESIZE_FILTERS)),
    default='lanczos',
    group='How',
    help='Changes FID: always prepare the sets that you compare with the same filter. FFHQ at '
    '256 was made with box.',
)
@option(
    '--linear-light',
    is_flag=True,
    group='How',
    help='Resize in linear light (gamma-aware): fine bright patterns keep their brightness. '
    'Other tools do not, so FID changes too.',
)
@option(
    '--alpha',
    default='white',
    metavar='white|black|checker|#rrggbb|drop',
    group='How',
    help='What shows through transparent pixels; drop shows the colours that they hide.',
)
@option(
    '--workers',
    type=COUNT,
    metavar='N',
    group='How',
    help='Processes that decode and resize.  [default: one a core]',
)
@option(
    '--dry-run',
    is_flag=True,
    group='Audit',
    help='Read everything, show what would be kept, changed and dropped, write no data set.',
)
@option(
    '--report',
    type=given_path,
    metavar='DIR',
    group='Audit',
    help='Write report.csv, a line for every file and the reason if it is dropped, and '
    'report.html, which shows them.',
)
@option(
    '--strict',
    is_flag=True,
    group='Audit',
    help='Any picture that is dropped is an error, and nothing is written.',
)
@option(
    '--align',
    type=click.Choice(['none', 'ffhq']),
    default='none',
    group='Faces',
    help='ffhq cuts out faces as FFHQ did: upright, eyes and mouth in the same places, '
    'mirrored and blurred beyond the '
    "picture's edges, scaled to --resolution with --resize-filter. Pictures without a "
    'face are skipped, named and counted. '
    'Faces are found by dlib, which is made for photographs and misfires on drawings.',
)
@option(
    '--landmarks',
    type=given_path,
    metavar='FILE.json',
    group='Faces',
    help='Where the faces are, instead of dlib: {"a/1.jpg": [{"eye_left": [x, y], "eye_right": '
    '[x, y], "mouth_left": [x, y], '
    '"mouth_right": [x, y]}, …], …}: centres of the eyes and corners of the mouth, in '
    'pixels, left and right as you see them.',
)
@option(
    '--faces',
    type=click.Choice(FACES),
    group='Faces',
    help='Of a picture with several: the largest, or all.  [default: one]',
)
@option(
    '--align-sheet',
    type=given_path,
    metavar='FILE.png',
    group='Faces',
    help='Draw a contact sheet of every face that was cut out, under it the name of its '
    'picture. Look at it before you train.',
)
def cli(
    sources: tuple[str, ...],
    dest: str | None,
    max_images: int | None,
    workers: int | None,
    align: str,
    **chosen: Any,
) -> None:
    """Make a data set for training from pictures of every kind.

    Grey, palette, transparent, CMYK, 16 bits, rotated by EXIF, with a colour profile: all become
    8-bit sRGB. Those that can't be read are skipped, named on stderr and counted.
    """
    options.check_face_options(align, chosen)
    conversion = options.make_conversion(
        chosen['resolution'],
        chosen['width'],
        chosen['height'],
        chosen['fit'],
        chosen['transform'],
        alpha=chosen['alpha'],
        resize_filter=chosen['resize_filter'],
        linear_light=chosen['linear_light'],
        min_size=chosen['min_size'] or 0,
    )
    policy = Policy(
        file_format=chosen['file_format'],
        dedupe=chosen['dedupe'],
        strict=chosen['strict'],
        dry_run=chosen['dry_run'],
        report=chosen['report'],
    )
    if dest is None and not policy.dry_run:
        raise UserError(
            '--dest is missing: the zip or folder to write; or look first, with --dry-run'
        )
    if dest is not None:
        check_dest(dest, sources, policy.report)
    pictures = open_sources(sources, chosen['labels'], chosen['every'])
    alignment = _alignment(sources, pictures.picture_names, **chosen) if align == 'ffhq' else None
    total = (
        min(max_images or pictures.total, pictures.total)
        if pictures.total is not None
        else max_images
    )
    try:
        with progress(list[str](), total=total, desc='preparing', unit='pic') as bar:
            report = prepare_dataset(
                pictures,
                dest or '',
                conversion,
                alignment=alignment,
                policy=policy,
                max_images=max_images,
                workers=workers or default_workers(),
                tick=bar.update,
            )
    except Refused as error:
        _name(error.report)
        raise
    _name(report)
    if alignment is not None and (warning := summary.face_warning(report, conversion.resolution)):
        echo(warning, err=True)
    if report.classes:
        echo(report.classes)
    if policy.dry_run:
        echo(summary.table(report))
    else:
        echo(summary.last_line(report, str(dest), conversion.resolution))


def _alignment(
    sources: Sequence[str],
    names: list[str] | None,
    landmarks: Path | None,
    faces: Faces | None,
    align_sheet: Path | None,
    **_: Any,
) -> Alignment:
    if align_sheet is not None:
        for source in sources:
            check_sheet(align_sheet, source)
    if landmarks is None:
        echo(check_detector(), err=True)
    return Alignment(
        faces or FACES[0],
        load_landmarks(landmarks, names) if landmarks is not None else None,
        align_sheet,
    )


def _name(report: Report) -> None:
    for line in summary.named(report):
        echo(line, err=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see `dnnlib.cli.run` for the exit codes."""
    return run(cli, argv, saves_memory='fewer --workers need less')


if __name__ == '__main__':
    sys.exit(main())
