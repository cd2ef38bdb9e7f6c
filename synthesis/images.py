"""Pictures from a generator."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from dnnlib import UserError, atomic_path
from training.networks import Generator


def latents_from_seeds(seeds: Sequence[int], z_dim: int) -> torch.Tensor:
    """The latents that NVIDIA's scripts draw for these seeds.

    Args:
        seeds: 0…2³²−1.

    Returns:
        float32 `[len(seeds), z_dim]`, standard normal.
    """
    return torch.from_numpy(np.stack([np.random.RandomState(seed).randn(z_dim) for seed in seeds]).astype(np.float32))


def class_labels(G: Any, class_idx: int | None, count: int) -> torch.Tensor:
    """One-hot labels of one class.

    Args:
        class_idx: None for an unconditional network.

    Returns:
        float32 `[count, c_dim]`.

    Raises:
        UserError: a conditional network without a class, or the other way round, or a class that it doesn't have.
    """
    if G.c_dim == 0:
        if class_idx is not None:
            raise UserError(f'--class={class_idx}: this network knows no classes; leave the option out')
        return torch.zeros([count, 0])
    if class_idx is None:
        raise UserError(f'this network is conditional: choose one of its {G.c_dim} classes with --class=0…{G.c_dim - 1}')
    if not 0 <= class_idx < G.c_dim:
        raise UserError(f'--class={class_idx}: this network has the classes 0…{G.c_dim - 1}')
    return torch.eye(G.c_dim)[[class_idx] * count]


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """float `[N, C, H, W]` in −1…1 to uint8 0…255, as NVIDIA rounds: ·127.5 + 128, clamped, truncated."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def render(G: Any, z: torch.Tensor, c: torch.Tensor, *, truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
           noise_mode: str = 'const') -> torch.Tensor:
    """Draw a batch of pictures.

    Args:
        z: float32 `[N, z_dim]`, any device.
        c: float32 `[N, c_dim]`, any device.
        truncation_psi: 1 for none; see `MappingNetwork`.
        noise_mode: `const`, `random` or `none`.

    Returns:
        uint8 `[N, C, H, W]` on the network's device.
    """
    device = next(G.parameters()).device
    images = G(z.to(device), c.to(device), truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff, noise_mode=noise_mode)
    return to_uint8(images)


def sample_images(G: Generator, num: int, *, batch_size: int = 32, seed: int = 0, truncation_psi: float = 1.0, noise_mode: str = 'random',
                  label_fn: Callable[[int], torch.Tensor] | None = None) -> Iterator[torch.Tensor]:
    """Random pictures, for metrics.

    Args:
        num: how many.
        seed: of the latents and classes (and, through the global generator, of nothing else; `random` noise is not seeded).
        label_fn: count to labels, float32 `[count, c_dim]`; None draws classes uniformly.

    Yields:
        uint8 `[n, C, H, W]`, n ≤ batch_size, on the network's device.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num, batch_size):
        count = min(batch_size, num - start)
        z = torch.randn([count, G.z_dim], generator=generator)
        if label_fn is not None:
            c = label_fn(count)
        elif G.c_dim > 0:
            c = torch.eye(G.c_dim)[torch.randint(G.c_dim, [count], generator=generator)]
        else:
            c = torch.zeros([count, 0])
        yield render(G, z, c, truncation_psi=truncation_psi, noise_mode=noise_mode)


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
