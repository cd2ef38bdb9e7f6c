"""The base class of all metrics: what a metric needs, computes and says."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch

from .detectors import Detector
from .features import Features


class Kind(ABC):
    """A kind of metric, such as FID. A subclass sets attributes and overrides the methods.

    Attributes:
        key: what `--metrics` calls it, such as `fid`.
        names: NVIDIA's names, such as `fid50k_full`; any other number may replace theirs. Those
            with `random_vgg` take the random VGG-16, the others take `detector`.
        needs: what it is computed from: `statistics` (mean and covariance of the features),
            `features`, or `generator` (which is asked for path lengths).
        needs_reals: whether it compares with real pictures.
        results: suffix of each result's name, spreads left out, to whether more is better. The
            first ranks snapshots. A spread has the suffix `_std`.
        detector: what NVIDIA's names take; empty for none.
        other_key: `key` with another detector than Inception, if that is another quantity.
        full_only: also its names without `_full` take all real pictures and never mirror them.
        max_reals: at most so many real pictures for names with `_full`; None for all.
        biased: whether it falls with the number of pictures, so that unequal sets mislead.
    """

    key: str
    names: tuple[str, ...]
    needs: Literal['statistics', 'features', 'generator'] = 'features'
    needs_reals = True
    results: Mapping[str, bool]
    detector = 'inception'
    other_key: str | None = None
    full_only = False
    max_reals: int | None = None
    biased = False

    def compute(
        self, real: Features | None, fake: Features, detector: Detector
    ) -> dict[str, float]:
        """Compute the results, spreads included.

        Args:
            real: None where the metric needs none. With `values` where it `needs` features, as
                `fake`.
            fake: of the generated pictures.
            detector: that computed the features.

        Returns:
            Suffix of each result's name to its value.

        Raises:
            UserError: a set is too small, or the detector can't do it.
        """
        raise NotImplementedError('a kind that needs a generator is computed by its source')

    @abstractmethod
    def describe(self, name: str, detector: str, values: Mapping[str, float]) -> str:
        """Say the results in a sentence.

        Args:
            name: of the metric.
            detector: its name.
            values: see `compute`.
        """

    def few_warning(self, detector: str, num: int) -> str | None:
        """Return a warning if `num` pictures, of the smaller set, are too few; else None."""
        return None


def both_values(
    real: Features | None, fake: Features, detector: Detector
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the features of both sets to the detector's device: float32 `[N, D]` and `[M, D]`."""
    assert real is not None and real.values is not None and fake.values is not None
    return real.values.to(detector.device), fake.values.to(detector.device)


def spread(values: Mapping[str, float]) -> str:
    """` ± 0.1`, or nothing where there is no spread."""
    return f' ± {values["_std"]:.4g}' if '_std' in values else ''
