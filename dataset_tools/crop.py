"""One picture, whatever its shape and kind, to a square RGB array of the data set's size."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dnnlib import UserError

from .decode import decode_rgb

FITS = ('crop', 'pad', 'stretch')
RESIZE_FILTERS = {
    'lanczos': Image.Resampling.LANCZOS,
    'box': Image.Resampling.BOX,
    'bicubic': Image.Resampling.BICUBIC,
}
_MAX_RESOLUTION = 8192


@dataclass(frozen=True)
class Conversion:
    """What is done to every picture of a data set.

    Args:
        resolution: width and height of the result in pixels: a power of two from 4 to 8192.
        fit: 'crop' takes the centred square, 'pad' centres the whole picture on a white square, 'stretch' distorts it.
        resize_filter: a key of `RESIZE_FILTERS`. Every one of them averages when it makes a picture smaller.

    Raises:
        UserError: a value that isn't allowed.
    """

    resolution: int
    fit: str = 'crop'
    resize_filter: str = 'lanczos'

    def __post_init__(self) -> None:
        r = self.resolution
        if not 4 <= r <= _MAX_RESOLUTION or r & (r - 1):
            raise UserError(f'--resolution {r}: StyleGAN2 needs a power of two from 4 to {_MAX_RESOLUTION}, such as 128, 256 or 512')
        if self.fit not in FITS:
            raise UserError(f'--fit {self.fit}: choose from {", ".join(FITS)}')
        if self.resize_filter not in RESIZE_FILTERS:
            raise UserError(f'--resize-filter {self.resize_filter}: choose from {", ".join(RESIZE_FILTERS)}')


@dataclass(frozen=True)
class SquarePicture:
    """A converted picture.

    Args:
        pixels: uint8 `[resolution, resolution, 3]`, RGB, 0…255.
        enlarged: whether it had to be made larger along some axis.
    """

    pixels: np.ndarray
    enlarged: bool


def convert_picture(data: bytes, conversion: Conversion) -> SquarePicture:
    """Decode a picture, fit it into a square, and resize it.

    Args:
        data: the bytes of a picture file.
        conversion: the size, the fit and the filter.

    Raises:
        BadPicture: the picture can't be used; it says why.
    """
    picture = decode_rgb(data)
    resolution = conversion.resolution
    if conversion.fit == 'crop':
        picture = _centre_crop(picture)
    size = _fit_inside(picture.size, resolution) if conversion.fit == 'pad' else (resolution, resolution)
    enlarged = size[0] > picture.width or size[1] > picture.height
    picture = picture.resize(size, RESIZE_FILTERS[conversion.resize_filter])
    if picture.size != (resolution, resolution):
        picture = _centre_on_white(picture, resolution)
    return SquarePicture(np.asarray(picture), enlarged)


def _centre_crop(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _fit_inside(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    scale = resolution / max(size)
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _centre_on_white(picture: Image.Image, resolution: int) -> Image.Image:
    square = Image.new('RGB', (resolution, resolution), 'white')
    square.paste(picture, ((resolution - picture.width) // 2, (resolution - picture.height) // 2))
    return square
