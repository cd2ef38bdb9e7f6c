"""The CUDA kernels without a GPU: their text run on the CPU, compiled for every architecture, their
derivatives, their loaders.
"""

import contextlib
import ctypes
import itertools
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import unittest.mock
from pathlib import Path
from typing import Any

import host_kernels
import pytest
import torch
from conftest import GOLDEN
from torch._subclasses.fake_tensor import FakeTensorMode

from dnnlib import UserError
from torch_utils import custom_ops
from torch_utils.ops import affine_sample, bias_act, conv2d_gradfix, modulated_act, upfirdn2d
from training.augment import AugmentPipe
from training.config import AUGPIPES
from training.snapshots import load_networks

ARCHS = ['75', '80', '86', '89', '90', '100', '120']
INSTANCES = [
    ('bias_act.cu', 'bias_act<half_t, LRELU, 0, 8, NEIGHBOURS, unsigned>'),
    ('bias_act.cu', 'bias_act<float, LRELU, 1, 4, NO_BIAS, int64>'),
    ('bias_act.cu', 'bias_act<bfloat16_t, SWISH, 2, 1, ANY_BIAS, unsigned>'),
    ('bias_act.cu', 'bias_act<double, SOFTPLUS, 0, 2, SAME_BIAS, unsigned>'),
    ('bias_act.cu', 'bias_act_grad_sums<half_t, 8>'),
    ('upfirdn2d.cu', 'upfirdn2d_general<half_t>'),
    ('upfirdn2d.cu', 'upfirdn2d_separable<half_t, 1, 1, 4, 8, 8>'),
    ('upfirdn2d.cu', 'upfirdn2d_separable<half_t, 2, 1, 4, 8, 8>'),
    ('upfirdn2d.cu', 'upfirdn2d_separable<bfloat16_t, 1, 2, 4, 8, 8>'),
    ('upfirdn2d.cu', 'upfirdn2d_separable<float, 2, 1, 12, 8, 1>'),
    ('modulated_act.cu', 'modulated_act<half_t, 8>'),
    ('modulated_act.cu', 'modulated_act_grad<half_t, 8>'),
    ('modulated_act.cu', 'modulated_act_grad<float, 1>'),
    ('modulated_act.cu', 'modulated_act_grad2<half_t, 8>'),
    ('affine_sample.cu', 'affine_sample<float>'),
    ('affine_sample.cu', 'affine_sample_transposed<float, 3>'),
    ('affine_sample.cu', 'affine_sample_transposed<half_t, 1>'),
    ('affine_sample.cu', 'affine_sample<double>'),
]
# the filters are float32
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}

needs_compiler = pytest.mark.skipif(host_kernels.COMPILER is None, reason='needs a C++ compiler')


