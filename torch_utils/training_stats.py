"""Training statistics, gathered on the device and read once a tick."""

import math

import torch

from .distributed import ALONE, Ranks
from .misc import in_float64


class StatsCollector:
    """Counts, means and standard deviations of named quantities between two reads.

    Nothing waits for the device until `read` does.
    """

    def __init__(self) -> None:
        # number, sum, sum of squares; each stays where it is, for CUDA graphs add to it
        self._moments: dict[str, torch.Tensor] = {}

    def report(self, name: str, value: torch.Tensor) -> None:
        """Add values, any shape, any float dtype."""
        value = value.detach().to(torch.float32).flatten()
        moments = in_float64(
            torch.stack(
                [torch.full_like(value[:1].sum(), value.numel()), value.sum(), value.square().sum()]
            )
        )
        known = self._moments.get(name)
        if known is None:
            self._moments[name] = moments
        else:
            known.add_(moments)

    def read(self, ranks: Ranks = ALONE) -> dict[str, dict[str, float]]:
        """Return all quantities of all processes since the last read, and start over.

        Returns:
            `{'num', 'mean', 'std'}` by name.
        """
        names = list(self._moments)
        ranks.sum_(list(self._moments.values()))
        rows = torch.stack([self._moments[name].cpu() for name in names]).tolist() if names else []
        for moments in self._moments.values():
            moments.zero_()
        return {name: summary(*row) for name, row in zip(names, rows) if row[0]}

    def state(self) -> dict[str, torch.Tensor]:
        """Return what has been gathered since the last read, on the CPU."""
        gathered = {name: moments.cpu() for name, moments in self._moments.items()}
        return {name: moments for name, moments in gathered.items() if moments[0]}

    def load_state(self, state: dict[str, torch.Tensor], device: torch.device) -> None:
        """Go on from what `state` returned."""
        place = 'cpu' if device.type == 'mps' else device  # see in_float64
        self._moments = {name: moments.to(place) for name, moments in state.items()}


def summary(num: float, total: float, squares: float) -> dict[str, float]:
    """Return the entry of `stats.jsonl` for `num` values with this sum and sum of squares."""
    mean = total / num if num else math.nan
    return {
        'num': int(num),
        'mean': mean,
        'std': math.sqrt(max(squares / num - mean**2, 0)) if num > 1 else 0.0,
    }
