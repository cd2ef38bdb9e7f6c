"""The ops against reference vectors, against their definitions, and their derivatives."""

import itertools

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from conftest import load_json, load_npz

from torch_utils.ops import (
    bias_act,
    conv2d_gradfix,
    conv2d_resample,
    fma,
    grid_sample_gradfix,
    upfirdn2d,
)

SPECS = load_json('ops')
IMPLS = ['ref', 'auto']
SYM6 = [
    0.0154,
    0.0035,
    -0.1180,
    -0.0483,
    0.4911,
    0.7876,
    0.3379,
    -0.0726,
    -0.0211,
    0.0447,
    0.0018,
    -0.0078,
]
FILTERS = {
    '4x4': [1, 3, 3, 1],
    '12': SYM6,
    '3x5': np.arange(15).reshape(3, 5) + 1.0,
    '1': None,
    '9x9 of rank 1': np.outer(np.arange(9) + 1, np.arange(9) + 2),
}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('i', range(len(SPECS['upfirdn2d'])))
def test_upfirdn2d_golden(i: int, impl: str) -> None:
    data, spec = load_npz('ops'), dict(SPECS['upfirdn2d'][i])
    name = spec.pop('filter')
    f = None if name == 'none' else torch.as_tensor(data[f'filter:{name}'])
    out = upfirdn2d.upfirdn2d(torch.as_tensor(data['x']), f, **spec, impl=impl)
    np.testing.assert_allclose(out.numpy(), data[f'out:{i}'], atol=1e-9)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('i', range(len(SPECS['bias_act'])))
def test_bias_act_golden(i: int, impl: str) -> None:
    data, spec = load_npz('ops'), dict(SPECS['bias_act'][i])
    b = torch.as_tensor(data['b']) if spec.pop('bias') else None
    out = bias_act.bias_act(torch.as_tensor(data['x']), b, **spec, impl=impl)
    np.testing.assert_allclose(out.numpy(), data[f'bias_act:{i}'], atol=1e-9)


@pytest.mark.parametrize('name', FILTERS)
@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('impl', IMPLS)
def test_upfirdn2d_is_scipys_convolution(name: str, flip: bool, impl: str) -> None:
    f = upfirdn2d.setup_filter(FILTERS[name])
    f2 = (f.ger(f) if f.ndim == 1 else f).double().numpy()
    x = random(1, 1, 10, 13)
    for (ux, uy), (dx, dy) in itertools.product([(1, 1), (2, 2), (3, 2)], [(1, 1), (2, 2), (1, 3)]):
        px0, px1, py0, py1 = 7, 9, 11, 8
        big = np.zeros([10 * uy, 13 * ux])
        big[::uy, ::ux] = x[0, 0].numpy()
        big = np.pad(big, [(py0, py1), (px0, px1)])
        want = (
            scipy.signal.convolve2d(big, f2[::-1, ::-1] if flip else f2, mode='valid')[::dy, ::dx]
            * 1.5
        )
        got = upfirdn2d.upfirdn2d(
            x,
            f,
            up=[ux, uy],
            down=[dx, dy],
            padding=[px0, px1, py0, py1],
            flip_filter=flip,
            gain=1.5,
            impl=impl,
        )
        np.testing.assert_allclose(got[0, 0].numpy(), want, atol=1e-6)  # the filter is float32


