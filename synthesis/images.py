"""Pictures from a generator."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from dnnlib import UserError
from torch_utils.pictures import to_uint8
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


@torch.no_grad()
def render_ws(G: Any, ws: torch.Tensor, noise_mode: str = 'const') -> torch.Tensor:
    """Draw a batch of pictures from float32 `[N, num_ws, w_dim]`, any device: as `render`, but for the mapping."""
    return to_uint8(G.synthesis(ws.to(next(G.parameters()).device), noise_mode=noise_mode))


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
        yield render(G, z, draw_labels(G, count, generator, label_fn), truncation_psi=truncation_psi, noise_mode=noise_mode)


def draw_labels(G: Any, count: int, generator: torch.Generator, label_fn: Callable[[int], torch.Tensor] | None = None) -> torch.Tensor:
    """`label_fn(count)`, or classes drawn uniformly: float32 `[count, c_dim]`."""
    if label_fn is not None:
        return label_fn(count)
    if G.c_dim == 0:
        return torch.zeros([count, 0])
    return torch.eye(G.c_dim)[torch.randint(G.c_dim, [count], generator=generator)]
