"""What the options of `prepare_data.py` mean together, and what is said at its end."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dnnlib import UserError, escaped

from .image.crop import FITS, Conversion
from .prepare import Report

TRANSFORMS = ('center-crop', 'center-crop-wide')


def make_conversion(
    size: str | None,
    width: int | None,
    height: int | None,
    fit: str | None,
    transform: str | None,
    **others: Any,
) -> Conversion:
    """A conversion from this project's options or NVIDIA's.

    Args:
        size: `--resolution`: '256', or '256x256'.
        width, height: the same in two.
        fit: `--fit`, or None.
        transform: one of `TRANSFORMS`, or None.
        others: see `Conversion`.

    Raises:
        UserError: they contradict each other, or can't be had.
    """
    if size is not None:
        match = re.fullmatch(r'(-?\d{1,9})(?:x(\d{1,9}))?', size.strip())
        if match is None:
            raise UserError(f'--resolution {size}: a number of pixels, such as 256, or 256x256')
        if width is not None or height is not None:
            raise UserError(
                f'--resolution {size} and --width or --height say the same; leave one '
                f'of the two out'
            )
        width, height = int(match[1]), int(match[2] or match[1])
    if width is None or height is None:
        missing = (
            '--resolution'
            if width is height is None
            else '--width'
            if width is None
            else '--height'
        )
        raise UserError(
            f'{missing} is missing: the width and height of the pictures to make, in pixels'
        )
    if transform is not None and fit is not None:
        raise UserError(
            f'--transform {transform} and --fit {fit}: both say how a picture becomes '
            f'square; leave one of the two out'
        )
    if transform == 'center-crop-wide':
        return Conversion(width, wide_height=height, **others)
    if width != height:
        raise UserError(
            f'--width {width}, --height {height}: StyleGAN2 makes squares; with bars '
            f'above and below it is '
            '--transform center-crop-wide'
        )
    return Conversion(width, fit or FITS[0], **others)


def check_face_options(align: str, chosen: Mapping[str, object]) -> None:
    """Refuse options that would do nothing.

    Args:
        align: `--align`.
        chosen: the others, by their names in Python.

    Raises:
        UserError: how to make squares with `--align ffhq`, or an option about faces without.
    """
    if align == 'ffhq':
        names = ['fit', 'transform', 'linear_light', 'min_size']
        reason = ': --align ffhq cuts squares, so there is nothing to fit; leave one of the two out'
    else:
        names, reason = (
            ['landmarks', 'faces', 'align_sheet'],
            ' does nothing without --align ffhq; add that, or leave it out',
        )
    for name in names:
        if chosen[name]:
            value = '' if chosen[name] is True else f' {chosen[name]}'
            raise UserError(f'--{name.replace("_", "-")}{value}{reason}')


def named(report: Report) -> Iterator[str]:
    """A line for each file that was left out or is to be remarked upon."""
    for word, items in (('remark', report.remarks), ('skipped', report.skipped)):
        for item in items:
            yield escaped(f'{word} {item.name}: {item.kind}: {item.reason}')


def summary(report: Report, dest: str, resolution: int) -> str:
    """The last line: what was written, and what wasn't."""
    parts = [
        f'written {_count(len(report.files), "picture")} at {resolution}x{resolution} to {dest}',
        f'{report.num_enlarged} enlarged',
    ]
    parts.append(
        f'skipped {len(report.skipped)}'
        + (f' ({report.skipped_by_kind})' if report.skipped else '')
    )
    changes = [
        f'{count} {note}' for note, count in report.changes.most_common() if note != 'enlarged'
    ]
    if changes:
        parts.append(f'changed: {", ".join(changes)}')
    if report.others:
        number = report.others.total()
        parts.append(
            f'passed over {_count(number, "file")} that '
            f'{"is no picture" if number == 1 else "are no pictures"}'
        )
    if report.sheets:
        parts.append(f'contact sheet: {", ".join(map(str, report.sheets))}')
    return escaped('; '.join(parts))


def table(report: Report) -> str:
    """What a dry run shows: what would be kept, changed, dropped and passed over, and how often."""
    rows = [
        ('kept as they are, but for their size', report.num_unchanged, True),
        ('changed', len(report.files) - report.num_unchanged, True),
        *((note, n, False) for note, n in report.changes.most_common()),
        ('dropped', len(report.skipped), True),
    ]
    kinds = dict.fromkeys(item.kind for item in report.skipped)
    rows += [(kind, sum(item.kind == kind for item in report.skipped), False) for kind in kinds]
    rows.append(('passed over, for they are no pictures', report.others.total(), True))
    rows += [(suffix, number, False) for suffix, number in report.others.most_common()]
    return '\n'.join(f'{number:9} {"" if is_sum else "  "}{name}' for name, number, is_sum in rows)


def face_warning(report: Report, resolution: int) -> str | None:
    """What to say of faces that are too small."""
    if not report.num_enlarged:
        return None
    return (
        f'warning: {report.num_enlarged} of {_count(len(report.files), "face")} had to be '
        f'enlarged to {resolution} px and will '
        'be blurred: leave them out, or take a smaller --resolution'
    )


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'