@pytest.mark.parametrize('seed', range(40))
def test_upfirdn2d_fast_is_ref(seed: int) -> None:
    rng = np.random.RandomState(seed)
    f = torch.as_tensor(rng.randn(*[int(k) for k in rng.randint(1, 10, size=2)])).float()
    up, down = [[int(k) for k in rng.randint(1, 4, size=2)] for _ in range(2)]
    padding = [int(k) for k in rng.randint(-3, 12, size=4)]
    x = random(2, 3, 9, 11, seed=seed)
    kwargs = dict(
        up=up, down=down, padding=padding, flip_filter=bool(rng.randint(2)), gain=float(rng.rand())
    )
    try:
        want = upfirdn2d.upfirdn2d(x, f, impl='ref', **kwargs)
    except RuntimeError:
        pytest.skip('the filter is larger than the padded picture')
    x.requires_grad_(True)
    got = upfirdn2d.upfirdn2d(x, f, impl='auto', **kwargs)
    torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)
    weight = random(*want.shape, seed=seed + 100)
    x_ref = x.detach().requires_grad_(True)
    upfirdn2d.upfirdn2d(x_ref, f, impl='ref', **kwargs).mul(weight).sum().backward()
    got.mul(weight).sum().backward()
    torch.testing.assert_close(x.grad, x_ref.grad, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        dict(up=2, padding=[2, 1, 2, 1]),
        dict(down=2, padding=1),
        dict(up=[2, 1], down=[1, 2], padding=[3, -1, 2, 2]),
    ],
)
def test_upfirdn2d_gradients(kwargs: dict, impl: str) -> None:
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    x = random(1, 2, 5, 6).requires_grad_(True)
    fn = lambda x: upfirdn2d.upfirdn2d(x, f, impl=impl, **kwargs) ** 2  # noqa: E731
    assert torch.autograd.gradcheck(fn, x) and torch.autograd.gradgradcheck(fn, x)


