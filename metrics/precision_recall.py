"""Improved precision and recall: are the fakes real, are the reals covered."""

from collections.abc import Mapping

import torch

from dnnlib import UserError

from .detectors import Detector
from .features import Features, squared_distances, squared_radii
from .kind import Kind, both_values

NEIGHBOURS = 3


class PrecisionRecall(Kind):
    """Improved precision and recall."""

    key = 'pr'
    names = ('pr50k3_full', 'pr50k3', 'pr_random_vgg1k_full')
    results = {'_precision': True, '_recall': True}
    detector = 'vgg16'
    max_reals = 200000

    def compute(
        self, real: Features | None, fake: Features, detector: Detector
    ) -> dict[str, float]:
        precision, recall = precision_recall(*both_values(real, fake, detector))
        return {'_precision': precision, '_recall': recall}

    def describe(self, name: str, detector: str, values: Mapping[str, float]) -> str:
        return f'Precision: {values["_precision"]:.4f}, recall: {values["_recall"]:.4f}'


def precision_recall(
    real: torch.Tensor, fake: torch.Tensor, *, k: int = NEIGHBOURS
) -> tuple[float, float]:
    """The part of the fakes that lie in the manifold of the reals, and the other way round.

    A set's manifold is the union of balls around its members that reach to their k-th nearest
    neighbours.

    Paper: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative
    Models", section 2.

    Args:
        real: floating point `[N, D]`.
        fake: floating point `[M, D]`, on the same device.
        k: which neighbour.

    Returns:
        Precision and recall, 0…1.

    Raises:
        UserError: a set has no k-th neighbour.
    """
    if min(len(real), len(fake)) <= k:
        raise UserError(
            f'precision and recall need at least {k + 1} pictures on each side, got '
            f'{min(len(real), len(fake))}'
        )
    return _part_inside(fake, real, k), _part_inside(real, fake, k)


def _part_inside(members: torch.Tensor, manifold: torch.Tensor, k: int) -> float:
    radii = squared_radii(manifold, k)
    inside = sum(
        int((rows <= radii).any(dim=1).sum()) for _, rows in squared_distances(members, manifold)
    )
    return inside / len(members)
