"""From tensors of pictures to picture files."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, PngImagePlugin

from dnnlib import UserError, atomic_path

INFO_KEY = 'toonify'  # as in snapshots
DEFAULT_QUALITY = {'.jpg': 95, '.jpeg': 95, '.webp': 90}


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """float `[N, C, H, W]` in −1…1 to uint8 0…255, as NVIDIA rounds: ·127.5 + 128, clamped, truncated."""
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
    return full.reshape(rows, columns, c, h, w).transpose(0, 3, 1, 4, 2).reshape(rows * h, columns * w, c)


def save_picture(path: str | os.PathLike[str], pixels: np.ndarray, info: Mapping[str, Any] | None = None,
                 quality: int | None = None) -> None:
    """Save a picture in the format of its suffix.

    Args:
        pixels: uint8 `[H, W, C]`, C of 1 or 3.
        info: facts to keep in the file, as JSON: in a PNG under the keyword `INFO_KEY`, elsewhere as EXIF's ImageDescription.
        quality: 1…100 of JPEG and WebP; None for `DEFAULT_QUALITY`. JPEG keeps the full resolution of colours.

    Raises:
        UserError: the file can't be written, or Pillow knows no such suffix.
    """
    suffix = Path(path).suffix.lower()
    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise UserError(f'{path}: no picture format has this suffix; try .png')
    options: dict[str, Any] = {}
    if suffix in DEFAULT_QUALITY:
        options = {'quality': DEFAULT_QUALITY[suffix] if quality is None else quality, 'subsampling': '4:4:4'}
    if info is not None and suffix == '.png':
        options['pnginfo'] = PngImagePlugin.PngInfo()
        options['pnginfo'].add_text(INFO_KEY, json.dumps(info))
    elif info is not None:
        options['exif'] = Image.Exif()
        options['exif'][ExifTags.Base.ImageDescription] = json.dumps(info)
    with atomic_path(path) as temp:
        try:
            Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(temp, **options)
        except ValueError as error:  # too large for the format, for one
            raise UserError(f'cannot write {path}: {error}') from error
