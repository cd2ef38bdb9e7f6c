"""Features of a set, collected batch by batch, their mean and covariance, and the distances
between them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from dnnlib import UserError
from torch_utils.misc import in_float64

_PIECE = 1 << 24  # distances at a time: 128 MiB of float64
# squared distances below this part of the squared lengths are rounding, of the features or of the
# product
_EQUAL = 1e-12


@dataclass(frozen=True)
class MeanCov:
    """What a Frechet distance needs to know of a set.

    Attributes:
        num: how many pictures; None where a file of another program doesn't say.
        mean: float64 `[D]`.
        cov: float64 `[D, D]`, divided as the protocol says.
    """

    num: int | None
    mean: np.ndarray
    cov: np.ndarray


class FeatureStats:
    """Streaming mean and covariance in float64, on the device of the features.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque 1979, "Updating formulae
    and a pairwise algorithm for computing sample variances". Unlike raw second moments it doesn't
    cancel where the mean is much larger than the spread, as in a random embedding; how the set is
    cut into batches changes the result by rounding only.
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
        x = in_float64(features.detach())
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

    def mean_cov(self, ddof: int = 0) -> MeanCov:
        """The mean and covariance of all that was appended.

        Args:
            ddof: the covariance is divided by N - ddof.

        Raises:
            UserError: there were fewer than 2 pictures, or the features are not finite.
        """
        if self._mean is None or self._scatter is None or self.num < 2:
            raise UserError(
                f'got {self.num} picture{"" if self.num == 1 else "s"}; a covariance '
                f'needs at least 2'
            )
        mean, cov = self._mean.cpu().numpy(), (self._scatter / (self.num - ddof)).cpu().numpy()
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise UserError(
                'the detector gave features that are not finite; are its weights damaged?'
            )
        return MeanCov(self.num, mean, cov)


@dataclass(frozen=True)
class Features:
    """A set as its metrics see it.

    Attributes:
        stats: of the features.
        values: the features, float32 `[N, D]`, on the CPU, in the order of the set; None where
            nothing needed them.
        sizes: of the pictures, (height, width) in pixels.
    """

    stats: MeanCov
    values: torch.Tensor | None = None
    sizes: frozenset[tuple[int, int]] = field(default_factory=frozenset)


class FeatureCollector:
    """Gathers the features of a set.

    Args:
        detector: maps uint8 `[N, C, H, W]` to floating point `[N, D]`.
        keep: whether to keep the features, 8 KB a picture for Inception; else only their mean and
            covariance.
        ddof: covariances are divided by N - ddof.
    """

    def __init__(
        self, detector: Callable[[torch.Tensor], torch.Tensor], *, keep: bool = False, ddof: int = 0
    ) -> None:
        self._detector, self._keep, self._ddof = detector, keep, ddof
        self._stats = FeatureStats()
        self._values: list[torch.Tensor] = []
        self._indices: list[int] = []
        self._sizes: set[tuple[int, int]] = set()

    def append(self, pictures: torch.Tensor, indices: Sequence[int] | None = None) -> torch.Tensor:
        """Add a batch.

        Args:
            pictures: uint8 `[N, C, H, W]`, 0…255, C of 1 or 3; sizes may differ from batch to
                batch.
            indices: the pictures' places in the set; None for the next ones.

        Returns:
            Their features.
        """
        features = self._detector(pictures)
        first = self._stats.num
        self._stats.append(features)
        self._sizes.add((pictures.shape[2], pictures.shape[3]))
        if self._keep:
            self._values.append(features.float().cpu())
            self._indices += range(first, first + len(features)) if indices is None else indices
        return features

    def result(self) -> Features:
        """All that was added.

        Raises:
            UserError: see `FeatureStats.mean_cov`.
        """
        stats = self._stats.mean_cov(self._ddof)
        values = (
            torch.cat(self._values)[torch.tensor(self._indices).argsort()] if self._keep else None
        )
        return Features(stats, values, frozenset(self._sizes))


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows of the matrix of squared Euclidean distances.

    Args:
        a: floating point `[N, D]`.
        b: floating point `[M, D]`, on the same device.

    Yields:
        Which rows, and float64 `[rows, M]`, on the CPU for Apple GPUs; exactly 0 for members that
        are equal but for rounding.
    """
    b = in_float64(b)
    centre = b.mean(dim=0)
    b = b - centre
    lengths = b.square().sum(dim=1)
    step = max(_PIECE // max(len(b), 1), 1)
    for start in range(0, len(a), step):
        rows = in_float64(a[start : start + step]) - centre
        scale = rows.square().sum(dim=1, keepdim=True) + lengths
        distances = torch.addmm(scale, rows, b.T, alpha=-2)
        yield (
            slice(start, start + len(rows)),
            distances.masked_fill_(distances <= scale * _EQUAL, 0),
        )


def squared_radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Squared distance of each member to its k-th nearest other member: floating point `[N, D]`, N
    > k, to float64 `[N]`.
    """
    # the nearest of all is itself
    return torch.cat([rows.kthvalue(k + 1).values for _, rows in squared_distances(x, x)])