@pytest.fixture
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Kernels run on the CPU; returns the names of those that did."""
    used: set[str] = set()

    def get_kernel(source: str, name: str, device_index: int | None) -> custom_ops.Kernel:
        used.add(name)
        return host_kernels.get_kernel(source, name, device_index)

    monkeypatch.setattr(custom_ops, 'get_kernel', get_kernel)
    return used


def normal(shape: list[int], dtype: torch.dtype, channels_last: bool, seed: int) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def assert_near(
    result: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, times: float = 1.0
) -> None:
    assert result.dtype == dtype and result.shape == expected.shape
    error = (result.double() - expected).abs().max() / (expected.abs().max() + 1e-3)
    assert error < times * TOLERANCE[dtype], error


# ----------------------------------------------------------------------------
# Their text, run on the CPU


@needs_compiler
@pytest.mark.parametrize(
    'shape,channels_last,dtype,bias',
    [
        ([2, 16, 5, 7], True, torch.float16, 'NEIGHBOURS'),
        ([2, 3, 4, 4], False, torch.float32, 'SAME_BIAS'),
        ([4, 3, 5, 6], True, torch.bfloat16, 'ANY_BIAS'),
        ([7, 10], False, torch.float64, 'NEIGHBOURS'),
        ([3, 5, 3, 3], False, torch.float16, 'ANY_BIAS'),
    ],
)
@pytest.mark.parametrize('act', ['lrelu', 'swish'])
@pytest.mark.parametrize('clamp', [bias_act.NO_CLAMP, 0.8])
def test_bias_act(
    shape: list[int],
    channels_last: bool,
    dtype: torch.dtype,
    bias: str,
    act: str,
    clamp: float,
    on_the_host: set[str],
) -> None:
    x, dy, ddx = (normal(shape, dtype, channels_last, seed) for seed in range(3))
    b = normal([shape[1]], dtype, False, 3)
    settings = (1, act, 0.2, 1.3, clamp)
    check_bias_act(x, dy, ddx, b, settings, dtype)
    width = 16 // x.element_size() if x.numel() % (16 // x.element_size()) == 0 else 1
    bias = bias if width > 1 else 'SAME_BIAS'
    assert (
        f'bias_act<{custom_ops.TYPES[dtype]}, {act.upper()}, 0, {width}, {bias}, unsigned>'
        in on_the_host
    )


@needs_compiler
@pytest.mark.parametrize(
    'act', [act for act in bias_act.activation_funcs if act not in ('lrelu', 'swish')]
)
def test_activations(act: str, on_the_host: set[str]) -> None:
    x, dy, ddx = (normal([4, 6], torch.float64, False, seed) * 3 for seed in range(3))
    check_bias_act(x, dy, ddx, None, (1, act, 0.2, 1.3, 1.5), torch.float64)


def check_bias_act(
    x: torch.Tensor,
    dy: torch.Tensor,
    ddx: torch.Tensor,
    b: torch.Tensor | None,
    settings: tuple,
    dtype: torch.dtype,
) -> None:
    wide = [None if tensor is None else tensor.double() for tensor in (x, dy, ddx, b)]
    y = bias_act._bias_act_cuda(x, b, *settings)
    assert y.stride() == x.stride()
    assert_near(y, bias_act._bias_act_cpu(wide[0], wide[3], *settings), dtype)
    # for the wide ones, the limit as it is stored
    settings = (*settings[:4], float(torch.tensor(settings[4], dtype=dtype)))
    piecewise = settings[1] in bias_act._PIECEWISE
    ref, wide_ref, b, wide_b = (
        (y, y.double(), None, None) if piecewise else (x, wide[0], b, wide[3])
    )
    assert_near(
        bias_act._bias_act_grad_cuda(dy, ref, b, *settings),
        bias_act._bias_act_grad_cpu(wide[1], wide_ref, wide_b, *settings),
        dtype,
    )
    if not piecewise:
        assert_near(
            bias_act._bias_act_grad2_cuda(ddx, dy, ref, b, *settings),
            bias_act._bias_act_grad2_cpu(wide[2], wide[1], wide_ref, wide_b, *settings),
            dtype,
        )


@needs_compiler
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_clamped_results_have_no_gradient(dtype: torch.dtype, on_the_host: set[str]) -> None:
    """Also where the limit isn't a number of that dtype, and is rounded down: 256 / sqrt(2), of the
    discriminator's blocks.
    """
    x = (
        torch.tensor([[[[300.0]], [[-2000.0]], [[1.0]], [[300.0]]]])
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
    )
    dy, clamp = torch.ones_like(x), 256 * 0.5**0.5
    y = bias_act._bias_act_cuda(x, None, 1, 'lrelu', 0.2, 1.0, clamp)
    for gradient in (bias_act._bias_act_grad_cuda, bias_act._bias_act_grad_cpu):
        assert gradient(dy, y, None, 1, 'lrelu', 0.2, 1.0, clamp).flatten().tolist() == [0, 0, 1, 0]
    x.requires_grad_(True)
    y = modulated_act.modulated_act(x, torch.ones([1, 4]), act='lrelu', clamp=clamp)
    assert torch.autograd.grad(y, x, dy)[0].flatten().tolist() == [0, 0, 1, 0]


@needs_compiler
@pytest.mark.parametrize('dtype', list(TOLERANCE))
@pytest.mark.parametrize('shape', [[2, 16, 33, 31], [3, 5, 4, 4], [1, 8, 1, 1], [5, 16, 128, 129]])
@pytest.mark.parametrize('act,clamp', [('lrelu', -1.0), ('relu', 0.5), ('linear', 0.75)])
def test_gradients_with_their_sums(
    dtype: torch.dtype, shape: list[int], act: str, clamp: float, on_the_host: set[str]
) -> None:
    y, dy = normal(shape, dtype, True, 0), normal(shape, dtype, False, 1)
    settings = act, 0.2, 1.5, clamp
    dx, db = bias_act._bias_act_grad_sums_cuda(dy, y, *settings)
    wide = bias_act._bias_act_grad_cpu(
        dy.double(), y.double(), None, 1, act, 0.2, 1.5, float(torch.tensor(clamp, dtype=dtype))
    )
    assert_near(dx, wide, dtype)
    assert_near(db, wide.sum(dim=(0, 2, 3)), dtype)
    assert dx.stride() == y.stride() and len(on_the_host) == 1


@needs_compiler
def test_bias_act_of_another_layout_and_alignment(on_the_host: set[str]) -> None:
    x = normal([2, 8, 6, 5], torch.float32, False, 0)
    settings = (1, 'lrelu', 0.2, 1.0, bias_act.NO_CLAMP)
    b = normal([8], torch.float32, False, 1)
    for other in [
        x.transpose(2, 3),
        x[:, :, 1:],
        torch.empty(481)[1:].copy_(x.flatten()).reshape(x.shape),
    ]:
        assert_near(
            bias_act._bias_act_cuda(other, b, *settings),
            bias_act._bias_act_cpu(other, b, *settings).double(),
            torch.float32,
        )
    y = bias_act._bias_act_cuda(x, b, *settings)
    # a gradient laid out in another way than the result
    dy = normal([2, 8, 6, 5], torch.float32, True, 2)
    assert_near(
        bias_act._bias_act_grad_cuda(dy, y, None, *settings),
        bias_act._bias_act_grad_cpu(dy, y, None, *settings).double(),
        torch.float32,
    )
    assert bias_act._bias_act_cuda(x[:0], b, *settings).shape == (0, 8, 6, 5)


@needs_compiler
def test_upfirdn2d(on_the_host: set[str]) -> None:
    """Random sizes, strides, filters, factors and paddings, those that crop among them."""
    draw = random.Random(0)
    matrix = torch.Generator().manual_seed(0)
    filters = [
        torch.tensor([1.0, 3, 3, 1]) / 8,
        torch.randn([4, 1], generator=matrix) * torch.randn(4, generator=matrix),
        torch.randn([3, 5], generator=matrix),
        torch.randn(12, generator=matrix),
        torch.randn(14, generator=matrix),
        torch.ones([1, 1]),
    ]
    tried = 0
    factors = [
        ([1, 1], [1, 1]),
        ([2, 2], [1, 1]),
        ([1, 1], [2, 2]),
        ([2, 1], [1, 3]),
        ([3, 2], [2, 2]),
    ]
    # channels, channels_last, step between columns
    layouts = [(3, False, 1), (8, False, 2), (16, True, 1), (3, True, 1), (8, True, 2)]
    for dtype, f, (up, down), (channels, channels_last, step) in itertools.product(
        [torch.float32, torch.float16], filters, factors, layouts
    ):
        x = normal(
            [draw.randint(1, 2), channels, draw.randint(1, 20), draw.randint(1, 20)],
            dtype,
            channels_last,
            draw.randrange(1000),
        )
        x = x[:, :, :, ::step]
        padding = [draw.randint(-3, 8) for _ in range(4)]
        (fw, fh), (height, width) = upfirdn2d._filter_size(f), x.shape[2:]
        padding[1] += max(
            fw - (width * up[0] + padding[0] + padding[1]),
            1 - (width * up[0] + min(padding[0], 0) + min(padding[1], 0)),
            0,
        )
        padding[3] += max(
            fh - (height * up[1] + padding[2] + padding[3]),
            1 - (height * up[1] + min(padding[2], 0) + min(padding[3], 0)),
            0,
        )
        settings = (up, down, padding, draw.random() < 0.5, 1.7)
        try:
            expected = upfirdn2d._upfirdn2d_cpu(x.double(), f.double(), *settings)
        # a picture that is cropped to nothing before it is padded, which the definition doesn't do
        except RuntimeError:
            continue
        result = upfirdn2d._upfirdn2d_cuda(x, f, *settings)
        assert_near(result, expected, dtype)
        assert result.shape == upfirdn2d._upfirdn2d_fake(x, f, *settings).shape
        tried += 1
    assert tried > 280
    for instance in [
        'general<float>',
        'general<half_t>',
        *(
            f'separable<half_t, {up}, {down}, {taps}, 8, {width}>'
            for up, down in upfirdn2d._SPECIALISED
            for taps, width in [(4, 1), (4, 8), (12, 1), (12, 4)]
        ),
    ]:
        assert f'upfirdn2d_{instance}' in on_the_host


@needs_compiler
@pytest.mark.parametrize(
    'shape,seed',
    [
        ([4, 3, 16, 16], 0),
        ([2, 1, 9, 20], 1),
        ([3, 6, 24, 24], 2),
        ([2, 3, 1, 5], 3),
        ([2, 3, 16, 16], 4),
    ],
)
def test_affine_sample(
    shape: list[int], seed: int, on_the_host: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Augmentation with and without the kernels: the pictures, and the gradients of gradients."""
    names = [name for name in AUGPIPES['bgc'] if shape[1] in (1, 3) or name in AUGPIPES['bg']]
    pipe = AugmentPipe(**{**dict.fromkeys(names, 1.0), 'scale_std': 1.5 if seed == 4 else 0.2})
    monkeypatch.setattr(
        AugmentPipe,
        '_margins',
        staticmethod(lambda x, inverse, reach: (x.shape[3] - 1, x.shape[2] - 1) * 2),
    )
    results = []
    for fused in (False, True):
        monkeypatch.setattr(affine_sample, 'available', lambda x, f, fused=fused: fused)
        images = normal(shape, torch.float32, fused and seed == 2, seed).requires_grad_(True)
        torch.manual_seed(seed)
        augmented = pipe(images)
        (gradient,) = torch.autograd.grad(
            (augmented.cos() * normal(shape, torch.float32, False, 9)).sum(),
            images,
            create_graph=True,
        )
        (second,) = torch.autograd.grad(gradient.square().sum(), images)
        results.append([augmented.detach(), gradient.detach(), second])
    for plain, fused in zip(*results):
        # a position is rounded in another place
        assert_near(fused, plain.double(), torch.float32, times=10)
    assert {
        'affine_sample<float>',
        f'affine_sample_transposed<float, {1 if shape[1] == 1 else 3}>',
    } <= on_the_host


