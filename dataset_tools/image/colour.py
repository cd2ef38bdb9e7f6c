"""Convert colours to 8-bit sRGB: colour profiles, deep grey, and what lies behind transparent
pixels.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms, ImageColor

from dnnlib import UserError

BACKDROPS = ('white', 'black', 'checker', 'drop')
_SAME = 2  # of 255: a profile that changes no colour more than that is sRGB's own
_SPACES = {'RGB': 'RGB', 'GRAY': 'L', 'CMYK': 'CMYK', 'LAB': 'LAB'}
# LittleCMS's flag that maps black to black, for which older Pillows have another name
_BLACK_POINT = 0x2000
_MAX_PROFILE = 16 << 20  # bytes


def check_backdrop(alpha: str) -> None:
    """Refuse an `--alpha` that means nothing.

    Raises:
        UserError: it does.
    """
    if alpha in BACKDROPS:
        return
    try:
        if alpha.startswith('#') and len(ImageColor.getrgb(alpha)) == 3:
            return
    except ValueError:
        pass
    raise UserError(f'--alpha {alpha}: choose from {", ".join(BACKDROPS)}, #rrggbb')


def backdrop(size: tuple[int, int], alpha: str) -> Image.Image:
    """Make the background of transparent and of padded pictures.

    Args:
        size: width and height in pixels.
        alpha: 'white', 'black', '#rrggbb', 'checker' for two greys in squares of a sixteenth of the
            shorter side, or 'drop', which is white too.
    """
    if alpha != 'checker':
        return Image.new('RGB', size, 'white' if alpha == 'drop' else alpha)
    side = max(1, min(size) // 16)
    rows, columns = (np.arange(length) // side for length in size[::-1])
    grey = np.where(np.add.outer(rows, columns) % 2, np.uint8(204), np.uint8(255))
    return Image.fromarray(grey).convert('RGB')


def flatten(picture: Image.Image, alpha: str) -> tuple[Image.Image, bool]:
    """Lay a picture over its backdrop.

    Args:
        picture: of any 8-bit mode.
        alpha: see `backdrop`; 'drop' shows the colours that transparent pixels have.

    Returns:
        Mode 'RGB', and whether any pixel was transparent.
    """
    if not picture.has_transparency_data:
        return picture if picture.mode == 'RGB' else picture.convert('RGB'), False
    picture = picture.convert('RGBA')
    lowest, _ = picture.getchannel('A').getextrema()
    if alpha == 'drop' or lowest == 255:
        return picture.convert('RGB'), lowest != 255
    return Image.alpha_composite(backdrop(picture.size, alpha).convert('RGBA'), picture).convert(
        'RGB'
    ), True


def deep_grey_to_8_bits(picture: Image.Image, alpha: str) -> Image.Image | None:
    """Grey of 16 bits, in whichever of Pillow's modes, to RGB; None for values that have no agreed
    range.
    """
    values = np.asarray(picture).astype(np.int64)
    if picture.mode == 'F' or values.min() < 0 or values.max() > 0xFFFF:
        return None
    # 65535 / 255 = 257, rounded to the nearest
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    transparent = picture.info.get('transparency')
    # a PNG may declare one grey as see-through
    if isinstance(transparent, int) and alpha != 'drop':
        picture = grey.convert('RGB')
        picture.paste(backdrop(picture.size, alpha), mask=Image.fromarray(values == transparent))
        return picture
    return grey.convert('RGB')


def apply_profile(picture: Image.Image) -> tuple[Image.Image, str | None]:
    """Convert a picture's colours to sRGB by its own profile, with the relative colorimetric
    intent.

    Args:
        picture: of any 8-bit mode; modes without a profile stay as they are, but for LAB.

    Returns:
        The picture, and what was done: None, 'colour profile applied' or 'colour profile ignored',
        which is one that is damaged or meant for another kind of picture.
    """
    profile = picture.info.get('icc_profile') or b''
    if not profile and picture.mode != 'LAB':
        return picture, None
    if picture.mode in ('P', 'PA', '1'):
        info = picture.info
        picture = picture.convert(
            'RGBA' if picture.has_transparency_data else 'L' if picture.mode == '1' else 'RGB'
        )
        picture.info['icc_profile'] = info.get('icc_profile')
    elif picture.mode == 'RGB' and 'transparency' in picture.info:
        picture = picture.convert('RGBA')
    elif picture.mode == 'L' and 'transparency' in picture.info:
        picture = picture.convert('LA')
    alpha = picture.getchannel('A') if picture.mode in ('RGBA', 'LA') else None
    mode = {'RGBA': 'RGB', 'LA': 'L'}.get(picture.mode, picture.mode)
    try:
        transform, same = _transform(profile if len(profile) <= _MAX_PROFILE else b'', mode)
        if same:
            return picture, None
        result = transform.apply(picture.convert(mode) if alpha else picture)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return picture, 'colour profile ignored'
    if alpha is not None:
        result.putalpha(alpha)
    result.info.pop('icc_profile', None)
    return result, 'colour profile applied'


@functools.lru_cache(maxsize=16)  # the pictures of a camera share theirs
def _transform(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform, bool]:
    """Build the transform from a profile to sRGB; and say whether it changes nothing."""
    source = ImageCms.ImageCmsProfile(
        io.BytesIO(profile) if profile else ImageCms.createProfile('LAB')
    )
    space = source.profile.xcolor_space.strip().upper()
    if _SPACES[space] != mode:
        raise ValueError
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile('sRGB'),
        mode,
        'RGB',
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        _BLACK_POINT,  # type: ignore[arg-type]
    )
    if mode not in ('RGB', 'L'):
        return transform, False
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = (
        np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        if mode == 'RGB'
        else steps[np.newaxis]
    )
    before = Image.fromarray(grid)
    change = np.abs(
        np.asarray(transform.apply(before)).astype(int) - np.asarray(before.convert('RGB'))
    )
    return transform, bool(change.max() <= _SAME)
