"""Decode any picture to upright 8-bit sRGB."""

import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageFile, ImageOps

from dnnlib import printable
from dnnlib.image_decoding import TooLarge, open_picture

from .colour import apply_profile, deep_grey_to_8_bits, flatten

# Pillow would also try formats that start other programs (EPS runs Ghostscript), whatever the
# file's suffix says. TGA and PCX have next to no magic number and are therefore tried last. XBMs
# come out of Pillow inverted and are left out.
_FORMATS = (
    'PNG',
    'JPEG',
    'MPO',
    'WEBP',
    'GIF',
    'BMP',
    'TIFF',
    'PPM',
    'AVIF',
    'HEIF',
    'JPEG2000',
    'ICO',
    'CUR',
    'ICNS',
    'PSD',
    'SGI',
    'QOI',
    'DDS',
    'XPM',
    'SUN',
    'MSP',
    'DIB',
    'PCX',
    'TGA',
)
_ALIASES = {'MPO': 'JPEG', 'CUR': 'ICO'}  # cameras call MPOs .jpg
_TURNED = range(5, 9)  # EXIF orientations that exchange width and height
_THUMBNAIL = 96  # pixels


class BadPicture(Exception):
    """A picture that can't be used.

    Args:
        kind: one of a few words that a summary can count: 'not a picture', 'damaged', 'too large',
            'too small', 'not square', 'unsupported', 'without a face', 'wrongly marked'.
        reason: what exactly is wrong, for people.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """A decoded picture.

    Args:
        picture: mode 'RGB', upright; smaller than `size` if it was decoded so.
        size: width and height that it has in full, upright, in pixels.
        format: Pillow's name of the file's format.
        mode: Pillow's name of how the file stores colours.
        notes: what was done to its pixels, in a few words each that a summary can count.
    """

    picture: Image.Image
    size: tuple[int, int]
    format: str
    mode: str
    notes: tuple[str, ...]


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    try:
        import pillow_heif  # optional: pictures of iPhones

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def _formats_by_suffix() -> dict[str, str]:
    known = _known_formats()
    return {
        '.jpe': 'JPEG',
        '.mpo': 'MPO',
        '.heic': 'HEIF',
        '.heif': 'HEIF',
        **{suffix: name for suffix, name in Image.registered_extensions().items() if name in known},
    }


def known_suffixes() -> Collection[str]:
    """Return the suffixes of the formats that can be decoded here, in lower case."""
    return _formats_by_suffix().keys()


def mislabelled(name: str, found: str) -> str | None:
    """Describe the fault of a file whose suffix promises another format; None without one.

    Args:
        name: of the file.
        found: Pillow's name of its format.
    """
    promised = _formats_by_suffix().get(PurePosixPath(name).suffix.lower(), found)
    return (
        None
        if _ALIASES.get(promised, promised) == _ALIASES.get(found, found)
        else f'is a {found}, not what its name says'
    )


def decode_rgb(
    data: bytes, alpha: str = 'white', reduction: Callable[[tuple[int, int]], int] = lambda size: 1
) -> Decoded:
    """Decode a picture, turn it upright by its EXIF orientation, apply its colour profile, and lay
    it over a backdrop.

    Of an animation the first frame is taken. 16-bit grey is scaled to 8 bits.

    Args:
        data: the bytes of a file.
        alpha: see `colour.backdrop`.
        reduction: by how much a picture of some width and height may be smaller; JPEGs are decoded
            at a half, quarter or eighth then.

    Raises:
        BadPicture: the data is no picture, a damaged one, too large, or of a kind that has no
            agreed meaning in 8 bits.
    """
    with warnings.catch_warnings():
        # Pillow grumbles about odd metadata that doesn't touch the pixels
        warnings.simplefilter('ignore')
        picture, size = _load(data, reduction)
        found, mode, notes = picture.format or '', picture.mode, []
        if _is_animated(picture):
            notes.append('first of several frames')
        picture, orientation = _upright(picture)
        if orientation != 1:
            size = size[::-1] if orientation in _TURNED else size
            notes.append('turned upright')
        try:
            if mode == 'F' or mode.startswith('I'):
                grey = deep_grey_to_8_bits(picture, alpha)
                if grey is None:
                    raise BadPicture(
                        'unsupported',
                        'floating-point or 32-bit pixels have no '
                        'agreed range; save it with 8 or 16 bits',
                    )
                return Decoded(grey, size, found, mode, (*notes, '16 bits to 8'))
            picture, note = apply_profile(picture)
            if note is None and mode == 'CMYK':
                note = 'CMYK without a profile'
            picture, transparent = flatten(picture, alpha)
        except BadPicture:
            raise
        # of rare modes, such as HSV, or of a palette that makes no sense
        except Exception as error:
            raise BadPicture('unsupported', f'mode {mode} cannot be made RGB: {error}') from error
    notes += [note] if note else []
    notes += (
        [f'transparency {"dropped" if alpha == "drop" else "over " + alpha}'] if transparent else []
    )
    return Decoded(picture, size, found, mode, tuple(notes))


def thumbnail(data: bytes) -> bytes | None:
    """As much as can be made out of a picture that can't be used, as a small JPEG; None where that
    is nothing.
    """
    previous = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return encode_thumbnail(
            decode_rgb(data, reduction=lambda size: max(1, min(size) // (2 * _THUMBNAIL))).picture
        )
    except BadPicture:
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = previous


def encode_thumbnail(picture: Image.Image) -> bytes:
    """Encode a picture of mode 'RGB' as a small JPEG, at most 96 pixels long."""
    small = picture.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, 'JPEG', quality=80)
    return buffer.getvalue()


def _load(
    data: bytes, reduction: Callable[[tuple[int, int]], int]
) -> tuple[Image.Image, tuple[int, int]]:
    """The picture, and its size in full."""
    if not data:
        raise BadPicture('damaged', 'the file is empty')
    try:
        picture = open_picture(data, _known_formats())
        size = picture.size
        if picture.format == 'JPEG':
            factor = reduction(size)
            picture.draft(None, (size[0] // factor, size[1] // factor))
        picture.load()
        short = (
            picture.format == 'PNG'
            and not ImageFile.LOAD_TRUNCATED_IMAGES
            and _ends_early(data, picture)
        )
    except Image.UnidentifiedImageError as error:
        if data[4:12] in (b'ftypheic', b'ftypheix', b'ftypmif1'):
            raise BadPicture('unsupported', 'is a HEIC; pip install pillow-heif') from error
        raise BadPicture('not a picture', 'its content is in none of the known formats') from error
    except TooLarge as error:
        raise BadPicture('too large', str(error)) from error
    # damaged files make Pillow's readers raise nearly anything: struct.error, KeyError, SyntaxError
    # ...
    except Exception as error:
        raise BadPicture('damaged', printable(error) or type(error).__name__) from error
    if short:
        raise BadPicture('damaged', 'its pixels end early')
    return picture, size


def _ends_early(data: bytes, picture: Image.Image) -> bool:
    """Whether a PNG has fewer rows than it says, which Pillow leaves black without a word."""
    width, height, bits, colour_type, _, _, interlaced = struct.unpack('>IIBBBBB', data[16:29])
    if (
        data[12:16] != b'IHDR'
        or interlaced
        or np.asarray(picture.crop((0, picture.height - 1, *picture.size))).any()
    ):
        return False
    wanted = height * (1 + -(-width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type] // 8))
    stream, place = zlib.decompressobj(), 8
    while wanted > 0 and place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], 'big')
        if data[place + 4 : place + 8] == b'IDAT':
            wanted -= len(stream.decompress(data[place + 8 : place + 8 + length], wanted))
            while wanted > 0 and stream.unconsumed_tail:
                wanted -= len(stream.decompress(stream.unconsumed_tail, wanted))
        place += 12 + length
    return wanted > 0


def _is_animated(picture: Image.Image) -> bool:
    try:
        return bool(getattr(picture, 'is_animated', False))
    except Exception:  # frames behind the first may be damaged
        return False


def _upright(picture: Image.Image) -> tuple[Image.Image, int]:
    """The picture upright, and which orientation it had."""
    try:
        found = picture.getexif().get(0x0112)
        if isinstance(found, int) and 2 <= found <= 8:
            return ImageOps.exif_transpose(picture), found
    except Exception:  # damaged EXIF is no reason to lose a picture whose pixels are sound
        pass
    return picture, 1