@needs_compiler
@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_affine_sample_is_the_transpose_of_its_gradient(
    dtype: torch.dtype, on_the_host: set[str]
) -> None:
    matrices = torch.tensor(
        [
            [[1, 0, 0], [0, 1, 0]],
            [[0, -1, 30], [1, 0, -3]],
            [[0.2, 0.1, 3], [-0.1, 0.3, 5]],
            [[2.5, -1, 9], [2, 3, -40]],
            # the last two have no inverse
            [[1, 1, 0], [1, 1, 0]],
            [[0, 0, 7], [0, 0, 3.5]],
        ],
        dtype=torch.float32,
    )
    x, y = (
        normal([6, 2, 11, 15], dtype, True, 0).requires_grad_(True),
        normal([6, 2, 20, 24], dtype, True, 1),
    )
    f = normal([12], torch.float32, False, 2)
    samples = affine_sample.affine_sample(x, matrices, f, [20, 24])
    (gradient,) = torch.autograd.grad(samples, x, y)
    one, other = (
        (samples.double() * y).sum(dim=(1, 2, 3)),
        (gradient.double() * x).sum(dim=(1, 2, 3)),
    )
    scale = (samples.double() * y).norm() + 1e-3
    assert (
        (one - other).abs() / scale < 3 * TOLERANCE[dtype]
    ).all() and samples.dtype == gradient.dtype == dtype
    assert affine_sample.affine_sample(x[:0], matrices[:0], f, [20, 24]).shape == (0, 2, 20, 24)


