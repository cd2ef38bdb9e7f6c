"""Decide which snapshot of a run is the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Criterion:
    """The number that snapshots are ranked by.

    Attributes:
        key: its name among a snapshot's results, such as `fid50k_full` or `is50k_mean`.
        higher_is_better: False for distances, True for scores.
    """

    key: str
    higher_is_better: bool = False

    def best(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the row with the best value.

        Args:
            rows: entries of `snapshots.json`; those without a finite value are skipped.

        Returns:
            One of the rows, the earliest of equals; None if no row has a value.
        """
        judged = [row for row in rows if _is_finite(row['metrics'].get(self.key))]
        sign = -1 if self.higher_is_better else 1
        return min(judged, key=lambda row: sign * row['metrics'][self.key], default=None)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and -math.inf < value < math.inf
