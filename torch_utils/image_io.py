"""From tensors of pictures to picture files."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin

from dnnlib import UserError, atomic_path

INFO_KEY = 'toonify'  # as in snapshots
LEGIBLE = 96  # pixels of a picture in a figure, at least
DEFAULT_QUALITY = {'.jpg': 95, '.jpeg': 95, '.webp': 90}


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """float `[N, C, H, W]` in −1…1 to uint8 0…255, as NVIDIA rounds: ·127.5 + 128, clamped,
    truncated.
    """
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """One picture out of many, row by row; missing ones at the end are black.

    Args:
        images: uint8 `[N, C, H, W]`.

    Returns:
        uint8 `[rows * H, columns * W, C]`.
    """
    n, c, h, w = images.shape
    rows = -(-n // columns)
    full = np.zeros([rows * columns, c, h, w], dtype=np.uint8)
    full[:n] = images
    return (
        full.reshape(rows, columns, c, h, w)
        .transpose(0, 3, 1, 4, 2)
        .reshape(rows * h, columns * w, c)
    )


def enlarge(images: np.ndarray, at_least: int = LEGIBLE) -> np.ndarray:
    """Repeat pixels by the smallest whole number that makes pictures legible.

    Args:
        images: uint8 `[N, C, H, W]`.
        at_least: height in pixels of the result.
    """
    factor = -(-at_least // images.shape[2])
    return images if factor <= 1 else images.repeat(factor, axis=2).repeat(factor, axis=3)


def labelled_table(
    rows: Mapping[str, np.ndarray], columns: Sequence[str], caption: Sequence[str] = ()
) -> np.ndarray:
    """A table of pictures, on white: a label before each row, a heading over each column, lines of
    text below.

    Args:
        rows: label to the row's pictures, uint8 `[len(columns), C, H, W]`, C of 1 or 3; all of one
            size. Small ones are enlarged.
        columns: the headings.

    Returns:
        uint8 `[height, width, 3]`.
    """
    rows = {label: enlarge(images) for label, images in rows.items()}
    height, width = next(iter(rows.values())).shape[2:]
    size = max(14, height // 16)
    font = ImageFont.load_default(size)
    line, gap = size * 3 // 2, size
    top = line + gap // 2  # of the first row
    left, right = (
        max((int(font.getlength(text)) + 1 for text in texts), default=0) + 2 * gap
        for texts in (rows, caption)
    )
    across = max([width, *(int(font.getlength(text)) + 1 for text in columns)]) + gap
    down = max(height, line) + gap
    end = top + len(rows) * down
    sheet = Image.new(
        'RGB', (max(left + len(columns) * across, right), end + len(caption) * line), 'white'
    )
    draw = ImageDraw.Draw(sheet)
    for x, text in enumerate(columns):
        draw.text(
            (left + x * across + (across - gap) // 2, line // 2),
            text,
            fill='black',
            font=font,
            anchor='mm',
        )
    for y, (text, images) in enumerate(rows.items()):
        draw.text(
            (gap, top + y * down + (down - gap) // 2), text, fill='black', font=font, anchor='lm'
        )
        for x, image in enumerate(images):
            corner = (
                left + x * across + (across - gap - width) // 2,
                top + y * down + (down - gap - height) // 2,
            )
            sheet.paste(_picture(image.transpose(1, 2, 0)), corner)
    for y, text in enumerate(caption):
        draw.text((gap, end + y * line + line // 2), text, fill='black', font=font, anchor='lm')
    return np.asarray(sheet)


def require_picture_suffix(path: str | os.PathLike[str]) -> None:
    """Refuse a name that says no picture format, before the picture is made.

    Raises:
        UserError: Pillow writes no format of this suffix.
    """
    Image.init()
    if Image.EXTENSION.get(Path(path).suffix.lower()) not in Image.SAVE:
        raise UserError(f'{path}: no picture format has this suffix; try .png')


def save_picture(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    info: Mapping[str, Any] | None = None,
    quality: int | None = None,
) -> None:
    """Save a picture in the format of its suffix.

    Args:
        pixels: uint8 `[H, W, C]`, C of 1 or 3.
        info: facts to keep in the file, as JSON: in a PNG under the keyword `INFO_KEY`, elsewhere
            as EXIF's ImageDescription.
        quality: 1…100 of JPEG and WebP; None for `DEFAULT_QUALITY`. JPEG keeps the full resolution
            of colours.

    Raises:
        UserError: the file can't be written, or Pillow writes no format of this suffix.
    """
    require_picture_suffix(path)
    suffix = Path(path).suffix.lower()
    options: dict[str, Any] = {}
    if suffix in DEFAULT_QUALITY:
        options = {
            'quality': DEFAULT_QUALITY[suffix] if quality is None else quality,
            'subsampling': '4:4:4',
        }
    if info is not None and suffix == '.png':
        options['pnginfo'] = PngImagePlugin.PngInfo()
        options['pnginfo'].add_text(INFO_KEY, json.dumps(info))
    elif info is not None:
        options['exif'] = Image.Exif()
        options['exif'][ExifTags.Base.ImageDescription] = json.dumps(info)
    with atomic_path(path) as temp:
        try:
            _picture(pixels).save(temp, **options)
        except ValueError as error:  # too large for the format, for one
            raise UserError(f'cannot write {path}: {error}') from error


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
