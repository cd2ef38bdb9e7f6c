"""From tensors of pictures to picture files."""

import os

import numpy as np
import torch
from PIL import Image

from dnnlib import UserError, atomic_path


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


def save_picture(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Save a picture in the format of its suffix.

    Args:
        pixels: uint8 `[H, W, C]`, C of 1 or 3.

    Raises:
        UserError: the file can't be written, or Pillow knows no such suffix.
    """
    with atomic_path(path) as temp:
        try:
            Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(temp)
        except ValueError as error:
            raise UserError(f'{path}: no picture format has this suffix; try .png') from error
