"""What only a GPU can show: half precision, kernels in another layout, device placement. Skipped
without one.
"""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, draw_pictures, load_npz
from PIL import Image

import train
from synthesis.projection import Settings, project
from synthesis.projection_losses import pyramid
from synthesis.sampling import sample_images
from torch_utils import custom_ops, persistence
from torch_utils.cuda_graphs import CudaRecorder
from torch_utils.ops import affine_sample, bias_act, modulated_act, upfirdn2d
from training import loss
from training.augment import AugmentPipe
from training.config import AUGPIPES
from training.snapshots import load_networks

# test_kernels.py runs some of these on the CPU, with the kernels' own text in place of a GPU's.
DEVICE = torch.device(os.environ.get('STYLEGAN_TEST_DEVICE', 'cuda'))
pytestmark = [pytest.mark.gpu] if DEVICE.type == 'cuda' else []


@pytest.mark.parametrize('name', ['ada-uncond-32', 'ada-cond-32'])
def test_golden_networks(name: str) -> None:
    data = {key: torch.as_tensor(value).to(DEVICE) for key, value in load_npz(name).items()}
    nets = load_networks(GOLDEN / f'{name}.pkl')
    G, D = nets.G_ema.to(DEVICE), nets.D.to(DEVICE)  # type: ignore[union-attr]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        exact = G(data['z'], data['c'], truncation_psi=0.7, noise_mode='const', force_fp32=True)
        torch.testing.assert_close(exact, data['G_ema_img_const'], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            D(data['D_in'], data['c'], force_fp32=True), data['D_logits'], atol=1e-4, rtol=1e-4
        )
    half = G(data['z'], data['c'], truncation_psi=0.7, noise_mode='const')
    torch.testing.assert_close(half, data['G_ema_img_const'], atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize('num_fp16_res,tolerance', [(0, 1e-3), (2, 2e-2)])
@pytest.mark.parametrize('term', ['G_main', 'G_pl', 'D_main', 'D_r1', 'D_r1_aug'])
def test_golden_losses(term: str, num_fp16_res: int, tolerance: float) -> None:
    """The losses and the norms of their gradients; in half precision small norms may be off by
    1/500 of the largest.
    """
    data = {key: torch.as_tensor(value).to(DEVICE) for key, value in load_npz('losses').items()}
    nets = load_networks(GOLDEN / 'ada-uncond-32.pkl')
    synthesis = {
        **persistence.constructor_kwargs(nets.G).get('synthesis_kwargs', {}),
        'num_fp16_res': num_fp16_res,
        'conv_clamp': 256,
    }
    G = (
        persistence.clone(nets.G, synthesis_kwargs=synthesis)
        .to(DEVICE)
        .train()
        .requires_grad_(False)
    )
    D = (
        persistence.clone(nets.D, num_fp16_res=num_fp16_res, conv_clamp=256)
        .to(DEVICE)
        .train()
        .requires_grad_(False)
    )
    assert G.synthesis.b32.use_fp16 == D.b32.use_fp16 == (num_fp16_res > 0)
    for name, parameter in G.named_parameters():
        if name.endswith('noise_strength'):
            parameter.zero_()
    network, z, real, c = (
        (G if term[0] == 'G' else D).requires_grad_(True),
        data['z'],
        data['real'],
        torch.zeros([4, 0], device=DEVICE),
    )
    if term == 'G_main':
        value = loss.G_main(G, D, lambda x: x, z, c, update_w_avg=False).loss
        pairs = [(value, data['G_main'])]
    elif term == 'G_pl':
        terms = loss.G_pl(
            G,
            z[:2],
            c[:2],
            torch.zeros([], device=DEVICE),
            pl_noise=data['pl_noise'] / 32,
            update_w_avg=False,
        )
        value, pairs = (
            terms.penalty * 2,
            [(terms.lengths, data['pl_lengths']), (terms.penalty, data['pl_penalty'])],
        )
    elif term == 'D_main':
        both = loss.D_main(G, D, lambda x: x, z, c, real, c)
        value, pairs = (
            both.loss_gen + both.loss_real,
            [(both.loss_gen, data['D_gen']), (both.loss_real, data['D_real'])],
        )
    else:
        pipe = AugmentPipe(**dict.fromkeys(AUGPIPES['bgc'], 1)).to(DEVICE)
        penalty = loss.D_r1(
            D,
            (lambda x: x) if term == 'D_r1' else (lambda x: pipe(x, debug_percentile=0.7)),
            real,
            c,
        ).penalty
        value, pairs = (
            penalty * 5,
            [(penalty, data['r1_penalty' if term == 'D_r1' else 'r1_penalty_aug_p0.7'])],
        )
    for found, want in pairs:
        assert (found.detach() - want).norm() < tolerance * want.norm()
    value.mean().backward()
    norms = {
        key.split(':', 2)[2]: float(norm)
        for key, norm in data.items()
        if key.startswith(f'grad_norm:{term}:')
    }
    parameters, least = (
        dict(network.named_parameters()),
        1e-9 if num_fp16_res == 0 else tolerance * max(norms.values()) / 10,
    )
    for name, norm in norms.items():
        gradient = parameters[name].grad
        assert (0.0 if gradient is None else gradient.norm().item()) == pytest.approx(
            norm, rel=tolerance, abs=least
        ), name


@pytest.mark.parametrize('name', ['bg', 'bgc', 'bgcf'])
def test_golden_augmentations(name: str) -> None:
    pipe = AugmentPipe(**dict.fromkeys(AUGPIPES[name], 1))
    images = torch.as_tensor(load_npz('augment')['in3']).repeat(1, 1, 2, 2)
    want = pipe(images, debug_percentile=0.7)
    torch.testing.assert_close(
        pipe.to(DEVICE)(images.to(DEVICE), debug_percentile=0.7).cpu(), want, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_upfirdn2d(dtype: torch.dtype, layout: torch.memory_format) -> None:
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    x = torch.randn(2, 8, 32, 32)
    for kwargs in [
        dict(padding=1),
        dict(up=2, padding=[2, 1, 2, 1], gain=4),
        dict(down=2, padding=1),
    ]:
        want = upfirdn2d.upfirdn2d(x.double(), f, impl='ref', **kwargs)
        got = upfirdn2d.upfirdn2d(
            x.to(dtype).to(DEVICE).contiguous(memory_format=layout), f.to(DEVICE), **kwargs
        )
        torch.testing.assert_close(
            got.cpu().double(), want, atol=1e-2 if dtype == torch.float16 else 1e-5, rtol=1e-2
        )


@pytest.mark.parametrize(
    'dtype,tolerance',
    [(torch.float64, 1e-6), (torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 4e-2)],
)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('shape', [(2, 16, 33, 32), (3, 3, 7, 9)])
def test_kernels_and_their_derivatives(
    dtype: torch.dtype, tolerance: float, layout: torch.memory_format, shape: tuple[int, ...]
) -> None:
    """Ops on a GPU with first and second derivatives against their definitions on the CPU.

    A derivative that autograd does not give is zero.
    """
    assert custom_ops.enabled(torch.device('cuda', 0))
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    long = upfirdn2d.setup_filter(list(range(1, 13)))
    # what is bent or clamped lies on a grid, away from 0 and so coarse that nothing reaches the
    # limit by rounding
    works = [
        (True, lambda x, b, dev, act=act: bias_act.bias_act(x, b, act=act, clamp=1.55))
        for act in bias_act.activation_funcs
    ]
    for kwargs in [
        dict(padding=1),
        dict(up=2, padding=[2, 1, 2, 1], gain=4),
        dict(down=2, padding=1),
        dict(up=[1, 3], down=[2, 1], padding=3),
    ]:
        works.append(
            (False, lambda x, b, dev, kwargs=kwargs: upfirdn2d.upfirdn2d(x, f.to(dev), **kwargs))
        )
        works.append(
            (
                False,
                lambda x, b, dev, kwargs=kwargs: upfirdn2d.upfirdn2d(
                    x, long.to(dev), **{**kwargs, 'padding': 8}
                ),
            )
        )
    for biased, work in works:
        results = []
        for device, kind in [('cpu', torch.float64), (DEVICE, dtype)]:
            generator = torch.Generator().manual_seed(0)
            x, b = (
                torch.randn(size, generator=generator).mul(8).round() / 8
                for size in (shape, shape[1:2])
            )
            x = (x + 1 / 16).to(device, kind).contiguous(memory_format=layout).requires_grad_(True)
            b = b.to(device, kind).requires_grad_(True)
            y = work(x, b, device)
            dy = (
                torch.randn(y.shape, generator=generator)
                .to(dtype)
                .to(device, kind)
                .requires_grad_(True)
            )
            # takes other kernels
            once = torch.autograd.grad(y, [x, b] if biased else [x], dy, retain_graph=True)
            first = torch.autograd.grad(y, [x, b] if biased else [x], dy, create_graph=True)
            second = torch.autograd.grad(
                sum((gradient * gradient.detach()).sum() for gradient in first),
                [dy, x],
                allow_unused=True,
            )
            results.append(
                [
                    None if tensor is None else tensor.detach().cpu().double()
                    for tensor in (y, *once, *first, *second)
                ]
            )
        for wants, gots in zip(*results):
            want, got = (torch.zeros([]) if found is None else found for found in (wants, gots))
            assert (want - got).abs().max() < tolerance * (want.abs().max() + 1)


@pytest.mark.parametrize('shape', [(16, 3, 64, 64), (2, 1, 33, 47)])
def test_affine_sample_kernel(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the composition of PyTorch's ops, gradients of gradients included; and the same each
    time.
    """
    pipe = AugmentPipe(**dict.fromkeys(AUGPIPES['bg'], 1)).to(DEVICE)
    results = []
    for fused in (True, True, False):
        if not fused:
            monkeypatch.setattr(affine_sample, 'available', lambda x, f: False)
        torch.manual_seed(0)
        images = torch.randn(shape, device=DEVICE).requires_grad_(True)
        augmented = pipe(images)
        (gradient,) = torch.autograd.grad(augmented.cos().sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), images)
        results.append([augmented.detach(), gradient.detach(), second])
    for first, again, plain in zip(*results):
        assert torch.equal(first, again)
        torch.testing.assert_close(first, plain, atol=1e-3 * float(plain.abs().max()), rtol=0)


@pytest.mark.parametrize('kind,tolerance', [(torch.float32, 1e-3), (torch.float16, 3e-2)])
def test_modulated_act_kernels(kind: torch.dtype, tolerance: float) -> None:
    """The kernels against the composition of ops: gradients, and theirs."""
    x, dy = (
        torch.randn([4, 24, 33, 40], device=DEVICE, dtype=kind).contiguous(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    )
    scale, noise, strength, b = (
        torch.randn(size, device=DEVICE) for size in ([4, 24], [4, 1, 33, 40], [], [24])
    )
    inputs = [tensor.requires_grad_(True) for tensor in (x, scale, strength, b)]
    assert modulated_act.available(x, noise, 'lrelu')
    y = modulated_act.modulated_act(x, scale, noise, strength, b, act='lrelu', gain=1.3)
    expected = bias_act.bias_act(
        x.float() * scale[:, :, None, None] + noise * strength, b, act='lrelu', gain=1.3, impl='ref'
    )
    results = []
    for result, weights in [(y, dy), (expected, dy.float())]:
        first = torch.autograd.grad(result, inputs, weights, retain_graph=True)
        twice = torch.autograd.grad(result, inputs[:2], weights, create_graph=True)
        results.append(
            [
                result,
                *first,
                *torch.autograd.grad(
                    sum(gradient.float().square().mean() for gradient in twice), inputs[:2]
                ),
            ]
        )
    for found, want in zip(*results):
        assert (found.float() - want.float()).abs().max() < tolerance * want.float().abs().max()


@pytest.mark.parametrize('loader', ['nvrtc', 'nvcc'])
def test_both_loaders(loader: str, tmp_path: Path) -> None:
    """Each in a process of its own, with an empty cache."""
    if loader == 'nvcc' and shutil.which('nvcc') is None:
        pytest.skip('needs nvcc')
    code = (
        'import torch; from torch_utils.ops import bias_act; x = torch.randn(64, 8, '
        "device='cuda'); "
        "print(float((bias_act.bias_act(x, act='lrelu') - bias_act.bias_act(x, act='lrelu', "
        "impl='ref')).abs().max()) < 1e-5)"
    )
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        env={**os.environ, 'STYLEGAN_OPS': loader, 'DNNLIB_CACHE_DIR': str(tmp_path)},
    )
    assert result.stdout == 'True\n', result.stderr
    assert len(list(tmp_path.glob('kernels/*'))) >= 2


@pytest.mark.parametrize('fp32', [0, 1])
def test_training_and_going_on(fp32: int, tmp_path: Path) -> None:
    data = tmp_path / 'data'
    data.mkdir()
    for i in range(8):
        Image.fromarray(np.random.RandomState(i).randint(0, 256, [32, 32, 3], dtype=np.uint8)).save(
            data / f'{i}.png'
        )
    common = ['--device=cuda', '--tick=0.064']
    assert (
        train.main(
            [
                f'--outdir={tmp_path / "out"}',
                f'--data={data}',
                '--batch=16',
                '--batch-gpu=8',
                '--kimg=0.32',
                f'--fp32={fp32}',
                '--aug-strength=0.5',
                '--metrics=none',
                '--snap=1',
                *common,
            ]
        )
        == 0
    )
    (run_dir,) = (tmp_path / 'out').iterdir()
    assert train.main(['--continue', str(run_dir), '--kimg=0.4', '--device=cuda']) == 0
    nets = load_networks(max(run_dir.glob('*.pkl')))
    assert all(torch.isfinite(p).all() for p in nets.G_ema.parameters())
    assert nets.G_ema.synthesis.b32.use_fp16 == (not fp32)


def test_graphs_train_as_phases_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # sums in an order of chance would grow apart
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', True)
    (tmp_path / 'data').mkdir()
    data = draw_pictures(tmp_path / 'data', 8)
    results = []
    for graphs in (0, 1):
        outdir = tmp_path / f'out{graphs}'
        # 50 steps: Dreg is due at every 16th, and nothing is recorded before it has run three times
        assert (
            train.main(
                [
                    f'--outdir={outdir}',
                    f'--data={data}',
                    '--batch=8',
                    '--kimg=0.4',
                    '--fp32=1',
                    '--aug-strength=0.5',
                    '--metrics=none',
                    f'--graphs={graphs}',
                    '--device=cuda',
                    '--tick=0.08',
                    '--cfg=demo',
                    '--pl-weight=2',
                ]
            )
            == 0
        )
        (run_dir,) = outdir.iterdir()
        assert 'cannot be made a CUDA graph' not in (run_dir / 'log.txt').read_text()
        nets = load_networks(max(run_dir.glob('*.pkl')))
        results.append(
            torch.cat([p.flatten() for p in (*nets.G_ema.parameters(), *nets.D.parameters())])
        )
    difference = (results[0] - results[1]).norm() / results[0].norm()
    assert difference < 1e-2, 'the same random numbers, and sums in another order'


def test_failed_recording_leaves_stream_and_random_state_usable() -> None:
    recorder, stream = CudaRecorder(torch.device('cuda')), torch.cuda.current_stream()
    x = torch.ones([4], device='cuda')

    def waits() -> None:
        torch.randn([4], device='cuda')
        float(x.sum())

    recorder.warm(waits)
    with pytest.raises(RuntimeError):
        recorder.record(waits)
    assert torch.cuda.current_stream() == stream
    drawn = torch.randn([4], device='cuda')
    replay = recorder.record(lambda: x.copy_(torch.randn([4], device='cuda')))
    replay()
    first = x.clone()
    replay()
    assert len({tuple(values.tolist()) for values in (drawn, first, x)}) == 3, (
        'new numbers each time'
    )


def test_first_launch_in_autograds_thread() -> None:
    """In a process of its own, where nothing else has given that thread a context."""
    code = (
        'import torch; from torch_utils.ops import upfirdn2d; f = upfirdn2d.setup_filter([1, '
        "3, 3, 1], device='cuda'); "
        "x = torch.randn(2, 8, 16, 16, device='cuda', requires_grad=True); y = "
        'upfirdn2d.filter2d(x, f); '
        'upfirdn2d.filter2d(x.detach(), f, flip_filter=True); dy = torch.randn_like(y); '
        'print(torch.autograd.grad(y, x, dy)[0].isfinite().all().item())'
    )
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.stdout == 'True\n', result.stderr


def test_generator_draws_the_same_as_a_graph(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    G = load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema.to(DEVICE)
    with caplog.at_level(logging.WARNING):
        found = torch.cat(list(sample_images(G, 40, batch_size=4)))
    assert not caplog.records
    monkeypatch.setenv('STYLEGAN_GRAPHS', 'off')
    assert (
        found.int() - torch.cat(list(sample_images(G, 40, batch_size=4))).int()
    ).abs().max() <= 1


@pytest.mark.parametrize('noise', ['const', 'optimise'])
def test_projection_has_no_host_sync(noise: str) -> None:
    G = load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema.to(DEVICE)
    target = torch.from_numpy(
        np.random.RandomState(0).randint(0, 256, [2, 3, 32, 32], dtype=np.uint8)
    )
    states = project(G, target, pyramid, Settings(space='w+', noise=noise, num_steps=40), every=20)  # type: ignore[arg-type]
    first = next(states)
    torch.cuda.set_sync_debug_mode('error')
    try:
        second = next(states)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert (second.distance < first.distance).all()
