"""Mean and covariance of features, gathered batch by batch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from dnnlib import UserError


@dataclass(frozen=True)
class MeanCov:
    """What a Frechet distance needs to know of a set.

    Attributes:
        num: how many pictures.
        mean: float64 `[D]`.
        cov: float64 `[D, D]`, divided by `num` as NVIDIA does, not by `num - 1`.
    """

    num: int
    mean: np.ndarray
    cov: np.ndarray


class FeatureStats:
    """Streaming mean and covariance in float64, on the device of the features.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise
    algorithm for computing sample variances". Unlike raw second moments it doesn't cancel where the mean is much larger
    than the spread, as in a random embedding; how the set is cut into batches changes the result by rounding only.
    """

    def __init__(self) -> None:
        self.num = 0
        self._mean: torch.Tensor | None = None
        self._scatter: torch.Tensor | None = None

    def append(self, features: torch.Tensor) -> None:
        """Add a batch.

        Args:
            features: floating point `[N, D]`, any range.
        """
        x = features.detach().to(torch.float64)
        num = self.num + len(x)
        if len(x) == 0:
            return
        mean = x.mean(dim=0)
        centred = x - mean
        scatter = centred.T @ centred
        if self._mean is None or self._scatter is None:
            self._mean, self._scatter = mean, scatter
        else:
            delta = mean - self._mean
            self._mean = self._mean + delta * (len(x) / num)
            self._scatter += scatter.addr_(delta, delta, alpha=self.num * len(x) / num)
        self.num = num

    def mean_cov(self) -> MeanCov:
        """The mean and covariance of all that was appended.

        Raises:
            UserError: there were fewer than 2 pictures, or the features are not finite.
        """
        if self._mean is None or self._scatter is None or self.num < 2:
            raise UserError(f'got {self.num} picture{"" if self.num == 1 else "s"}; a covariance needs at least 2')
        mean, cov = self._mean.cpu().numpy(), (self._scatter / self.num).cpu().numpy()
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise UserError('the detector gave features that are not finite; are its weights damaged?')
        return MeanCov(self.num, mean, cov)


def collect_stats(batches: Iterable[torch.Tensor], detector: Callable[[torch.Tensor], torch.Tensor]) -> MeanCov:
    """Features of every picture, reduced to their mean and covariance.

    Args:
        batches: uint8 `[N, C, H, W]`, 0…255, C of 1 or 3; sizes may differ from batch to batch.
        detector: maps such a batch to floating point `[N, D]`.

    Raises:
        UserError: see `FeatureStats.mean_cov`, and whatever `batches` raises.
    """
    stats = FeatureStats()
    for batch in batches:
        stats.append(detector(batch))
    return stats.mean_cov()
