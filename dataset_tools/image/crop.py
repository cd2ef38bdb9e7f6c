"""Convert one picture of any shape and kind to a square RGB array of the data set's size."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from dnnlib import UserError

from .colour import backdrop, check_backdrop
from .decode import BadPicture, decode_rgb
from .resize import RESIZE_FILTERS, ResizeFilter, resize, resize_light

Fit = Literal['crop', 'pad', 'stretch', 'error']
FITS: tuple[Fit, ...] = get_args(Fit)
_MAX_RESOLUTION = 8192
# that a JPEG keeps when it is decoded smaller; five photographs differ by 50 dB and more then, by
# 43 dB with 2
_OVERSAMPLING = 3


@dataclass(frozen=True)
class Conversion:
    """How every picture of a data set is converted: size, fit, filter.

    Args:
        resolution: width and height of the result in pixels: a power of two from 4 to 8192.
        fit: 'crop' takes the centred square, 'pad' centres the whole picture on a square of the
            backdrop's colour, 'stretch' distorts it, 'error' refuses pictures that aren't square.
        resize_filter: a key of `RESIZE_FILTERS`. Every one of them averages when it makes a picture
            smaller.
        alpha: see `colour.backdrop`.
        linear_light: average light instead of the numbers that stand for it, which keeps fine light
            patterns from darkening.
        wide_height: crop the middle part of the shape `resolution`:`wide_height` instead, and put
            black bars above and below it.
        min_size: refuse pictures whose shorter side has fewer pixels.

    Raises:
        UserError: a value that isn't allowed.
    """

    resolution: int
    fit: Fit = 'crop'
    resize_filter: ResizeFilter = 'lanczos'
    alpha: str = 'white'
    linear_light: bool = False
    wide_height: int | None = None
    min_size: int = 0

    def __post_init__(self) -> None:
        r = self.resolution
        if not 4 <= r <= _MAX_RESOLUTION or r & (r - 1):
            raise UserError(
                f'--resolution {r}: StyleGAN2 needs a power of two from 4 to '
                f'{_MAX_RESOLUTION}, such as 128, 256 or 512'
            )
        if self.fit not in FITS:
            raise UserError(f'--fit {self.fit}: choose from {", ".join(FITS)}')
        if self.resize_filter not in RESIZE_FILTERS:
            raise UserError(
                f'--resize-filter {self.resize_filter}: choose from {", ".join(RESIZE_FILTERS)}'
            )
        if self.wide_height is not None and not 1 <= self.wide_height <= r:
            raise UserError(f'--height {self.wide_height}: of a wide crop, at most its width, {r}')
        check_backdrop(self.alpha)


@dataclass(frozen=True)
class SquarePicture:
    """A converted picture.

    Args:
        pixels: uint8 `[resolution, resolution, 3]`, RGB, 0…255.
        enlarged: whether it had to be made larger along some axis.
        notes: what was done to it besides making it smaller; see `Decoded`.
        size: width and height of the picture that it comes from.
        format: Pillow's name of that one's format.
        untouched: whether the file holds these very pixels, as RGB.
    """

    pixels: np.ndarray
    enlarged: bool
    notes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    format: str = ''
    untouched: bool = False


def convert_picture(data: bytes, conversion: Conversion) -> SquarePicture:
    """Decode a picture, fit it into a square, and resize it.

    A JPEG that has to shrink to a sixth or less is decoded at a half, quarter or eighth, still
    three times as large as needed or more.

    Args:
        data: the bytes of a picture file.
        conversion: the size, the fit and the filter.

    Raises:
        BadPicture: the picture can't be used; it says why.
    """
    decoded = decode_rgb(data, conversion.alpha, lambda size: _reduction(size, conversion))
    size, resolution = decoded.size, conversion.resolution
    if min(size) < conversion.min_size:
        raise BadPicture(
            'too small', f'{size[0]}x{size[1]} pixels; --min-size is {conversion.min_size}'
        )
    box, target, note = _plan(size, conversion)
    picture = _resize(decoded.picture, size, box, target, conversion)
    if target != (resolution, resolution):
        square = backdrop(
            (resolution, resolution), 'black' if conversion.wide_height else conversion.alpha
        )
        square.paste(picture, ((resolution - target[0]) // 2, (resolution - target[1]) // 2))
        picture = square
    enlarged = target[0] > box[2] - box[0] or target[1] > box[3] - box[1]
    notes = decoded.notes + ((note,) if note else ()) + (('enlarged',) if enlarged else ())
    untouched = not notes and size == (resolution, resolution) and decoded.mode == 'RGB'
    return SquarePicture(np.asarray(picture), enlarged, notes, size, decoded.format, untouched)


def _plan(
    size: tuple[int, int], conversion: Conversion
) -> tuple[tuple[int, int, int, int], tuple[int, int], str]:
    """The part of a picture that is taken, left, top, right, bottom; the size that it gets; and
    what to call that.
    """
    width, height = size
    resolution = conversion.resolution
    if conversion.wide_height is not None:
        scale = min(width / resolution, height / conversion.wide_height)
        part = max(1, round(resolution * scale)), max(1, round(conversion.wide_height * scale))
        return (
            _centred(size, part),
            (resolution, conversion.wide_height),
            '' if part == size else 'cropped',
        )
    if width == height:
        return (0, 0, *size), (resolution, resolution), ''
    if conversion.fit == 'error':
        raise BadPicture(
            'not square', f'{width}x{height} pixels; choose --fit crop, pad or stretch'
        )
    if conversion.fit == 'crop':
        side = min(size)
        return _centred(size, (side, side)), (resolution, resolution), 'cropped'
    if conversion.fit == 'pad':
        scale = resolution / max(size)
        return (
            (0, 0, *size),
            (max(1, round(width * scale)), max(1, round(height * scale))),
            'padded',
        )
    return (0, 0, *size), (resolution, resolution), 'stretched'


def _centred(size: tuple[int, int], part: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top = (size[0] - part[0]) // 2, (size[1] - part[1]) // 2
    return left, top, left + part[0], top + part[1]


def _reduction(size: tuple[int, int], conversion: Conversion) -> int:
    """1, 2, 4 or 8: how much smaller a picture may be decoded, upright or not."""
    if conversion.linear_light:
        return 1
    spare = (
        max(size) if conversion.fit == 'pad' and conversion.wide_height is None else min(size)
    ) // conversion.resolution
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or spare >= _OVERSAMPLING * factor)


def _resize(
    picture: Image.Image,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    target: tuple[int, int],
    conversion: Conversion,
) -> Image.Image:
    """Cut a part out and resize it.

    Args:
        picture: maybe smaller than its `size` in full.
        box: the part, in pixels of the full size.
    """
    factor = round(size[0] / picture.width) if picture.width < size[0] else 1
    left, top, right, bottom = (edge / factor for edge in box)
    cut = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    if cut != (0, 0, *picture.size):
        picture = picture.crop(cut)  # first, so that the filter looks at nothing beyond it
    rest = left - cut[0], top - cut[1], right - cut[0], bottom - cut[1]
    return (resize_light if conversion.linear_light else resize)(
        picture, target, conversion.resize_filter, rest
    )
