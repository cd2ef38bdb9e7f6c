"""Decode pictures that anybody may have made, with bounds on what that costs.

What is decoded stays as it is stored; colours are the business of `dataset_tools.image`.
"""

import io
import struct
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from .util import UserError, printable

# Not every decoder that Pillow has: EPS, for one, starts another program.
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM', 'TGA', 'AVIF')

# of a picture; Pillow's limit, a billion bits of RGB and more
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 1 << 26

# of a JPEG of the largest size; a smaller one may have more. Progressive ones have ten
_MAX_SCANS = 24
_SLOW_PIXELS = 1 << 22  # that Pillow decodes in Python, half a million a second
_JPEG2000_PIXELS = 1 << 24  # of which OpenJPEG decodes a million a second
_PNG = b'\x89PNG\r\n\x1a\n'


def header_shape(data: bytes) -> tuple[int, int, int] | None:
    """Read channels, height and width from a picture's first bytes; None where they don't say, or
    where decoding gives others.

    Args:
        data: the first bytes of a file, or all.
    """
    if data[:8] == _PNG and len(data) > 33:
        channels = {(8, 0): 1, (8, 2): 3}.get((data[24], data[25]))
        width, height = struct.unpack('>II', data[16:24])
        return (channels, height, width) if channels is not None else None
    if data[:4] == b'RIFF' and data[8:16] == b'WEBPVP8 ' and data[23:26] == b'\x9d\x01\x2a':
        width, height = struct.unpack('<HH', data[26:30])
        return 3, height & 0x3FFF, width & 0x3FFF
    if data[:4] == b'RIFF' and data[8:16] == b'WEBPVP8L' and len(data) >= 25:
        (bits,) = struct.unpack('<I', data[21:25])
        return (3, (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1) if not bits >> 28 & 1 else None
    if data[:2] != b'\xff\xd8':
        return None
    try:
        with Image.open(io.BytesIO(data), formats=['JPEG']) as picture:
            return (
                (len(picture.getbands()), picture.height, picture.width)
                if picture.mode in ('L', 'RGB')
                else None
            )
    except Exception:  # cut short before the size is said, or damaged
        return None


def open_picture(data: bytes, formats: Sequence[str], max_pixels: int | None = None) -> Image.Image:
    """Open a picture that anybody may have made with Pillow: only named formats, and nothing
    that takes long to decode.

    Args:
        data: the bytes of a file.
        formats: Pillow's names of those to try.
        max_pixels: width times height allowed; None for `MAX_PIXELS`.

    Returns:
        A picture whose pixels are not decoded yet.

    Raises:
        TooLarge: it has too many pixels, or would take too long.
        Exception: of nearly any kind, where the data are damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about metadata, and about a size that is looked at here
        try:
            picture = Image.open(io.BytesIO(data), formats=list(formats))
        except Image.DecompressionBombError as error:
            raise TooLarge(
                f'more than {(max_pixels or MAX_PIXELS) / 1e6:.0f} megapixels'
            ) from error
    check_pixels(*picture.size, max_pixels)
    pixels = picture.width * picture.height
    in_python = any(tile[0] in Image.DECODERS for tile in picture.tile)
    limit = _JPEG2000_PIXELS if picture.format == 'JPEG2000' else None
    limit = _SLOW_PIXELS if in_python else limit
    if limit is not None and pixels > limit:
        raise TooLarge(
            f'{pixels / 1e6:.0f} megapixels of this kind of {picture.format} would take '
            f'minutes to decode; save it as PNG'
        )
    if (
        data[:2] == b'\xff\xd8'
        and (scans := data.count(b'\xff\xda')) * pixels > _MAX_SCANS * MAX_PIXELS
    ):
        raise TooLarge(f'a JPEG of {scans} scans would take minutes to decode')
    return picture


class TooLarge(ValueError):
    """A picture has more pixels than allowed, or would take too long to decode."""


def check_pixels(width: int, height: int, max_pixels: int | None = None) -> None:
    """Check a picture's size before memory is allocated.

    Raises:
        TooLarge: more than `max_pixels`; None for `MAX_PIXELS`.
    """
    max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
    if width * height > max_pixels:
        raise TooLarge(f'{width}x{height} pixels, more than {max_pixels / 1e6:.3g} megapixels')


def decode_picture(
    data: bytes,
    name: str = 'picture',
    *,
    in_threads: bool = False,
    max_pixels: int | None = None,
) -> np.ndarray:
    """Decode a picture as it is stored, without any change of colours.

    Args:
        data: the bytes of a file.
        name: what to call it in an error.
        in_threads: several threads of this process decode at the same time. Then imagecodecs does
            what takes long, or else Pillow, at half the speed, for pyspng keeps the others waiting.
        max_pixels: width times height allowed; None for `MAX_PIXELS`.

    Returns:
        uint8 `[H, W, C]`, 0…255; C is 1, 2, 3 or 4. Palettes are expanded.

    Raises:
        UserError: the data is no picture, a damaged one, or too large.
    """
    try:
        if data[:8] == _PNG:
            pixels = _decode_png(data, in_threads=in_threads, max_pixels=max_pixels)
            if pixels is not None:
                return pixels
        Image.init()
        with open_picture(
            data, [name for name in _FORMATS if name in Image.OPEN], max_pixels
        ) as picture:
            if picture.mode not in ('L', 'LA', 'RGB', 'RGBA'):
                picture = picture.convert('RGBA' if picture.has_transparency_data else 'RGB')
            pixels = np.asarray(picture)
    except TooLarge as error:
        raise UserError(f'{name}: too large: {error}') from error
    except Exception as error:  # damaged files make Pillow's readers raise nearly anything
        reason = (
            'its content is in none of the known formats'
            if isinstance(error, UnidentifiedImageError)
            else printable(error)
        )
        raise UserError(
            f'{name}: not a readable picture ({reason or type(error).__name__})'
        ) from error
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _decode_png(data: bytes, *, in_threads: bool, max_pixels: int | None) -> np.ndarray | None:
    """8-bit grey, RGB and RGBA through libspng, two to four times as fast as Pillow; None for what
    Pillow should do.
    """
    bit_depth, channels = data[24:25], {b'\x00': 1, b'\x02': 3, b'\x06': 4}.get(data[25:26])
    if bit_depth != b'\x08' or channels is None:
        return None
    width, height = int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
    check_pixels(width, height, max_pixels)
    is_compressed = len(data) < channels * width * height
    try:
        if in_threads and is_compressed:
            import imagecodecs

            pixels = np.asarray(imagecodecs.spng_decode(data))
        else:
            import pyspng

            pixels = np.asarray(pyspng.load(data))
    except ImportError:  # no wheel for this platform
        return None
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
    return pixels if pixels.shape[2] == channels else None
