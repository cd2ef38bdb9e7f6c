"""A generator's batches, one after the other; on a GPU as CUDA graphs."""

from collections.abc import Callable
from typing import Any

import torch

from torch_utils.cuda_graphs import Captured

from .noise import Noise, given_noise


class Renderer:
    """Draws batches with noise of their own.

    Args:
        G: the generator, whose weights may change in place between two batches.
        work: from tensors to pictures, by way of `G` and with its noise mode `const` or `none`.
    """

    def __init__(self, G: Any, work: Callable[..., torch.Tensor]) -> None:
        self._G, self._work = G, work
        self._by_layers: dict[tuple[str, ...], Captured] = {}

    def __call__(self, *inputs: torch.Tensor, noise: Noise) -> torch.Tensor:
        """Draw a batch.

        Args:
            inputs: of `work`, on any device.
            noise: of the batch (see `given_noise`), on any device; the other layers have what is
                stored.

        Returns:
            What `work` makes of it, on the network's device.
        """
        names = tuple(noise)
        if names not in self._by_layers:
            # not self: graphs hold a GPU's memory, which must not wait for the collector of cycles
            G, work = self._G, self._work

            def draw(*tensors: torch.Tensor) -> torch.Tensor:
                count = len(tensors) - len(names)
                with torch.no_grad(), given_noise(G, dict(zip(names, tensors[count:]))):
                    return work(*tensors[:count])

            self._by_layers[names] = Captured(
                draw, next(self._G.parameters()).device, 'the generator'
            )
        return self._by_layers[names](*inputs, *noise.values())
