"""Pictures that are a small step apart, for perceptual path lengths."""

from collections.abc import Iterator
from typing import Any

import torch

from .interpolation import slerp
from .noise import picture_generator, seeded_noise
from .rendering import Renderer
from .sampling import LabelFn, draw_label


@torch.no_grad()
def path_pairs(
    G: Any,
    num: int,
    *,
    space: str,
    sampling: str,
    epsilon: float,
    batch_size: int = 8,
    seed: int = 0,
    label_fn: LabelFn | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of pictures of one label and one noise, in float32 throughout; which ones depends on
    the seed and on nothing else.

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
