"""FID: Frechet distance between two sets of pictures in the feature space of a detector."""

from collections.abc import Mapping

import numpy as np

from .detectors import Detector
from .features import Features, MeanCov
from .kind import Kind

UNBIASED_ENOUGH = 2048

# What people call the distance with each detector. Only Inception's is FID.
FRECHET_NAMES: dict[str, str] = {
    'inception': 'FID',
    'vgg16': "Frechet distance in VGG-16's features",
    'random-vgg': 'Frechet distance in a random VGG-16 embedding',
}


class FID(Kind):
    """Frechet distance."""

    key = 'fid'
    names = ('fid50k_full', 'fid50k', 'fd_random_vgg50k_full', 'fd_random_vgg1k_full')
    needs = 'statistics'
    results = {'': False}
    other_key = 'fd'
    biased = True

    def compute(
        self, real: Features | None, fake: Features, detector: Detector
    ) -> dict[str, float]:
        assert real is not None
        return {'': frechet_distance(real.stats, fake.stats)}

    def describe(self, name: str, detector: str, values: Mapping[str, float]) -> str:
        return f'{FRECHET_NAMES[detector]}: {values[""]:.4f}'

    def few_warning(self, detector: str, num: int) -> str | None:
        return bias_warning(FRECHET_NAMES[detector], num)


def frechet_distance(a: MeanCov, b: MeanCov) -> float:
    """|m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)), the squared 2-Wasserstein distance of
    two Gaussians.

    The trace of the matrix square root is the sum of the square roots of the eigenvalues of S1 S2.
    With factors S1 = L1 L1^T and S2 = L2 L2^T these eigenvalues are the squared singular values of
    L1^T L2, so the trace is simply the sum of the singular values: it can be neither negative nor
    complex nor infinite, also where covariances are singular (fewer pictures than features), and it
    keeps the digits that a non-symmetric eigenvalue solver loses there.

    Paper: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local
    Nash Equilibrium", eq. 6.

    Args:
        a: mean float64 `[D]` and covariance float64 `[D, D]` of one set.
        b: the same of the other set.

    Returns:
        The distance, 0 or more; in the units of the features, squared.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f'features of {len(a.mean)} and {len(b.mean)} dimensions cannot be compared'
        )
    trace_of_root = np.linalg.svd(_factor(a.cov).T @ _factor(b.cov), compute_uv=False).sum()
    distance = (
        np.square(a.mean - b.mean).sum() + np.trace(a.cov) + np.trace(b.cov) - 2 * trace_of_root
    )
    return max(float(distance), 0.0)  # equal sets leave a rounding error on either side of 0


def bias_warning(title: str, num: int) -> str | None:
    """Return a warning if the smaller set is too small, else None.

    Args:
        title: how the distance is called.
        num: of its pictures.
    """
    if num >= UNBIASED_ENOUGH:
        return None
    return (
        f'warning: {title} from {num:,} pictures is biased (too high); below '
        f'{UNBIASED_ENOUGH:,} compare it only '
        'with values from equally many pictures, or take the kernel distance, which has no '
        'bias'
    )


def _factor(cov: np.ndarray) -> np.ndarray:
    """Factor a covariance: float64 `[D, rank]` L with L L^T = cov.

    Eigenvalues that are only rounding error are dropped.
    """
    values, vectors = np.linalg.eigh(cov)
    keep = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, keep] * np.sqrt(values[keep])
