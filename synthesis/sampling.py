"""Pictures from a generator."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from dnnlib import UserError
from torch_utils.image_io import to_uint8
from training.networks import Generator

from .noise import picture_generator, seeded_noise
from .rendering import Renderer

# a number and what to draw from, to so many labels, float32 [count, c_dim]
LabelFn = Callable[[int, torch.Generator], torch.Tensor]


def latents_from_seeds(seeds: Sequence[int], z_dim: int) -> torch.Tensor:
    """The latents that NVIDIA's scripts draw for these seeds.

    Args:
        seeds: 0…2³²−1.

    Returns:
        float32 `[len(seeds), z_dim]`, standard normal.
    """
    return torch.from_numpy(
        np.stack([np.random.RandomState(seed).randn(z_dim) for seed in seeds]).astype(np.float32)
    )


def latents_of_seed(seed: int, count: int, z_dim: int) -> torch.Tensor:
    """Several latents of one seed, the first as `latents_from_seeds` gives it: float32 `[count,
    z_dim]`.
    """
    return torch.from_numpy(np.random.RandomState(seed).randn(count, z_dim).astype(np.float32))


def class_labels(G: Any, class_idx: int | None, count: int) -> torch.Tensor:
    """One-hot labels of one class.

    Args:
        class_idx: None for an unconditional network.

    Returns:
        float32 `[count, c_dim]`.

    Raises:
        UserError: a conditional network without a class, or the other way round, or a class that it
            doesn't have.
    """
    if G.c_dim == 0:
        if class_idx is not None:
            raise UserError(
                f'--class={class_idx}: this network knows no classes; leave the option out'
            )
        return torch.zeros([count, 0])
    if class_idx is None:
        raise UserError(
            f'this network is conditional: choose one of its {G.c_dim} classes with '
            f'--class=0…{G.c_dim - 1}'
        )
    if not 0 <= class_idx < G.c_dim:
        raise UserError(f'--class={class_idx}: this network has the classes 0…{G.c_dim - 1}')
    return torch.eye(G.c_dim)[[class_idx] * count]


@torch.no_grad()
def render(
    G: Any,
    z: torch.Tensor,
    c: torch.Tensor,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: str = 'const',
) -> torch.Tensor:
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
    images = G(
        z.to(device),
        c.to(device),
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        noise_mode=noise_mode,
    )
    return to_uint8(images)


@torch.no_grad()
def render_ws(G: Any, ws: torch.Tensor, noise_mode: str = 'const') -> torch.Tensor:
    """Draw a batch of pictures from float32 `[N, num_ws, w_dim]`, any device: as `render`, but for
    the mapping.
    """
    return to_uint8(G.synthesis(ws.to(next(G.parameters()).device), noise_mode=noise_mode))


def sample_images(
    G: Generator,
    num: int,
    *,
    batch_size: int = 32,
    seed: int = 0,
    truncation_psi: float = 1.0,
    noise_mode: str = 'random',
    label_fn: LabelFn | None = None,
) -> Iterator[torch.Tensor]:
    """Random pictures, for metrics: which ones depends on the seed and on nothing else, so neither
    on the batch nor on what ran before.

    Args:
        num: how many.
        seed: of the latents, classes and `random` noise.
        noise_mode: `const`, `random` or `none`.
        label_fn: see `LabelFn`; None draws classes uniformly.

    Yields:
        uint8 `[n, C, H, W]`, n ≤ batch_size, on the network's device.
    """
    mode = 'const' if noise_mode == 'random' else noise_mode
    renderer = Renderer(
        G, lambda z, c: render(G, z, c, truncation_psi=truncation_psi, noise_mode=mode)
    )
    for start in range(0, num, batch_size):
        indices = range(start, min(start + batch_size, num))
        generators = [picture_generator(seed, index) for index in indices]
        z = torch.stack([torch.randn(G.z_dim, generator=generator) for generator in generators])
        c = torch.stack([draw_label(G, generator, label_fn) for generator in generators])
        yield renderer(z, c, noise=seeded_noise(G, seed, indices) if noise_mode == 'random' else {})


def draw_label(G: Any, generator: torch.Generator, label_fn: LabelFn | None = None) -> torch.Tensor:
    """A label by `label_fn`, or of a class that is drawn uniformly: float32 `[c_dim]`."""
    if label_fn is not None:
        return label_fn(1, generator)[0]
    if G.c_dim == 0:
        return torch.zeros([0])
    return torch.eye(G.c_dim)[int(torch.randint(G.c_dim, [], generator=generator))]
