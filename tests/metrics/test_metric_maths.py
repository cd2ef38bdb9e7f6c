"""KID, precision and recall, inception score: torch-fidelity's own functions, closed forms, and
sets at their limits.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dnnlib import UserError
from metrics.inception_score import few_warning, inception_score
from metrics.kid import kernel_distance
from metrics.precision_recall import precision_recall


def features(num: int, dims: int = 24, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(num, dims).astype(np.float32)) + shift


def test_kid_agrees_with_torch_fidelity() -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    fake, real = features(1500, seed=1, shift=0.2), features(1200)
    theirs = kid_features_to_metric(
        fake, real, kid_subsets=100, kid_subset_size=1000, rng_seed=2020, verbose=False
    )
    mean, std = kernel_distance(real, fake)
    assert mean == pytest.approx(theirs['kernel_inception_distance_mean'], rel=1e-3)
    assert std == pytest.approx(theirs['kernel_inception_distance_std'], rel=1e-3)


def test_kid_in_closed_form() -> None:
    """Two points of one dimension: k(2, 2) + k(0, 0) - 2 k(0, 2)."""
    real, fake = torch.zeros(4, 1), torch.full([4, 1], 2.0)
    assert kernel_distance(real, fake) == pytest.approx(((2 * 2 + 1) ** 3 + 1 - 2, 0))
    assert kernel_distance(real, real) == (0, 0)


def test_kid_is_unbiased_in_small_sets() -> None:
    values = [
        kernel_distance(features(24, seed=i), features(30, seed=500 + i), num_subsets=10)[0]
        for i in range(200)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    # small sets have a spread, too
    assert min(values) < 0 < kernel_distance(features(24), features(30, seed=1))[1]
    with pytest.raises(UserError, match='at least 4 pictures'):
        kernel_distance(features(3), features(9))
    with pytest.raises(UserError, match='at least 50 pictures'):
        kernel_distance(features(30), features(90), subset_size=50)


@pytest.mark.parametrize('shift', [0.0, 0.5, 1.5])
def test_precision_and_recall_agree_with_torch_fidelity(shift: float) -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    fake, real = features(700, seed=1, shift=shift) * 0.8, features(900)
    theirs = prc_features_to_metric(fake, real, verbose=False)
    assert precision_recall(real, fake) == pytest.approx(
        (theirs['precision'], theirs['recall']), abs=1e-6
    )


def test_precision_and_recall_of_identical_disjoint_and_collapsed_sets() -> None:
    x = features(50)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x, x + 1e6) == (0, 0)
    # balls without extent reach their own picture only
    assert precision_recall(x, x[:1].repeat(20, 1)) == (1, 1 / 50)
    assert precision_recall(x[:1].repeat(9, 1), x[:1].repeat(5, 1)) == (1, 1)
    # as another batch size leaves them
    noisy = (x.double() * (1 + 1e-7 * torch.randn(50, 1).double())).float()
    assert precision_recall(x, noisy) == (1, 1)
    with pytest.raises(UserError, match='at least 4 pictures'):
        precision_recall(x, x[:3])


@pytest.mark.parametrize('num', [1000, 997, 23])
def test_inception_score_agrees_with_torch_fidelity(num: int) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = features(num, 100) * 3
    theirs = isc_features_to_metric(logits)
    assert inception_score(logits) == pytest.approx(
        (theirs['inception_score_mean'], theirs['inception_score_std']), rel=1e-9
    )


def test_inception_score_at_its_limits() -> None:
    assert inception_score(torch.zeros(40, 7)) == pytest.approx((1, 0))
    # each picture of a sure class, all classes equally often
    certain = 1000 * torch.eye(5).repeat(8, 1)
    assert inception_score(certain, splits=1) == pytest.approx((5, 0))
    assert inception_score(certain[:3]) == pytest.approx((1, 0))  # fewer pictures than parts


@pytest.mark.parametrize('measure', [kernel_distance, precision_recall])
def test_a_rotation_of_both_sets_changes_nothing(
    measure: Callable[..., tuple[float, float]],
) -> None:
    real, fake = features(60).double(), features(80, seed=1, shift=0.3).double()
    rotation = torch.linalg.qr(features(24, seed=2).double())[0]
    assert measure(real @ rotation, fake @ rotation) == pytest.approx(measure(real, fake), rel=1e-9)


def test_few_pictures_cannot_score_high() -> None:
    certain = torch.eye(30) * 100
    assert inception_score(certain) == pytest.approx((3, 0))
    assert 'from 30 pictures' in (few_warning(30) or '') and 'parts of 3 cannot' in (
        few_warning(30) or ''
    )
    assert 'parts of 1 cannot' in (few_warning(4) or '') and few_warning(10_079)
    assert few_warning(10_080) is None
