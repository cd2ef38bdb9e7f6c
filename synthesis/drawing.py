"""Pictures of ws, a batch at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from .noise import Noise, random_noise, stack_noise
from .rendering import Renderer
from .sampling import render_ws


@dataclass(frozen=True)
class Picture:
    """What a picture is made of.

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


def draw(
    G: Any, pictures: Iterable[Picture], noise_mode: str = 'const', batch: int = 16
) -> Iterator[tuple[Picture, np.ndarray]]:
    """Draw pictures, the same ones whatever the batch size (but for the last bit of a sum).

    Args:
        noise_mode: `const` or `loop` (the picture's own noise, else the network's), `random` (by
            the picture's key) or `none`.
        batch: how many at a time.

    Yields:
        Each picture with its pixels, uint8 `[C, H, W]`.
    """
    random = noise_mode == 'random'
    mode = 'none' if noise_mode == 'none' else 'const'
    renderer = Renderer(G, lambda ws: render_ws(G, ws, mode))
    pictures = iter(pictures)
    while chunk := list(islice(pictures, batch)):
        noise = stack_noise(
            [random_noise(G, picture.key) if random else picture.noise for picture in chunk]
        )
        images = renderer(torch.stack([picture.w for picture in chunk]), noise=noise)
        yield from zip(chunk, images.cpu().numpy())
