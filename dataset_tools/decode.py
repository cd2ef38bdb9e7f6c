"""The bytes of any picture to upright 8-bit RGB over white."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

# Pillow would also try formats that start other programs (EPS runs Ghostscript), whatever the file's suffix says.
# TGA has no magic number and is therefore tried last.
_FORMATS = ('PNG', 'JPEG', 'MPO', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM', 'AVIF', 'TGA')


class BadPicture(Exception):
    """A picture that can't be used.

    Args:
        kind: one of a few words that a summary can count: 'not a picture', 'damaged', 'too large', 'unsupported',
            'without a face', 'wrongly marked'.
        reason: what exactly is wrong, for people.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason


def decode_rgb(data: bytes) -> Image.Image:
    """Decode a picture, turn it upright by its EXIF orientation, and lay it over white.

    Of an animation the first frame is taken. 16-bit grey is scaled to 8 bits; colour profiles are not applied.

    Args:
        data: the bytes of a file.

    Returns:
        A picture of mode 'RGB'.

    Raises:
        BadPicture: the data is no picture, a damaged one, too large, or of a kind that has no agreed meaning in 8 bits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Pillow grumbles about odd metadata that doesn't touch the pixels
        warnings.simplefilter('error', Image.DecompressionBombWarning)
        picture = _upright(_load(data))
        if picture.mode == 'F' or picture.mode.startswith('I'):
            return _from_deep_grey(picture)
        try:
            return _over_white(picture)
        except Exception as error:  # of rare modes, such as LAB, or of a palette that makes no sense
            raise BadPicture('unsupported', f'mode {picture.mode} cannot be made RGB: {error}') from error


def _load(data: bytes) -> Image.Image:
    if not data:
        raise BadPicture('damaged', 'the file is empty')
    Image.init()
    try:
        picture = Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
        picture.load()
    except Image.UnidentifiedImageError as error:
        raise BadPicture('not a picture', 'its content is in none of the known formats') from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPicture('too large', f'more than {(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels') from error
    except Exception as error:  # damaged files make Pillow's readers raise nearly anything: struct.error, KeyError, SyntaxError ...
        raise BadPicture('damaged', str(error) or type(error).__name__) from error
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF is no reason to lose a picture whose pixels are sound
        return picture


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    if picture.mode == 'F':
        raise BadPicture('unsupported', 'floating-point pixels have no agreed range; save it with 8 or 16 bits')
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise BadPicture('unsupported', '32-bit pixels have no agreed range; save it with 8 or 16 bits')
    grey = ((values + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257, rounded to the nearest
    transparent = picture.info.get('transparency')
    if isinstance(transparent, int):  # a PNG may declare one grey as see-through
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert('RGB')


def _over_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert('RGB')
    white = Image.new('RGBA', picture.size, 'white')
    return Image.alpha_composite(white, picture.convert('RGBA')).convert('RGB')
