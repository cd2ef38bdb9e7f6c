"""The augmentation pipe against reference vectors."""

import pytest
import torch
from conftest import GOLDEN, load_npz

from training.ada import AdaController
from training.augment import AugmentPipe
from training.config import AUGPIPES
from training.snapshots import load_networks

DATA = load_npz('augment')
GROUPS = {**AUGPIPES, 'bgcf+cutout': (*AUGPIPES['bgcf'], 'cutout')}


@pytest.mark.parametrize('key', [key for key in DATA if '|' in key])
def test_golden(key: str) -> None:
    name, percentile, channels = key.split('|')
    pipe = AugmentPipe(**dict.fromkeys(GROUPS.get(name, [name]), 1))
    out = pipe(torch.as_tensor(DATA[f'in{channels[1:]}']), debug_percentile=float(percentile[1:]))
    torch.testing.assert_close(out, torch.as_tensor(DATA[key]), atol=1e-4, rtol=0)


def test_p_scales_everything() -> None:
    pipe, images = (
        AugmentPipe(**dict.fromkeys(GROUPS['bgcfnc'], 1)),
        torch.nn.functional.interpolate(torch.randn(8, 3, 8, 8), size=32, mode='bicubic'),
    )
    assert pipe.p == 1
    strong = pipe(images)
    pipe.p.zero_()
    weak = pipe(images)
    # at p = 0 only the two resamplings are left
    assert (weak - images).abs().mean() < 0.1 * (strong - images).abs().mean()
    pipe = AugmentPipe(**dict.fromkeys([*GROUPS['color'], 'noise', 'cutout', 'imgfilter'], 1))
    pipe.p.zero_()
    torch.testing.assert_close(pipe(images), images, atol=1e-4, rtol=1e-4)


def test_each_picture_has_its_own_draw() -> None:
    torch.manual_seed(0)
    pipe = AugmentPipe(xflip=1)
    image = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)
    out = pipe(image.repeat(64, 1, 1, 1))
    flipped = (out - image.flip(3)).abs().amax(dim=(1, 2, 3)) < 0.2
    kept = (out - image).abs().amax(dim=(1, 2, 3)) < 0.2
    assert (flipped ^ kept).all() and 16 < flipped.sum() < 48


@pytest.mark.parametrize('group', ['bg', 'color', 'filter', 'cutout'])
def test_second_derivative(group: str) -> None:
    pipe = AugmentPipe(**dict.fromkeys(GROUPS[group], 1)).double()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64, requires_grad=True)
    if group == 'filter':
        # the filter reaches 21 pixels
        x = torch.randn(1, 1, 24, 24, dtype=torch.float64, requires_grad=True)
    fn = lambda x: pipe(x, debug_percentile=0.7)  # noqa: E731
    assert torch.autograd.gradcheck(
        fn, x, atol=1e-4, fast_mode=True
    ) and torch.autograd.gradgradcheck(fn, x, atol=1e-4, fast_mode=True)


def test_buffers_are_the_references() -> None:
    theirs, ours = load_networks(GOLDEN / 'ada-cond-32.pkl').augment_pipe, AugmentPipe()
    assert theirs is not None and theirs.xflip == 1.0 and theirs.imgfilter == 0.0
    torch.testing.assert_close(theirs.Hz_fbank, ours.Hz_fbank, atol=1e-6, rtol=0)
    torch.testing.assert_close(theirs.Hz_geom, ours.Hz_geom, atol=1e-6, rtol=0)


def test_names_of_pipes() -> None:
    assert [
        len(AUGPIPES[name])
        for name in ('blit', 'geom', 'color', 'bg', 'bgc', 'bgcf', 'bgcfn', 'bgcfnc')
    ] == [3, 4, 5, 7, 12, 13, 14, 15]
    for names in AUGPIPES.values():
        AugmentPipe(**dict.fromkeys(names, 1))


def test_ada_controller() -> None:
    p = torch.tensor(0.5)
    ada = AdaController(p, target=0.6, kimg=1)
    ada.observe(torch.ones(64, 1))  # D is sure of the reals: more augmentation
    ada.step(100)
    assert p.item() == pytest.approx(0.6)
    ada.observe(torch.cat([torch.ones(6, 1), -torch.ones(4, 1)]))  # E[sign] = 0.2 < 0.6
    ada.step(100)
    ada.observe(-torch.ones(64, 1))
    ada.step(200)
    assert p.item() == pytest.approx(0.3)
    for sign, end in [(1, 1.0), (-1, 0.0)]:
        for _ in range(20):
            ada.observe(torch.full([4, 1], float(sign)))
            ada.step(100)
        assert p.item() == end  # p is a probability


@pytest.mark.parametrize('shape', [(4, 3, 32, 32), (2, 1, 16, 32)])
def test_wide_margins_change_nothing(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU does so as not to wait: pad as far as reflection goes, whatever was drawn."""
    pipe = AugmentPipe(
        xflip=1,
        rotate90=1 if shape[2] == shape[3] else 0,
        xint=1,
        scale=1,
        rotate=1,
        aniso=1,
        xfrac=1,
    )
    images = torch.rand(shape) * 2 - 1
    results = []
    for wide in (False, True):
        if wide:
            monkeypatch.setattr(
                AugmentPipe,
                '_margins',
                staticmethod(lambda x, inverse, reach: (x.shape[3] - 1, x.shape[2] - 1) * 2),
            )
        torch.manual_seed(3)
        results.append(pipe(images))
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=0)
