"""What the augmentation pipe draws, against the laws of the ADA paper's appendix B."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
import torch

from training.augment import AugmentPipe, _Draws
from training.config import AUGPIPES

N = 20000
NEVER = 1e-4  # the least p-value that passes; the seeds are fixed
WIDTH, HEIGHT = 32, 16
CASES = [(0.1, 1), (0.5, 1), (1, 1), (0.5, 0.5)]  # p and strength

# How often a transform that happens can be seen: flips, quarter turns and whole pixels also draw
# the identity.
MOVES = {
    'xflip': 1 / 2,
    'rotate90': 3 / 4,
    'xint': 1 - (1 / 8) * (1 / 4),
    'scale': 1,
    'rotate': 1,
    'aniso': 1,
    'xfrac': 1,
}
ALTERS = {
    'brightness': 1,
    'contrast': 1,
    'lumaflip': 1 / 2,
    'hue': 1,
    'saturation': 1,
    'noise': 1,
    'cutout': 1,
}


class ConstantNormals(_Draws):
    def normal(self, *shape: int) -> torch.Tensor:
        return torch.ones(self.batch_size, *shape)


@pytest.fixture(autouse=True)
def seed_and_one_thread() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    # thousands of tiny pictures: on a busy machine threads that wait for each other take minutes
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(p: float = 1, **settings: float | list[float]) -> AugmentPipe:
    pipe = AugmentPipe(**settings)  # type: ignore[arg-type]
    pipe.p.fill_(p)
    return pipe


def matrices(pipe: AugmentPipe, draws: type[_Draws] = _Draws) -> torch.Tensor:
    return pipe._geometry(draws(torch.empty(N, 0), pipe.p, None), WIDTH, HEIGHT).double()


def painted(pipe: AugmentPipe, *colour: float) -> torch.Tensor:
    """What becomes of one pixel: `[N, channel]`."""
    return pipe(torch.tensor(colour, dtype=torch.float64).reshape(1, -1, 1, 1).repeat(N, 1, 1, 1))[
        :, :, 0, 0
    ]


def gains(pipe: AugmentPipe, n: int = N) -> torch.Tensor:
    """Of the image filter's bands: `[n, 4]`."""
    pipe.Hz_fbank = torch.eye(4, 5)  # a band is a tap, so that an impulse shows the gains
    impulse = torch.zeros(7, 7, dtype=torch.float64)
    impulse[3, 3] = 1
    out = torch.cat([pipe(impulse.repeat(1000, 1, 1, 1)) for _ in range(n // 1000)])
    return out[:, 0].diagonal(dim1=1, dim2=2)[:, 2:6].flip(1).sqrt()


def masks(pipe: AugmentPipe) -> torch.Tensor:
    return pipe(torch.ones(N, 1, HEIGHT, WIDTH))[:, 0] == 0


def happens(seen: torch.Tensor, probability: float) -> None:
    assert scipy.stats.binomtest(int(seen.sum()), len(seen), probability).pvalue > NEVER


def follows(values: torch.Tensor, law: scipy.stats.rv_continuous) -> None:
    assert len(values) > 500 and scipy.stats.kstest(values.numpy(), law.cdf).pvalue > NEVER


def uncorrelated(a: torch.Tensor, b: torch.Tensor) -> None:
    assert scipy.stats.spearmanr(a, b).pvalue > NEVER


def rounded_uniform(values: torch.Tensor, low: int, high: int) -> None:
    """Uniform numbers between, rounded: either end is half as likely as the rest."""
    law = np.ones(high - low + 1)
    law[[0, -1]] = 0.5
    counts = np.bincount((values - low).long().numpy(), minlength=len(law))
    assert scipy.stats.chisquare(counts, law / law.sum() * len(values)).pvalue > NEVER


UNIFORM_ANGLE = scipy.stats.uniform(-math.pi, 2 * math.pi)


@pytest.mark.parametrize('p,strength', CASES)
@pytest.mark.parametrize('name', MOVES)
def test_share_of_pictures_that_move(name: str, p: float, strength: float) -> None:
    moved = (matrices(make(p, **{name: strength})) != torch.eye(3)).any(dim=(1, 2))
    happens(moved, p * strength * MOVES[name])


@pytest.mark.parametrize('p,strength', CASES)
@pytest.mark.parametrize('name', ALTERS)
def test_share_of_pictures_that_are_altered(name: str, p: float, strength: float) -> None:
    for channels in 1, 3:
        images = torch.randn(N, channels, 4, 4, dtype=torch.float64)
        altered = (
            (make(p, **{name: strength})(images) != make(0, **{name: strength})(images))
            .flatten(1)
            .any(dim=1)
        )
        happens(
            altered,
            p * strength * (0 if channels == 1 and name in ('hue', 'saturation') else ALTERS[name]),
        )


@pytest.mark.parametrize('p,strength', CASES)
def test_share_of_bands_that_are_filtered(p: float, strength: float) -> None:
    """Each band has a decision of its own; those of two leave the ratio of their gains alone."""
    g = gains(make(p, imgfilter=strength), 5000)
    for i in range(4):
        happens(g[:, i] != g[:, i - 1], 1 - (1 - p * strength) ** 2)
    happens((g != g[:, :1]).any(dim=1), 1 - (1 - p * strength) ** 4)
    for i in range(4):
        g = gains(
            make(p, imgfilter=1, imgfilter_bands=[strength * (i == j) for j in range(4)]), 5000
        )
        happens(g[:, i] != g[:, i - 1], p * strength)


def test_decisions_are_independent() -> None:
    m = matrices(make(0.5, xflip=1, scale=1, aniso=1))
    x, y = m[:, 0, 0].abs().log2(), m[:, 1, 1].log2()
    code = (m[:, 0, 0] < 0) + 2 * ((x + y).abs() > 1e-5) + 4 * ((x - y).abs() > 1e-5)
    law = np.tile([3 / 16, 1 / 16], 4)
    assert scipy.stats.chisquare(code.bincount().numpy(), law * N).pvalue > NEVER


def test_flips_and_quarter_turns() -> None:
    m = matrices(make(xflip=1))
    torch.testing.assert_close(m[:, 0, 0].abs(), m[:, 1, 1])
    turns = torch.atan2(*(matrices(make(rotate90=1))[:, :2, 0].unbind(1)[::-1])) / (math.pi / 2)
    assert (turns - turns.round()).abs().max() < 1e-6
    assert scipy.stats.chisquare((turns.round() % 4).long().bincount().numpy()).pvalue > NEVER


def test_whole_pixel_shifts() -> None:
    m = matrices(make(xint=1))
    rounded_uniform(m[:, 0, 2], -WIDTH // 8, WIDTH // 8)
    rounded_uniform(m[:, 1, 2], -HEIGHT // 8, HEIGHT // 8)
    uncorrelated(m[:, 0, 2], m[:, 1, 2])


def test_shifts() -> None:
    m = matrices(make(xfrac=1))
    follows(m[:, 0, 2] / WIDTH, scipy.stats.norm(0, 0.125))
    follows(m[:, 1, 2] / HEIGHT, scipy.stats.norm(0, 0.125))
    uncorrelated(m[:, 0, 2], m[:, 1, 2])


def test_scales() -> None:
    m = matrices(make(scale=1))
    follows(m[:, 0, 0].log2(), scipy.stats.norm(0, 0.2))
    torch.testing.assert_close(m[:, 0, 0], m[:, 1, 1])
    m = matrices(make(aniso=1))
    follows(m[:, 0, 0].log2(), scipy.stats.norm(0, 0.2))
    torch.testing.assert_close(
        m[:, 0, 0] * m[:, 1, 1], torch.ones(N, dtype=torch.float64), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize('p,strength', [(0.1, 1), (0.5, 1), (0.9, 1), (0.5, 0.5)])
def test_rotation_before_and_after_aniso(p: float, strength: float) -> None:
    # With a stretch of a known size, M·Mᵀ is diagonal without the rotation on its left and Mᵀ·M
    # without that on its right.
    m = matrices(make(p, rotate=strength, aniso=100), ConstantNormals)
    left = (m @ m.mT)[:, 0, 1].abs() > 1e-6
    right = (m.mT @ m)[:, 0, 1].abs() > 1e-6
    each = 1 - math.sqrt(1 - p * strength)
    happens(left, each)
    happens(right, each)
    happens(left | right, p * strength)
    for angle in (
        torch.atan2(m[:, 1, 0], m[:, 0, 0])[left & ~right],
        torch.atan2(m[:, 1, 0], m[:, 1, 1])[right & ~left],
    ):
        follows(angle, UNIFORM_ANGLE)
        # there are too few to see a slightly smaller range otherwise
        assert angle.abs().max() > 0.98 * math.pi


def test_two_rotations() -> None:
    m = matrices(make(rotate=1))
    follows(torch.atan2(m[:, 1, 0], m[:, 0, 0]), UNIFORM_ANGLE)


def test_brightness_and_contrast() -> None:
    for black, white in [((0,), (1,)), ((0, 0, 0), (1, 1, 1))]:
        out = painted(make(brightness=1), *black)
        follows(out[:, 0], scipy.stats.norm(0, 0.2))
        assert (out == out[:, :1]).all()
        out = painted(make(contrast=1), *white)
        follows(out[:, 0].log2(), scipy.stats.norm(0, 0.5))
        assert (out == out[:, :1]).all()
        torch.testing.assert_close(painted(make(contrast=1), *black), torch.zeros_like(out))


def test_lumaflip() -> None:
    out = painted(make(lumaflip=1), 0.9, -0.3, 0.3)
    mirrored = torch.tensor([0.3, -0.9, -0.3], dtype=torch.float64)  # the luma is 0.3
    flipped = (out - mirrored).abs().amax(dim=1) < 1e-6
    happens(flipped, 1 / 2)
    assert ((out[~flipped] - torch.tensor([0.9, -0.3, 0.3])).abs() < 1e-6).all()


def test_hue_and_saturation() -> None:
    axes = torch.tensor([[1, 1, 1], [1, -1, 0], [1, 1, -2]], dtype=torch.float64)
    axes = axes / axes.norm(dim=1, keepdim=True)
    colour = (0.3 * axes[0] + 0.5 * axes[1]).tolist()
    luma, u, v = (painted(make(hue=1), *colour) @ axes.T).unbind(1)
    follows(torch.atan2(v, u), UNIFORM_ANGLE)
    assert (luma - 0.3).abs().max() < 1e-6 and (torch.hypot(u, v) - 0.5).abs().max() < 1e-6
    luma, u, v = (painted(make(saturation=1), *colour) @ axes.T).unbind(1)
    follows((u / 0.5).log2(), scipy.stats.norm(0, 1))
    assert (luma - 0.3).abs().max() < 1e-5 and v.abs().max() < 1e-5
    assert (painted(make(hue=1, saturation=1), 0.4) == 0.4).all()  # a grey picture has neither


@pytest.mark.parametrize('band', range(4))
def test_gain_of_a_band(band: int) -> None:
    """Normalisation divides all the gains alike, so their ratio is the drawn one."""
    g = gains(make(imgfilter=1, imgfilter_bands=[float(i == band) for i in range(4)]))
    others = g[:, [i for i in range(4) if i != band]]
    follows((g[:, band] / others[:, 0]).log2(), scipy.stats.norm(0, 1))
    torch.testing.assert_close(others[:, :1].expand(-1, 3), others)
    power = (g.square() * torch.tensor([10, 1, 1, 1]) / 13).sum(dim=1)  # of a natural picture
    torch.testing.assert_close(power, torch.ones_like(power), atol=1e-5, rtol=0)


def test_gains_of_all_bands() -> None:
    g = gains(make(imgfilter=1)).log2()
    for i in range(4):
        follows(g[:, i] - g[:, i - 1], scipy.stats.norm(0, math.sqrt(2)))
    uncorrelated(g[:, 0] - g[:, 1], g[:, 2] - g[:, 3])


def test_noise() -> None:
    added = make(noise=1)(torch.full([N, 3, 16, 16], 0.5)).double() - 0.5
    sigma = added.std(dim=(1, 2, 3))
    follows(sigma, scipy.stats.halfnorm(0, 0.1))
    white = added / sigma.reshape(-1, 1, 1, 1)
    follows(white[:100].flatten(), scipy.stats.norm(0, 1))
    for other in [white[:, 1, 0, 0], white[:, 0, 1, 0], white[:, 0, 0, 1]]:
        uncorrelated(white[:, 0, 0, 0], other)


def test_cutout() -> None:
    cut = masks(make(cutout=1))
    columns, rows = cut.any(dim=1), cut.any(dim=2)
    assert (cut == columns[:, None, :] & rows[:, :, None]).all()
    centres = []
    for line, size in [(columns, WIDTH), (rows, HEIGHT)]:
        first, end = line.int().argmax(dim=1), size - line.flip(1).int().argmax(dim=1)
        centre = torch.where(first > 0, first + size // 4, end - size // 4)  # rounded, in pixels
        rounded_uniform(centre, 0, size)
        torch.testing.assert_close(first, (centre - size // 4).clamp(min=0))
        torch.testing.assert_close(end, (centre + size // 4).clamp(max=size))
        centres.append(centre)
    uncorrelated(centres[0], centres[1])


# the filter needs 22 pixels
@pytest.mark.parametrize(
    'shape', [(2, 1, 22, 22), (2, 1, 22, 26), (1, 3, 22, 22), (1, 3, 26, 22)], ids=str
)
def test_second_derivative_of_the_whole_pipe(shape: tuple[int, ...]) -> None:
    pipe = make(**dict.fromkeys(AUGPIPES['bgcfnc'], 1.0)).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def fn(x: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return pipe(x)

    assert (fn(x) - x).abs().amax(dim=(1, 2, 3)).min() > 0.1
    assert torch.autograd.gradcheck(fn, x, atol=1e-8, rtol=1e-5, fast_mode=True)
    assert torch.autograd.gradgradcheck(fn, x, atol=1e-8, rtol=1e-5, fast_mode=True)
