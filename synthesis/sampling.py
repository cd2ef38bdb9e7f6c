"""Everything between a latent and uint8 pictures: seeds, labels, ws, batches, CUDA graphs."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from dnnlib import UserError
from dnnlib.image_archive import PictureArchive, read_labels
from torch_utils.cuda_graphs import Captured
from torch_utils.image_io import to_uint8
from training.dataset import choose_rows
from training.networks import Generator

from .interpolation import slerp
from .noise import (
    Noise,
    given_noise,
    picture_generator,
    random_noise,
    seeded_noise,
    stack_noise,
)

AS_IN_SET, UNIFORM = 'as in the data set', 'uniform'

# (count, random generator) to labels, float32 [count, c_dim]
LabelFn = Callable[[int, torch.Generator], torch.Tensor]

_warn = logging.getLogger(__name__).warning


@dataclass(frozen=True)
class Latent:
    """One picture before it is drawn.

    Attributes:
        name: of its file, without suffix.
        w: float32 `[num_ws, w_dim]` on the CPU.
        key: of its noise, where that is random (see `random_noise`).
        noise: layers whose stored noise it replaces, where noise is const.
        info: what to write into the file.
    """

    name: str
    w: torch.Tensor
    key: tuple[int, ...]
    noise: Noise = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


class DrawnLatent(NamedTuple):
    """A latent and its picture.

    Attributes:
        pixels: uint8 `[C, H, W]`.
    """

    latent: Latent
    pixels: np.ndarray


def latents_from_seeds(seeds: Sequence[int], z_dim: int) -> torch.Tensor:
    """Draw the latents that NVIDIA's scripts draw for these seeds.

    Args:
        seeds: 0…2³²−1.

    Returns:
        float32 `[len(seeds), z_dim]`, standard normal.
    """
    return torch.from_numpy(
        np.stack([np.random.RandomState(seed).randn(z_dim) for seed in seeds]).astype(np.float32)
    )


def latents_of_seed(seed: int, count: int, z_dim: int) -> torch.Tensor:
    """Draw several latents of one seed, the first as `latents_from_seeds` does: float32 `[count,
    z_dim]`.
    """
    return torch.from_numpy(np.random.RandomState(seed).randn(count, z_dim).astype(np.float32))


def class_labels(G: Generator, class_idx: int | None, count: int) -> torch.Tensor:
    """Make one-hot labels of one class.

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


def choose_labels(
    G: Generator,
    class_idx: int | None = None,
    data_path: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = _warn,
) -> tuple[LabelFn | None, str | int | None]:
    """Choose how labels are drawn: one class; else from the pictures of a data set, as NVIDIA's
    metrics do; else uniformly.

    Args:
        class_idx: the class, where one was asked for.
        data_path: a folder or zip, which may have labels.
        log: takes one line where its labels are not this network's.

    Returns:
        The `label_fn` of `sample_images`, and a word for it: the class, `AS_IN_SET`, `UNIFORM`, or
        None for an unconditional network.

    Raises:
        UserError: the network has no such class, or the set's labels are damaged.
    """
    if class_idx is not None:
        label = class_labels(G, class_idx, 1)
        return lambda count, generator: label.repeat(count, 1), class_idx
    if G.c_dim == 0:
        return None, None
    labels = None
    if data_path is not None:
        archive = PictureArchive(data_path)
        try:
            labels = read_labels(archive, '--real')[0]
        except UserError:
            if (archive.read_json() or {}).get('labels'):
                raise
    if labels is None:
        return None, UNIFORM
    if labels.shape[1] != G.c_dim:
        log(
            f'warning: {data_path} has {labels.shape[1]} classes, the network {G.c_dim}, which are '
            f'drawn uniformly'
        )
        return None, UNIFORM
    return lambda count, generator: choose_rows(labels, count, generator), AS_IN_SET


def draw_label(
    G: Generator, generator: torch.Generator, label_fn: LabelFn | None = None
) -> torch.Tensor:
    """Draw a label by `label_fn`, or of a class chosen uniformly: float32 `[c_dim]`."""
    if label_fn is not None:
        return label_fn(1, generator)[0]
    if G.c_dim == 0:
        return torch.zeros([0])
    return torch.eye(G.c_dim)[int(torch.randint(G.c_dim, [], generator=generator))]


def map_seeds(G: Generator, seeds: Sequence[int], label: torch.Tensor) -> torch.Tensor:
    """Map seeds to ws, not truncated.

    Args:
        label: float32 `[1, c_dim]`, for all.

    Returns:
        float32 `[len(seeds), num_ws, w_dim]` on the CPU.
    """
    return map_latents(G, latents_from_seeds(seeds, G.z_dim), label)