def composed(
    x: torch.Tensor,
    scale: torch.Tensor,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor,
    **act: Any,
) -> torch.Tensor:
    x = (
        x * scale[:, :, None, None]
        if noise is None
        else x * scale[:, :, None, None] + noise * strength
    )
    return bias_act.bias_act(x, b, impl='ref', **act)


@needs_compiler
@pytest.mark.parametrize(
    'shape,dtype,noise',
    [
        ([2, 16, 5, 7], torch.float16, [5, 7]),
        ([2, 3, 9, 4], torch.float32, [2, 1, 9, 4]),
        ([3, 8, 32, 33], torch.bfloat16, [1, 1, 32, 33]),
        ([2, 6, 33, 40], torch.float64, None),
        ([1, 5, 4, 4], torch.float64, [4, 4]),
    ],
)
@pytest.mark.parametrize('act,clamp', [('lrelu', None), ('lrelu', 1.0), ('linear', 0.75)])
def test_modulated_act(
    shape: list[int],
    dtype: torch.dtype,
    noise: list[int] | None,
    act: str,
    clamp: float | None,
    on_the_host: set[str],
) -> None:
    """The result, its gradients in one pass and as ops, and the gradients of those."""
    if clamp is not None and dtype.itemsize == 2:
        # where numbers are coarse, some reach the limit by rounding, and their gradients are zeros
        clamp *= 100
    settings: dict[str, Any] = dict(act=act, gain=1.3, clamp=clamp)
    drawn = [
        normal(size, torch.float32, False, i)
        for i, size in enumerate([shape, shape[:2], noise or [1], [], [shape[1]], shape])
    ]
    results = []
    for op, kind in [(modulated_act.modulated_act, dtype), (composed, torch.float64)]:
        x, scale, n, strength, b, dy = (
            value.to(dtype if i in (0, 5) else torch.float32).to(
                kind if i in (0, 5) or op is composed else torch.float32
            )
            for i, value in enumerate(drawn)
        )
        x = x.contiguous(memory_format=torch.channels_last)
        inputs = [
            tensor.requires_grad_(True) for tensor in (x, scale, b, *((strength,) if noise else ()))
        ]
        dy = dy.requires_grad_(True)
        y = op(x, scale, n if noise else None, strength if noise else None, b, **settings)
        once = torch.autograd.grad(y, inputs, dy, retain_graph=True)
        again = torch.autograd.grad(y, inputs, dy, create_graph=True)
        second = torch.autograd.grad(
            sum(gradient.square().sum() for gradient in again[:2]),
            [*inputs[:2], dy],
            retain_graph=True,
        )
        slowly = torch.autograd.grad(
            sum(gradient.square().sum() for gradient in again), [*inputs[:2], dy], create_graph=True
        )
        third = torch.autograd.grad(slowly[2].square().mean(), [*inputs[:2], dy])
        assert op is composed or y.stride() == x.stride()
        results.append([y, *once, *again, *second, *slowly, *third])
    for found, expected in zip(*results):
        assert_near(
            found.double(),
            expected.double(),
            torch.float64,
            times=3 * TOLERANCE[dtype] / TOLERANCE[torch.float64],
        )
    width = 16 // results[0][0].element_size()
    for name in ('modulated_act_grad', 'modulated_act_grad2'):
        assert (
            f'{name}<{custom_ops.TYPES[dtype]}, {width if shape[1] % width == 0 else 1}>'
            in on_the_host
        )


