"""Kernel distance (KID): unbiased also in small sets, and with a spread."""

from collections.abc import Mapping

import numpy as np
import torch

from dnnlib import UserError
from torch_utils.misc import in_float64

from .detectors import Detector
from .features import Features
from .kind import Kind, both_values, spread

# those of torch-fidelity; NVIDIA's kid50k_full has the first two
NUM_SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020


class KID(Kind):
    """Kernel distance."""

    key = 'kid'
    names = ('kid50k_full', 'kid50k', 'kd_random_vgg1k_full')
    results = {'': False}
    other_key = 'kd'

    def compute(
        self, real: Features | None, fake: Features, detector: Detector
    ) -> dict[str, float]:
        mean, std = kernel_distance(*both_values(real, fake, detector))
        return {'': mean, '_std': std}

    def describe(self, name: str, detector: str, values: Mapping[str, float]) -> str:
        title = 'KID' if detector == 'inception' else 'Kernel distance'
        return f'{title}: {values[""]:.6f}{spread(values)}'


def kernel_distance(
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    num_subsets: int = NUM_SUBSETS,
    subset_size: int | None = None,
    seed: int = SEED,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy under the kernel (x·y / D + 1)³, over random subsets without
    replacement.

    Paper: Bińkowski et al. 2018, "Demystifying MMD GANs", section 4; the unbiased estimator is eq.
    3 of Gretton et al. 2012. Its mean does not depend on the size of the subsets, so small sets are
    cut into smaller ones to have a spread at all.

    Args:
        real: floating point `[N, D]`, in the order of the set: a choice of subsets depends on it.
        fake: floating point `[M, D]`.
        subset_size: of each side; None for 1,000, or half the smaller set where one has fewer.
        seed: of the choice of subsets; the fake ones are drawn first.

    Returns:
        Mean and standard deviation over the subsets; slightly negative means are right where the
        sets are alike.

    Raises:
        UserError: a set has fewer than 4 members, or fewer than `subset_size`.
    """
    smaller = min(len(real), len(fake))
    size = subset_size or (SUBSET_SIZE if smaller >= SUBSET_SIZE else smaller // 2)
    if smaller < 4 or smaller < size:
        raise UserError(f'KID needs at least {max(4, size)} pictures on each side, got {smaller}')
    x, y = in_float64(fake), in_float64(real)
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(num_subsets):
        a = x[torch.from_numpy(rng.choice(len(x), size, replace=False)).to(x.device)]
        b = y[torch.from_numpy(rng.choice(len(y), size, replace=False)).to(y.device)]
        values.append(_within(a) + _within(b) - 2 * _kernel(a, b).mean())
    result = torch.stack(values)
    return float(result.mean()), float(result.std(correction=0))


def _kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _within(a: torch.Tensor) -> torch.Tensor:
    """The kernel's mean over pairs of different members."""
    kernel = _kernel(a, a)
    return (kernel.sum() - kernel.diagonal().sum()) / (len(a) * (len(a) - 1))
