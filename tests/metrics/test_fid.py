"""The Frechet distance: closed forms, and scipy as the reference."""

import numpy as np
import pytest
import scipy.linalg

from metrics.features import MeanCov
from metrics.fid import bias_warning, frechet_distance


def gaussian(dims: int, seed: int, num: int = 10) -> MeanCov:
    rng = np.random.RandomState(seed)
    factor = rng.randn(dims, dims) / dims**0.5
    return MeanCov(num, rng.randn(dims), factor @ factor.T + 0.1 * np.eye(dims))


def of_samples(x: np.ndarray) -> MeanCov:
    return MeanCov(len(x), x.mean(axis=0), np.cov(x.T, bias=True))


def test_closed_form_of_diagonal_gaussians() -> None:
    a = MeanCov(2, np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    b = MeanCov(2, np.array([0.0, 4.0]), np.diag([1.0, 16.0]))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 4) ** 2, abs=1e-12)


def test_closed_form_under_rotation() -> None:
    rotation = np.linalg.qr(np.random.RandomState(0).randn(3, 3))[0]
    covs = [
        rotation @ np.diag(values) @ rotation.T for values in ([1.0, 4.0, 0.0], [9.0, 4.0, 25.0])
    ]
    a, b = (MeanCov(2, np.zeros(3), cov) for cov in covs)
    assert frechet_distance(a, b) == pytest.approx(4 + 0 + 25, abs=1e-9)


@pytest.mark.parametrize('dims', [3, 40])
def test_agrees_with_sqrtm(dims: int) -> None:
    a, b = gaussian(dims, 0), gaussian(dims, 1)
    root = scipy.linalg.sqrtm(a.cov @ b.cov)
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.cov + b.cov - 2 * root).real
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('num', [2, 7, 300])
def test_identical_sets_are_at_zero(num: int) -> None:
    stats = of_samples(np.random.RandomState(0).randn(num, 100))
    assert 0 <= frechet_distance(stats, stats) < 1e-6


def test_singular_covariances_stay_finite_and_exact() -> None:
    rng = np.random.RandomState(0)
    x, y = rng.randn(5, 100), rng.randn(8, 100) + 1
    small = frechet_distance(of_samples(x), of_samples(y))
    values = np.linalg.eigvals(of_samples(x).cov @ of_samples(y).cov).real.clip(0)
    expected = (
        np.square(x.mean(0) - y.mean(0)).sum()
        + x.var(0).sum()
        + y.var(0).sum()
        - 2 * np.sqrt(values).sum()
    )
    assert small == pytest.approx(expected, rel=1e-5)
    # A rotation of feature space must change nothing.
    rotation = np.linalg.qr(rng.randn(100, 100))[0]
    assert frechet_distance(of_samples(x @ rotation), of_samples(y @ rotation)) == pytest.approx(
        small, rel=1e-9
    )


def test_constant_features_and_unequal_dimensions() -> None:
    constant = MeanCov(3, np.ones(4), np.zeros((4, 4)))
    assert frechet_distance(constant, constant) == 0
    assert frechet_distance(constant, MeanCov(3, np.zeros(4), np.eye(4))) == pytest.approx(8)
    with pytest.raises(ValueError, match='4 and 3'):
        frechet_distance(constant, gaussian(3, 0))


def test_bias_is_warned_of_below_2048() -> None:
    assert bias_warning('FID', 2048) is None
    assert '2,047' in (bias_warning('FID', 2047) or '')