@needs_compiler
def test_modulated_act_with_a_scale_alone(on_the_host: set[str]) -> None:
    x = normal([2, 8, 5, 5], torch.float64, True, 0).requires_grad_(True)
    scale = normal([2, 8], torch.float32, False, 1).requires_grad_(True)
    y, dy = modulated_act.modulated_act(x, scale), normal([2, 8, 5, 5], torch.float64, False, 2)
    assert_near(y, x * scale[:, :, None, None], torch.float64)
    dx, d_scale = torch.autograd.grad(y, [x, scale], dy, retain_graph=True)
    assert_near(dx, dy * scale[:, :, None, None], torch.float64)
    assert_near(d_scale, (dy * x).sum(dim=(2, 3)), torch.float32)
    first = torch.autograd.grad(y, [x, scale], dy, create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), [x, scale])
    expected = torch.autograd.grad(
        (dy * scale[:, :, None, None]).square().sum() + (dy * x).sum(dim=(2, 3)).square().sum(),
        [x, scale],
    )
    assert_near(second[0], expected[0], torch.float64)
    assert_near(second[1], expected[1].double(), torch.float32)


@needs_compiler
@pytest.mark.parametrize('noise_mode', ['const', 'random', 'none'])
def test_generator_is_the_same_with_and_without_kernels(
    noise_mode: str, on_the_host: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a generator computes, and what path length regularisation needs of it."""
    G = load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema
    results = []
    for fused in (False, True):
        monkeypatch.setattr(modulated_act, 'available', lambda x, noise, act, fused=fused: fused)
        torch.manual_seed(0)
        ws = torch.randn([2, G.num_ws, G.w_dim]).requires_grad_(True)
        parameters = [p for p in G.synthesis.parameters() if p.requires_grad_(True).ndim != 0]
        images = G.synthesis(ws, noise_mode=noise_mode)
        (gradient,) = torch.autograd.grad(images.sum(), ws, create_graph=True)
        second = torch.autograd.grad(
            gradient.square().sum(), parameters, allow_unused=True, retain_graph=True
        )
        results.append(
            [
                images,
                gradient,
                *torch.autograd.grad(images.square().sum(), parameters),
                *(value for value in second if value is not None),
            ]
        )
    assert len(results[0]) == len(results[1])
    for plain, found in zip(*results):
        assert_near(found, plain.double(), torch.float32, times=3)
    assert {'modulated_act<float, 4>', 'modulated_act_grad<float, 4>'} <= on_the_host


@needs_compiler
def test_a_single_picture_takes_the_kernels_where_there_are_some(
    on_the_host: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    G = load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema.eval()
    z = torch.randn([1, G.z_dim], generator=torch.Generator().manual_seed(0))
    results = []
    with torch.no_grad():
        for fused in (False, True):
            monkeypatch.setattr(modulated_act, 'has_kernels', lambda device, fused=fused: fused)
            monkeypatch.setattr(
                modulated_act, 'available', lambda x, noise, act, fused=fused: fused
            )
            results.append(G(z, None, noise_mode='const'))
            assert ('modulated_act<float, 4>' in on_the_host) == fused
    assert_near(results[1], results[0].double(), torch.float32, times=3)


@pytest.mark.slow
@needs_compiler
def test_tests_for_gpus_pass_with_the_kernels_run_on_the_cpu() -> None:
    """Those of what the kernels compute, golden losses in half precision among them.

    They run in a process of their own, whose CPU passes for a GPU (`helpers/on_the_cpu.py`).
    """
    here = Path(__file__).parents[1]
    chosen = ['-k', 'golden or modulated_act or affine_sample or test_upfirdn2d']
    plugins = ['-p', 'on_the_cpu', '-p', 'no:cacheprovider']
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', *plugins, *chosen, 'tests/torch_utils/test_gpu.py'],
        capture_output=True,
        text=True,
        cwd=here.parent,
        env={
            **os.environ,
            'STYLEGAN_TEST_DEVICE': 'cpu',
            'PYTHONPATH': os.pathsep.join(map(str, (here / 'helpers', here.parent))),
        },
    )
    assert result.returncode == 0 and re.search(r'2\d passed', result.stdout), result.stdout


def test_upfirdn2d_names_a_filter_that_is_too_large() -> None:
    with pytest.raises(ValueError, match='larger than the padded picture'):
        upfirdn2d._output_size(
            torch.zeros([1, 1, 3, 3]), torch.ones(5), [1, 1], [1, 1], [0, 0, 0, 0]
        )


def test_filters_follow_their_tensor() -> None:
    f = torch.tensor([1.0, 2, 3])
    assert [x.tolist() for x in upfirdn2d._filters_for_kernels(f, False)] == [[3, 2, 1, 0]] * 2
    assert [x.tolist() for x in upfirdn2d._filters_for_kernels(f, True)] == [[1, 2, 3, 0]] * 2
    f.mul_(2)
    assert upfirdn2d._filters_for_kernels(f, True)[0].tolist() == [2, 4, 6, 0]


# ----------------------------------------------------------------------------
# As ops of PyTorch


@pytest.mark.parametrize('act', bias_act.activation_funcs)
@pytest.mark.parametrize('clamp', [bias_act.NO_CLAMP, 1.2])
@pytest.mark.parametrize('channels_last', [False, True])
def test_derivatives_of_bias_act(act: str, clamp: float, channels_last: bool) -> None:
    x = normal([2, 3, 2, 2], torch.float64, channels_last, 0).requires_grad_(True)
    b = normal([3], torch.float64, False, 1).requires_grad_(True)

    def op(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.ops.stylegan.bias_act(x, b, 1, act, 0.2, 1.3, clamp)

    torch.testing.assert_close(
        op(x, b), bias_act._bias_act_ref(x, b, 1, act, 0.2, 1.3, clamp if clamp >= 0 else None)
    )
    assert torch.autograd.gradcheck(op, [x, b])
    assert torch.autograd.gradgradcheck(op, [x, b])


@pytest.mark.parametrize(
    'up,down', [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 1], [2, 2]), ([3, 2], [2, 1])]
)
def test_derivatives_of_upfirdn2d(up: list[int], down: list[int]) -> None:
    x = normal([1, 2, 5, 4], torch.float64, False, 0).requires_grad_(True)
    f = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)

    def op(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.stylegan.upfirdn2d(x, f, up, down, [2, 1, -1, 3], False, 1.5)

    assert torch.autograd.gradcheck(op, [x])
    assert torch.autograd.gradgradcheck(op, [x])


def test_ops_obey_pytorchs_rules() -> None:
    x, b = torch.randn([2, 3, 4, 4], requires_grad=True), torch.randn([3], requires_grad=True)
    torch.library.opcheck(torch.ops.stylegan.bias_act, (x, b, 1, 'lrelu', 0.2, 1.0, 2.0))
    torch.library.opcheck(torch.ops.stylegan.bias_act, (x, b, 1, 'swish', 0.0, 1.0, -1.0))
    torch.library.opcheck(
        torch.ops.stylegan.bias_act_grad_sums,
        (x.detach(), x.detach().square(), 'lrelu', 0.2, 1.0, 2.0),
    )
    for layout in (torch.contiguous_format, torch.channels_last):
        pictures = x.detach().contiguous(memory_format=layout).requires_grad_(True)
        torch.library.opcheck(
            torch.ops.stylegan.upfirdn2d,
            (pictures, torch.ones(4), [2, 2], [1, 1], [1, 2, 1, 2], False, 1.0),
        )


def test_regularisers_skip_the_gradients_of_biases(
    on_the_host: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # only which gradients there are is looked at
    monkeypatch.setattr(modulated_act, '_launch', lambda *args: None)
    x, b, scale, strength = (
        torch.randn(shape, requires_grad=True) for shape in ([2, 3, 4, 4], [3], [2, 3], [])
    )
    one = torch.ops.stylegan.bias_act(x, b, 1, 'lrelu', 0.2, 1.0, -1.0)
    other = modulated_act.modulated_act(
        x.contiguous(memory_format=torch.channels_last),
        scale,
        torch.randn(4, 4),
        strength,
        b,
        act='lrelu',
    )
    for y, inputs in [(one, [x, b]), (other, [x, scale, b, strength])]:
        for skips in (False, True):
            with conv2d_gradfix.no_weight_gradients(skips):
                found = torch.autograd.grad(y.sum(), inputs, create_graph=True, allow_unused=True)
            assert [gradient is None for gradient in found] == [
                skips and any(tensor is other for other in (b, strength)) for tensor in inputs
            ]


@needs_compiler
def test_infinity_does_not_pass_where_results_are_clamped(on_the_host: set[str]) -> None:
    x, dy, ddx = (
        torch.ones([1, 8, 1, 2]).contiguous(memory_format=torch.channels_last).requires_grad_(True)
        for _ in range(3)
    )
    with torch.no_grad():
        x[..., 0] = 9
        dy[0, 0, 0, 0], ddx[0, 1, 0, 0] = torch.inf, torch.inf
    scale = torch.ones([1, 8], requires_grad=True)
    first = torch.autograd.grad(
        modulated_act.modulated_act(x, scale, act='lrelu', clamp=2.0),
        [x, scale],
        dy,
        create_graph=True,
    )
    second = torch.autograd.grad(first, [x, scale, dy], [ddx, torch.ones_like(scale)])
    assert (
        all(gradient.isfinite().all() for gradient in (*first, *second))
        and not second[2][..., 0].any()
        and second[2][..., 1].all()
    )
    assert 'modulated_act_grad2<float, 4>' in on_the_host


@needs_compiler
def test_second_derivatives_keep_the_layout(on_the_host: set[str]) -> None:
    """A picture in another layout is a picture to be copied."""
    x, dy = (
        normal([2, 8, 6, 5], torch.float16, True, seed).requires_grad_(True) for seed in (0, 1)
    )
    scale = normal([2, 8], torch.float32, False, 2).requires_grad_(True)
    y = modulated_act.modulated_act(x, scale, act='lrelu')
    first = torch.autograd.grad(y, [x, scale], dy, create_graph=True)
    second = torch.autograd.grad(
        sum(gradient.float().square().sum() for gradient in first), [x, dy]
    )
    assert all(tensor.stride() == x.stride() for tensor in (y, first[0], *second))


@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
def test_convolutions_get_weights_in_the_layout_of_their_pictures(
    layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(conv2d_gradfix._Conv, 'apply', lambda x, w, geometry: seen.append(w))
    with FakeTensorMode():  # a GPU's tensors, without their numbers
        x = torch.empty([2, 8, 5, 5], device='cuda').contiguous(memory_format=layout)
        conv2d_gradfix.conv2d(x, torch.empty([6, 8, 3, 3], device='cuda'))
        conv2d_gradfix.conv_transpose2d(x, torch.empty([6, 8, 3, 3], device='cuda').transpose(0, 1))
    assert [w.is_contiguous(memory_format=torch.channels_last) for w in seen] == [
        layout == torch.channels_last
    ] * 2


# ----------------------------------------------------------------------------
# Compiling and loading


@pytest.mark.parametrize('arch', ARCHS)
def test_nvrtc_compiles(arch: str) -> None:
    pytest.importorskip('cuda.core')
    loader = custom_ops.NvrtcLoader(arch)
    for source, name in INSTANCES if arch == '90' else INSTANCES[::3]:
        symbol, code = loader.compile(source, name)
        assert symbol.encode() in code and code[:4] == b'\x7fELF'


@pytest.mark.skipif(
    shutil.which('nvcc') is None or shutil.which('ninja') is None, reason='needs nvcc and ninja'
)
def test_nvcc_compiles(tmp_path: Path) -> None:
    for arch, (source, name) in [('75', INSTANCES[0]), ('90', INSTANCES[5])]:
        library = tmp_path / f'{arch}.so'
        custom_ops.NvccLoader(arch).compile(source, name, library)
        assert ctypes.CDLL(str(library)).launch


def test_compile_errors_are_reported() -> None:
    pytest.importorskip('cuda.core')
    with pytest.raises(custom_ops.Unavailable, match='NO_SUCH_ACTIVATION'):
        custom_ops.NvrtcLoader('90').compile(
            'bias_act.cu', 'bias_act<float, NO_SUCH_ACTIVATION, 0, 4, NO_BIAS, unsigned>'
        )


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch):
    """Choose a loader as a machine with a GPU would: `choice(STYLEGAN_OPS, loaders)`."""
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, 'device', lambda index: contextlib.nullcontext())

    def choose(wanted: str, **loaders: type[custom_ops.Loader]) -> custom_ops.Loader | None:
        monkeypatch.setenv(custom_ops.SWITCH, wanted)
        monkeypatch.setattr(custom_ops, 'LOADERS', {**custom_ops.LOADERS, **loaders})
        custom_ops._loader.cache_clear()
        return custom_ops._loader(0)

    yield choose
    custom_ops._loader.cache_clear()


class Works(custom_ops.Loader):
    def load(self, source: str, name: str) -> custom_ops.Kernel:
        assert self.arch == '90'
        return lambda grid, block, args: None


class Fails(custom_ops.Loader):
    def load(self, source: str, name: str) -> custom_ops.Kernel:
        raise custom_ops.Unavailable('it broke')


class NeedsNewerDriver(custom_ops.Loader):
    def load(self, source: str, name: str) -> custom_ops.Kernel:
        def launch(grid: tuple[int, int, int], block: int, args: Any) -> None:
            raise RuntimeError('CUDA error 35\nat its launch')

        return launch


class NeedsLibrary(custom_ops.Loader):
    def load(self, source: str, name: str) -> custom_ops.Kernel:
        raise OSError('libcudart.so.13: cannot open shared object file')


def test_loader_whose_kernels_do_not_run_is_skipped(
    choice, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(choice('auto', nvrtc=NeedsNewerDriver, nvcc=Works), Works)
    with caplog.at_level(logging.WARNING):
        assert choice('auto', nvrtc=NeedsNewerDriver, nvcc=NeedsLibrary) is None
    assert 'nvrtc: CUDA error 35 at its launch; nvcc: libcudart.so.13' in caplog.text
    with pytest.raises(UserError, match='STYLEGAN_OPS=nvcc: nvcc: libcudart'):
        choice('nvcc', nvcc=NeedsLibrary)


@needs_compiler
def test_the_probe_touches_nothing() -> None:
    host_kernels.get_kernel(*custom_ops._PROBE, None)((1, 1, 1), 1, custom_ops._NOTHING)


def test_each_thread_enters_the_devices_context_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip('cuda.core')
    loader, core, entered = custom_ops.NvrtcLoader('90'), unittest.mock.MagicMock(), []
    core.Device.return_value.set_current.side_effect = lambda: entered.append(threading.get_ident())
    monkeypatch.setattr(loader, '_core', core)
    monkeypatch.setattr(loader, '_version', lambda: 'none')
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'current_stream', unittest.mock.MagicMock())
    (tmp_path / 'kernel').write_bytes(b'symbol\ncode')
    monkeypatch.setattr(loader, 'cached', lambda *args: tmp_path / 'kernel')
    kernel = loader.load('bias_act.cu', 'bias_act')

    def twice() -> None:
        kernel((1, 1, 1), 1, [])
        kernel((1, 1, 1), 1, [])

    twice()
    thread = threading.Thread(target=twice)
    thread.start()
    thread.join()
    assert len(entered) == len(set(entered)) == 2 and core.launch.call_count == 4


def test_the_first_loader_that_works_is_taken(choice, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(choice('auto', nvrtc=Works, nvcc=Fails), Works)
    assert isinstance(choice('auto', nvrtc=Fails, nvcc=Works), Works)
    assert isinstance(choice('nvcc', nvrtc=Fails, nvcc=Works), Works)
    assert choice('ref', nvrtc=Works, nvcc=Works) is None
    assert not caplog.records  # 'ref' was asked for


def test_missing_loaders_are_warned_of_once(choice, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choice('auto', nvrtc=Fails, nvcc=Fails) is None
        assert custom_ops._loader(0) is None
    assert (
        len(caplog.records) == 1
        and caplog.messages[0].count('it broke') == 2
        and 'slower' in caplog.messages[0]
    )


@pytest.mark.parametrize(
    'wanted,words', [('nvcc', 'nvcc: it broke'), ('fast', 'one of auto, nvrtc, nvcc, ref')]
)
def test_forced_loader_that_fails_is_an_error(wanted: str, words: str, choice) -> None:
    with pytest.raises(UserError, match=words):
        choice(wanted, nvrtc=Works, nvcc=Fails)


def test_without_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('CUDA_HOME', 'CUDA_PATH', 'ROCM_HOME'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(shutil, 'which', lambda tool, path=None: None)
    with pytest.raises(custom_ops.Unavailable, match='nvcc is not on the PATH'):
        custom_ops.NvccLoader('90')
    monkeypatch.setattr(
        shutil, 'which', lambda tool, path=None: '/usr/bin/nvcc' if tool == 'nvcc' else None
    )
    with pytest.raises(custom_ops.Unavailable, match='pip install ninja'):
        custom_ops.NvccLoader('90')
    monkeypatch.setitem(sys.modules, 'cuda', None)
    with pytest.raises(custom_ops.Unavailable, match='pip install cuda-core'):
        custom_ops.NvrtcLoader('90')


BUILD = """
import sys
from torch_utils.custom_ops import Loader
def write(temp):
    temp.write_bytes(b'x' * 1000000)
path = Loader('90').cached('bias_act.cu', 'bias_act<float>', 'none', '.cubin', write)
print(path, path.stat().st_size)
"""


def test_two_processes_at_once_and_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for anybody: neither for a process that builds the same, nor for one that died
    while it did.
    """
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    (tmp_path / 'kernels').mkdir()
    (tmp_path / 'kernels' / 'lock').touch()
    (tmp_path / 'kernels' / '.bias_act.x.tmp.cubin').write_bytes(b'half')
    root = Path(__file__).parents[2]
    both = [
        subprocess.Popen([sys.executable, '-c', BUILD], cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = {process.communicate(timeout=60)[0] for process in both}
    assert len(outputs) == 1 and outputs.pop().endswith('1000000\n')
    assert len(list(tmp_path.glob('kernels/bias_act-sm90-*.cubin'))) == 1

    def again(temp: Path) -> None:
        raise AssertionError('it is there already')

    custom_ops.Loader('90').cached('bias_act.cu', 'bias_act<float>', 'none', '.cubin', again)
    with pytest.raises(AssertionError):  # another compiler, another file
        custom_ops.Loader('90').cached('bias_act.cu', 'bias_act<float>', 'newer', '.cubin', again)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'file').touch()
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'file'))
    with pytest.raises(custom_ops.Unavailable, match='DNNLIB_CACHE_DIR'):
        custom_ops.Loader('90').cached(
            'bias_act.cu', 'bias_act<float>', 'none', '.cubin', lambda temp: temp.write_bytes(b'x')
        )
