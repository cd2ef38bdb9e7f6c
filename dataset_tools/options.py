"""Check and combine the options of `prepare_data.py`."""

import re
from collections.abc import Mapping
from typing import Any

from dnnlib import UserError

from .image.crop import FITS, Conversion, Fit

TRANSFORMS = ('center-crop', 'center-crop-wide')


def make_conversion(
    size: str | None,
    width: int | None,
    height: int | None,
    fit: Fit | None,
    transform: str | None,
    **others: Any,
) -> Conversion:
    """Make a conversion from this project's options or NVIDIA's.

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
