"""Pictures that are a small step apart, for perceptual path lengths."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from .images import draw_labels
from .noise import noise_layers
from .paths import slerp


@torch.no_grad()
def path_pairs(G: Any, num: int, *, space: str, sampling: str, epsilon: float, batch_size: int = 8, seed: int = 0,
               label_fn: Callable[[int], torch.Tensor] | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of pictures of one label and one noise, which each batch draws anew; in float32 throughout.

    Args:
        num: how many pairs.
        space: `z` (a path on the sphere) or `w` (a straight one).
        sampling: `full` for a random place of the path, `end` for its beginning.
        epsilon: the step, as a part of the path.
        seed: of latents, labels, places and noise.
        label_fn: see `sample_images`.

    Yields:
        float32 `[n, C, H, W]` twice, about −1…1, n ≤ batch_size, on the network's device.
    """
    G, device, rng = copy.deepcopy(G).eval(), next(G.parameters()).device, np.random.RandomState(seed)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num, batch_size):
        count = min(batch_size, num - start)
        z = torch.from_numpy(rng.randn(2, count, G.z_dim))  # float64: the step is small
        places = rng.rand(count) * (1.0 if sampling == 'full' else 0.0)
        c = draw_labels(G, count, generator, label_fn)
        if space == 'z':
            steps = [torch.stack([slerp(a, b, t + step) for a, b, t in zip(*z, places)]) for step in (0.0, epsilon)]
            ws = G.mapping(torch.cat(steps).float().to(device), torch.cat([c, c]).to(device))
        else:
            first, second = G.mapping(z.flatten(0, 1).float().to(device), torch.cat([c, c]).to(device)).chunk(2)
            t = torch.from_numpy(places).float().to(device)[:, None, None]
            ws = torch.cat([torch.lerp(first, second, t), torch.lerp(first, second, t + epsilon)])
        for layer in noise_layers(G).values():
            layer.noise_const.copy_(torch.randn(layer.noise_const.shape, generator=generator))
        a, b = G.synthesis(ws, noise_mode='const', force_fp32=True).chunk(2)
        yield a, b