@torch.no_grad()
def map_latents(G: Generator, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Map z, float32 `[N, z_dim]`, to ws, as `map_seeds` does."""
    device = next(G.parameters()).device
    return G.mapping(z.to(device), label.to(device).expand(len(z), -1)).cpu()


def truncate(G: Generator, ws: torch.Tensor, psi: float) -> torch.Tensor:
    """Move ws towards the network's mean w (the truncation trick, Karras et al. 2019, appendix B).

    Args:
        ws: float32 `[..., w_dim]` on the CPU.
        psi: 1 leaves it alone, 0 gives the mean, below 0 lies the opposite.
    """
    return ws if psi == 1 else G.mapping.w_avg.cpu().lerp(ws, psi)


@torch.no_grad()
def render(
    G: Generator,
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
def render_ws(G: Generator, ws: torch.Tensor, noise_mode: str = 'const') -> torch.Tensor:
    """Draw a batch of pictures from ws, float32 `[N, num_ws, w_dim]`, any device, as `render` does
    from z.
    """
    return to_uint8(G.synthesis(ws.to(next(G.parameters()).device), noise_mode=noise_mode))


class Renderer:
    """Draws batches, each with its own noise; on a GPU as CUDA graphs.

    Args:
        G: the generator, whose weights may change in place between two batches.
        work: from tensors to pictures, by way of `G` and with its noise mode `const` or `none`.
    """

    def __init__(self, G: Generator, work: Callable[..., torch.Tensor]) -> None:
        self._G, self._work = G, work
        self._by_layers: dict[tuple[str, ...], Captured] = {}

    def __call__(self, *inputs: torch.Tensor, noise: Noise) -> torch.Tensor:
        """Draw a batch.

        Args:
            inputs: of `work`, on any device.
            noise: of the batch (see `given_noise`), on any device; the other layers have what is
                stored.

        Returns:
            The result of `work`, on the network's device.
        """
        names = tuple(noise)
        if names not in self._by_layers:
            # not self: graphs hold a GPU's memory, which must not wait for the collector of cycles
            G, work = self._G, self._work

            def draw(*tensors: torch.Tensor) -> torch.Tensor:
                count = len(tensors) - len(names)
                own = dict(zip(names, tensors[count:]))
                with torch.no_grad(), given_noise(G, own) if own else contextlib.nullcontext():
                    return work(*tensors[:count])

            self._by_layers[names] = Captured(
                draw, next(self._G.parameters()).device, 'the generator'
            )
        return self._by_layers[names](*inputs, *noise.values())


def draw_latents(
    G: Generator, latents: Iterable[Latent], noise_mode: str = 'const', batch: int = 16
) -> Iterator[DrawnLatent]:
    """Draw pictures of latents; the batch size changes at most the last bit of a sum.

    Args:
        noise_mode: `const` or `loop` (the latent's own noise, else the network's), `random` (by
            the latent's key) or `none`.
        batch: how many at a time.
    """
    random = noise_mode == 'random'
    mode = 'none' if noise_mode == 'none' else 'const'
    renderer = Renderer(G, lambda ws: render_ws(G, ws, mode))
    latents = iter(latents)
    while chunk := list(islice(latents, batch)):
        noises = [random_noise(G, latent.key) if random else latent.noise for latent in chunk]
        noise = stack_noise(noises) if noises[0] else {}
        images = renderer(torch.stack([latent.w for latent in chunk]), noise=noise)
        yield from map(DrawnLatent, chunk, images.cpu().numpy())


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
    """Draw random pictures, for metrics. They depend on the seed alone, not on the batch size or on
    what ran before.

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


@torch.no_grad()
def path_pairs(
    G: Generator,
    num: int,
    *,
    space: Literal['z', 'w'],
    sampling: Literal['full', 'end'],
    epsilon: float,
    batch_size: int = 8,
    seed: int = 0,
    label_fn: LabelFn | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Draw pairs of pictures a small step apart, for perceptual path lengths: of one label and one
    noise, in float32 throughout. They depend on the seed alone.

    Args:
        num: how many pairs.
        space: `z` (a path on the sphere) or `w` (a straight one).
        sampling: `full` for a random place of the path, `end` for its beginning.
        epsilon: the step, as a part of the path.
        seed: of latents, labels, places and noise.
        label_fn: see `LabelFn`.

    Yields:
        float32 `[n, C, H, W]` twice, about −1…1, n ≤ batch_size, on the network's device.
    """
    device = next(G.parameters()).device
    renderer = Renderer(G, lambda ws: G.synthesis(ws, noise_mode='const', force_fp32=True))
    for start in range(0, num, batch_size):
        indices = range(start, min(start + batch_size, num))
        generators = [picture_generator(seed, index) for index in indices]
        # In float64: the step is small.
        z = torch.stack(
            [
                torch.randn([2, G.z_dim], dtype=torch.float64, generator=generator)
                for generator in generators
            ]
        )
        places = [
            float(torch.rand([], dtype=torch.float64, generator=generator)) * (sampling == 'full')
            for generator in generators
        ]
        c = torch.stack([draw_label(G, generator, label_fn) for generator in generators]).to(device)
        if space == 'z':
            steps = [
                torch.stack([slerp(a, b, t + step) for (a, b), t in zip(z, places)])
                for step in (0.0, epsilon)
            ]
            ws = G.mapping(torch.cat(steps).float().to(device), torch.cat([c, c]))
        else:
            first, second = G.mapping(
                z.transpose(0, 1).flatten(0, 1).float().to(device), torch.cat([c, c])
            ).chunk(2)
            t = torch.tensor(places, device=device)[:, None, None]
            ws = torch.cat([torch.lerp(first, second, t), torch.lerp(first, second, t + epsilon)])
        a, b = renderer(ws, noise=seeded_noise(G, seed, indices, repeat=2)).chunk(2)
        yield a, b
