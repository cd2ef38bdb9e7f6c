"""Noise inputs of a generator's layers (StyleGAN2, section 2): draw, read, interpolate, replace."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dnnlib import UserError
from training.networks import Generator

from .interpolation import slerp

PREFIX = 'noise.'  # of such arrays in an .npz

# layer such as b8.conv0 → float32 [resolution, resolution], of unit variance; or of a batch of
# pictures
Noise = dict[str, torch.Tensor]


def noise_layers(G: Generator) -> dict[str, Any]:
    """Return the layers that take noise, by the names they have in `G.synthesis`."""
    return {
        name: layer
        for name, layer in G.synthesis.named_modules()
        if getattr(layer, 'use_noise', False)
    }


def stored_noise(G: Generator) -> Noise:
    """Return the noise that noise mode `const` adds, on the CPU."""
    return {
        name: layer.noise_const.detach().cpu().clone() for name, layer in noise_layers(G).items()
    }


def random_noise(G: Generator, key: Sequence[int]) -> Noise:
    """Draw standard normal noise for one picture: the same for the same key on every device.

    Args:
        key: numbers ≥ 0, such as a seed, or a seed and the number of a frame.
    """
    rng = np.random.default_rng(list(key))
    shapes = {name: [layer.resolution] * 2 for name, layer in noise_layers(G).items()}
    return {
        name: torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        for name, shape in shapes.items()
    }


def turn_noise(start: Noise, other: Noise, turns: float) -> Noise:
    """Move noise on a circle through `start` (turns 0, 1 …) and `other` (a quarter). Independent
    noise keeps unit variance.
    """
    angle = 2 * math.pi * turns
    return {name: math.cos(angle) * start[name] + math.sin(angle) * other[name] for name in start}


def blend_noise(start: Noise, end: Noise, t: float) -> Noise:
    """Interpolate noise on the sphere: its variance goes evenly from one's to the other's.

    Args:
        start, end: of the same layers.
        t: 0…1.
    """
    blended = {}
    for name, a in start.items():
        b = end[name]
        if a.any() and b.any():
            blended[name] = slerp(a.flatten(), b.flatten(), t).reshape(a.shape)
        else:
            blended[name] = torch.lerp(a, b, t)
    return blended


def read_noise(
    arrays: Mapping[str, np.ndarray], G: Generator, count: int, source: str
) -> list[Noise]:
    """Read the noise that a file carries for its pictures, as arrays `noise.<layer>`.

    Args:
        arrays: of the file; those of another name are skipped.
        count: how many pictures the file has.
        source: the file's name, for errors.

    Returns:
        For each picture the layers that the file has; empty where it has none.

    Raises:
        UserError: a layer that the network doesn't have, another shape than `[resolution,
            resolution]` or `[count, …]`, or a NaN.
    """
    layers = noise_layers(G)
    noises: list[Noise] = [{} for _ in range(count)]
    for key in sorted(arrays):
        name = key.removeprefix(PREFIX)
        if name == key:
            continue
        if name not in layers:
            raise UserError(
                f'{source}: {key}: this network has no such layer; its layers with '
                f'noise are {", ".join(layers) or "none"}'
            )
        shape, array = [layers[name].resolution] * 2, arrays[key]
        if array.dtype.kind != 'f' or list(array.shape) not in (shape, [count, *shape]):
            raise UserError(
                f'{source}: {key} is {array.dtype} {list(array.shape)}; this network '
                f'needs floats {shape} or {[count, *shape]}'
            )
        with np.errstate(over='ignore'):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise UserError(f'{source}: {key} has numbers that are not finite')
        for noise, values in zip(noises, torch.from_numpy(array).expand([count, *shape])):
            noise[name] = values
    return noises


def noise_arrays(noises: Sequence[Noise]) -> dict[str, np.ndarray]:
    """Make the arrays that `read_noise` reads: float32 `[N, resolution, resolution]` a layer. All
    noises have the same layers.
    """
    return {
        PREFIX + name: np.stack([noise[name].numpy() for noise in noises]) for name in noises[0]
    }


def stack_noise(noises: Sequence[Noise]) -> Noise:
    """Stack the noise of a batch of pictures, all with the same layers: float32 `[N, 1, resolution,
    resolution]` a layer.
    """
    return {name: torch.stack([noise[name] for noise in noises]).unsqueeze(1) for name in noises[0]}


def picture_generator(seed: int, index: int, device: torch.device | None = None) -> torch.Generator:
    """Make the random generator of one picture of a seeded series; a GPU draws other numbers.

    Args:
        seed: of the series, 0 or more.
        index: of the picture, 0…2³²−1.
    """
    first = int(np.random.SeedSequence(seed).generate_state(1)[0])
    # all bits that a CPU's generator looks at
    return torch.Generator(device or 'cpu').manual_seed((first + index) % (1 << 32))


def seeded_noise(G: Generator, seed: int, indices: Sequence[int], repeat: int = 1) -> Noise:
    """Draw standard normal noise for a batch of a seeded series of pictures.

    Args:
        seed: of the series.
        indices: which pictures of it are in the batch: what each gets depends on no other.
        repeat: how often the batch holds the same pictures.

    Returns:
        float32 `[N, 1, resolution, resolution]` a layer, on the network's device.
    """
    layers, device = noise_layers(G), next(G.parameters()).device
    sizes = [layer.resolution**2 for layer in layers.values()]
    flat = torch.empty([len(indices), sum(sizes)], device=device)
    for row, index in zip(flat, indices):
        # not the series that the latents come from
        row.normal_(generator=picture_generator(seed + 1, index, device))
    return {
        name: part.reshape(-1, 1, layer.resolution, layer.resolution).repeat(repeat, 1, 1, 1)
        for (name, layer), part in zip(layers.items(), flat.split(sizes, dim=1))
    }


@contextlib.contextmanager
def given_noise(G: Generator, noise: Noise) -> Iterator[None]:
    """Put noise in place of the stored one, for noise mode `const`, while the block runs.

    Args:
        noise: of a batch, by layers: `[N, 1, resolution, resolution]`. The other layers keep
            theirs.
    """
    layers = noise_layers(G)
    stored = {name: layers[name].noise_const for name in noise}
    try:
        for name, buffer in stored.items():
            layers[name].noise_const = noise[name].to(buffer.device)
        yield
    finally:
        for name, buffer in stored.items():
            layers[name].noise_const = buffer
