"""Streaming statistics, and distances between features."""

import numpy as np
import pytest
import torch

from dnnlib import UserError
from metrics.features import FeatureStats, squared_distances, squared_radii


@pytest.mark.parametrize('batch', [1, 3, 64, 500])
def test_streaming_agrees_with_numpy(batch: int) -> None:
    # a mean that is large against the spread
    x = np.random.RandomState(0).randn(333, 12).astype(np.float32) + 1000
    stats = FeatureStats()
    for chunk in np.split(x, range(batch, len(x), batch)):
        stats.append(torch.from_numpy(chunk))
    stats.append(torch.zeros(0, 12))
    result = stats.mean_cov()
    exact = x.astype(np.float64)
    assert result.num == 333 and result.mean.dtype == result.cov.dtype == np.float64
    np.testing.assert_allclose(result.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.cov, np.cov(exact.T, bias=True), atol=1e-9)


def test_statistics_need_two_finite_pictures() -> None:
    stats = FeatureStats()
    for expected in ('got 0 pictures', 'got 1 picture;'):
        with pytest.raises(UserError, match=expected):
            stats.mean_cov()
        stats.append(torch.zeros(1, 3))
    stats.append(torch.full((1, 3), float('nan')))
    with pytest.raises(UserError, match='not finite'):
        stats.mean_cov()


def test_distances_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (
        torch.from_numpy(np.random.RandomState(seed).randn(num, 24).astype(np.float32)) + 1000
        for num, seed in ((37, 0), (41, 1))
    )
    expected = torch.cdist(
        a.double(), b.double(), compute_mode='donot_use_mm_for_euclid_dist'
    ).square()
    for piece in (1, 41 * 5, 1 << 20):
        monkeypatch.setattr('metrics.features._PIECE', piece)
        torch.testing.assert_close(
            torch.cat([rows for _, rows in squared_distances(a, b)]), expected, rtol=1e-9, atol=1e-9
        )
    own = torch.cdist(a.double(), a.double()).square().sort(dim=1).values
    torch.testing.assert_close(squared_radii(a, 3), own[:, 3], rtol=1e-6, atol=1e-6)