def test_resampling_keeps_constants_and_centres() -> None:
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    for y in [upfirdn2d.filter2d(x, f), upfirdn2d.upsample2d(x, f), upfirdn2d.downsample2d(x, f)]:
        assert y[0, 0, y.shape[2] // 2, y.shape[3] // 2].item() == pytest.approx(1)
    ramp = torch.arange(16, dtype=torch.float64).expand(1, 1, 16, 16)
    up, down = upfirdn2d.upsample2d(ramp, f), upfirdn2d.downsample2d(ramp, f)
    assert up[0, 0, 16, 16].item() == pytest.approx(7.75) and down[
        0, 0, 4, 4
    ].item() == pytest.approx(8.5)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('act', bias_act.activation_funcs)
@pytest.mark.parametrize('clamp', [None, 0.7])
def test_bias_act_gradients(act: str, clamp: float | None, impl: str) -> None:
    x, b = random(2, 3, 4).requires_grad_(True), random(3, seed=1).requires_grad_(True)
    fn = lambda x, b: bias_act.bias_act(x, b, act=act, clamp=clamp, impl=impl)  # noqa: E731
    assert torch.autograd.gradcheck(fn, (x, b)) and torch.autograd.gradgradcheck(
        fn, (x, b), atol=1e-4
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_bias_act_keeps_dtype_and_input(dtype: torch.dtype) -> None:
    x, b = random(2, 3, 4, 4).to(dtype), random(3).to(dtype)
    before = x.clone()
    for act, gain in itertools.product(bias_act.activation_funcs, [None, 1, 2.5, -1]):
        y = bias_act.bias_act(x, b, act=act, gain=gain)
        assert y.dtype == dtype and torch.equal(x, before)
        want = bias_act.bias_act(x, b, act=act, gain=gain, impl='ref')
        torch.testing.assert_close(
            y, want, atol=3e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-6, rtol=2e-2
        )
        bias_act.bias_act(x, act=act, gain=gain)
        assert torch.equal(x, before)


@pytest.mark.parametrize('transpose', [False, True])
@pytest.mark.parametrize('stride,padding,groups', [(1, 1, 1), (2, 0, 1), (2, 1, 2), (1, 0, 2)])
def test_conv_is_torchs(transpose: bool, stride: int, padding: int, groups: int) -> None:
    ours, theirs = [
        (conv2d_gradfix.conv2d, F.conv2d),
        (conv2d_gradfix.conv_transpose2d, F.conv_transpose2d),
    ][transpose]
    x, b = random(2, 4, 6, 7).requires_grad_(True), random(4, seed=2)
    w = random(4, 4 // groups, 3, 3, seed=1).requires_grad_(True)
    b = b if groups == 1 or not transpose else random(w.shape[1] * groups, seed=2)
    kwargs = dict(stride=stride, padding=padding, groups=groups)
    torch.testing.assert_close(ours(x, w, b, **kwargs), theirs(x, w, b, **kwargs))
    fn = lambda x, w: ours(x, w, **kwargs)  # noqa: E731
    assert torch.autograd.gradcheck(fn, (x, w)) and torch.autograd.gradgradcheck(
        fn, (x, w), fast_mode=True
    )


def test_no_weight_gradients() -> None:
    x, w = random(1, 2, 5, 5).requires_grad_(True), random(2, 2, 3, 3).requires_grad_(True)
    with conv2d_gradfix.no_weight_gradients():
        (dx,) = torch.autograd.grad(
            conv2d_gradfix.conv2d(x, w).square().sum(), x, create_graph=True
        )
        y = conv2d_gradfix.conv2d(x, w).sum()
        y.backward()
        assert w.grad is None and x.grad is not None
    dx.square().sum().backward()  # the second derivative reaches the weights all the same
    assert w.grad is not None and w.grad.abs().sum() > 0


@pytest.mark.parametrize('up,down', [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
@pytest.mark.parametrize('kernel', [1, 3])
@pytest.mark.parametrize('flip_weight', [False, True])
def test_conv2d_resample_is_its_steps(up: int, down: int, kernel: int, flip_weight: bool) -> None:
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    x, pad = random(2, 4, 8, 9), kernel // 2
    for groups in (1, 2):
        w = random(6, 4 // groups, kernel, kernel, seed=1)
        reach = [pad] * 4
        for factor, before, after in [
            (up, (4 + up - 1) // 2, (4 - up) // 2),
            (down, (4 - down + 1) // 2, (4 - down) // 2),
        ]:
            reach = [p + q for p, q in zip(reach, [before, after] * 2)] if factor > 1 else reach
        y = (
            upfirdn2d.upfirdn2d(x, f, up=up, padding=reach, gain=up**2, impl='ref')
            if up > 1
            else F.pad(x, reach)
        )
        if down > 1 and up == 1:
            y = upfirdn2d.upfirdn2d(y, f, impl='ref')
        y = F.conv2d(y, w if flip_weight else w.flip([2, 3]), groups=groups)
        y = (
            upfirdn2d.upfirdn2d(y, f, down=down, impl='ref')
            if up > 1 and down > 1
            else y[:, :, ::down, ::down]
        )
        got = conv2d_resample.conv2d_resample(
            x, w, f, up=up, down=down, padding=pad, groups=groups, flip_weight=flip_weight
        )
        torch.testing.assert_close(got, y, atol=1e-6, rtol=1e-6)


def test_grid_sample() -> None:
    x, grid = (
        random(2, 3, 5, 6).requires_grad_(True),
        (torch.rand(2, 4, 7, 2, dtype=torch.float64) * 2.4 - 1.2),
    )
    torch.testing.assert_close(
        grid_sample_gradfix.grid_sample(x, grid), F.grid_sample(x, grid, align_corners=False)
    )
    fn = lambda x: grid_sample_gradfix.grid_sample(x, grid) ** 2  # noqa: E731
    assert torch.autograd.gradcheck(fn, x) and torch.autograd.gradgradcheck(fn, x)
    grid.requires_grad_(True)
    assert torch.autograd.gradcheck(grid_sample_gradfix.grid_sample, (x, grid))


def test_fma_broadcasts() -> None:
    a, b, c = (
        random(2, 3, 1).requires_grad_(True),
        random(3, 4).requires_grad_(True),
        random(1).requires_grad_(True),
    )
    torch.testing.assert_close(fma.fma(a, b, c), a * b + c)
    assert torch.autograd.gradcheck(fma.fma, (a, b, c)) and torch.autograd.gradgradcheck(
        fma.fma, (a, b, c)
    )
