"""Positions along a path, easing, interpolation on the sphere, circles."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesis.interpolation import EASINGS, circle, positions, slerp
from synthesis.sampling import latents_from_seeds, latents_of_seed


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 40), st.sampled_from(sorted(EASINGS)), st.booleans())
def test_positions_cover_the_path_evenly(stops: int, frames: int, easing: str, loop: bool) -> None:
    places = list(positions(stops, frames, easing, loop))
    assert len(places) == frames and places[0] == (0, 1, 0.0)
    assert all(0 <= a < stops and b == (a + 1) % stops and 0 <= t <= 1 for a, b, t in places)
    along = [a + t for a, _, t in places]
    assert all(later >= earlier for earlier, later in pairwise(along))
    if loop:
        assert along[-1] < stops
    elif frames > 1:
        assert along[-1] == stops - 1
    if easing == 'linear' and frames > 2:
        np.testing.assert_allclose(
            np.diff(along), (stops if loop else stops - 1) / (frames if loop else frames - 1)
        )


@pytest.mark.parametrize('easing', EASINGS)
def test_easings_rise_and_are_symmetric(easing: str) -> None:
    ease = EASINGS[easing]
    assert [ease(0), ease(0.5), ease(1)] == [0, 0.5, 1]
    t = np.linspace(0, 1, 101)
    values = np.array([ease(x) for x in t])
    np.testing.assert_allclose(values, 1 - values[::-1], atol=1e-12)
    assert (np.diff(values) > 0).all() and (easing == 'linear' or values[10] < 0.05)


def test_slerp_changes_angle_and_length_evenly() -> None:
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0, 4.0, 0])
    torch.testing.assert_close(slerp(a, b, 1 / 3), torch.tensor([3**0.5 / 2, 0.5, 0]) * (2 + 2 / 3))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.randn([2, 64], generator=generator)
        points = [slerp(a, b, t) for t in np.linspace(0, 1, 5).tolist()]
        torch.testing.assert_close(points[0], a)
        torch.testing.assert_close(points[-1], b)
        angles = [torch.acos(torch.cosine_similarity(x, y, dim=0)) for x, y in pairwise(points)]
        torch.testing.assert_close(torch.stack(angles), angles[0].expand(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(slerp(a, a * 3, 0.5), a * 2)
    assert torch.isfinite(slerp(a, -a, 0.5)).all() and torch.isfinite(slerp(a, -a, 0.25)).all()


@pytest.mark.parametrize('radius', [1.0, 0.3, 1e-3])
def test_circle_in_z_lies_on_the_sphere_and_closes(radius: float) -> None:
    points = latents_of_seed(5, 3, 16)
    torch.testing.assert_close(points[:1], latents_from_seeds([5], 16))
    path = circle(points, radius)
    assert torch.equal(path.at(0), path.at(1))
    torch.testing.assert_close(path.at(0), points[0], rtol=1e-4, atol=1e-5)
    around = torch.stack([path.at(i / 12) for i in range(12)])
    torch.testing.assert_close(around.norm(dim=1), points[0].norm().expand(12))
    steps = (around - around.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(steps, steps.mean().expand(12), rtol=1e-3, atol=1e-6)
    across = (path.at(0.5) - path.at(0)).norm()
    assert float(across) == pytest.approx(2 * radius * float(points[0].norm()), rel=1e-3)
