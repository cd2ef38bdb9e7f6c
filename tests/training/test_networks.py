"""The networks against reference vectors, and what they promise."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import GOLDEN, load_json, load_npz

from torch_utils.misc import named_tensors
from training import networks
from training.freezing import freeze, frozen_names
from training.networks import Discriminator, Generator
from training.snapshots import load_networks

SNAPSHOTS = {
    'ada-uncond-32': 'ada-uncond-32',
    'ada-cond-32': 'ada-cond-32',
    'sg3-uncond-32': 'sg3-uncond-32',
    'sg3-cond-32': 'sg3-cond-32',
    'ada-uncond-32-py37': 'ada-uncond-32',
}
TINY = dict(channel_base=256, channel_max=16)


@pytest.mark.parametrize('snapshot', SNAPSHOTS)
def test_golden(snapshot: str) -> None:
    data = {name: torch.as_tensor(value) for name, value in load_npz(SNAPSHOTS[snapshot]).items()}
    nets = load_networks(GOLDEN / f'{snapshot}.pkl')
    z, c = data['z'], data['c']
    for name, G in [('G', nets.G), ('G_ema', nets.G_ema)]:
        assert G is not None
        close(G.mapping(z, c), data[f'{name}_ws'])
        close(
            G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3), data[f'{name}_ws_psi0.5_cut3']
        )
        for mode in ('const', 'none'):
            for fused in (False, True, None):
                img = G(
                    z, c, truncation_psi=0.7, noise_mode=mode, force_fp32=True, fused_modconv=fused
                )
                close(img, data[f'{name}_img_{mode}'])
            # fp16 blocks compute in float32 on a CPU
            one = G(z[:1], c[:1], truncation_psi=0.7, noise_mode=mode)
            close(one, data[f'{name}_img_{mode}'][:1])
    assert nets.D is not None
    close(nets.D(data['D_in'], c), data['D_logits'])


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_freezed_golden() -> None:
    # The reference was made with networks so narrow that the blocks from 128 px on have no feature
    # maps at all.
    for resolution, by_count in load_json('freezed').items():
        D = Discriminator(
            0, int(resolution), 3, channel_base=64 if int(resolution) > 64 else 512, channel_max=16
        )
        for count, names in by_count.items():
            assert frozen_names(freeze(D, int(count))) == sorted(names), (resolution, count)


@pytest.mark.parametrize(
    'count,last',
    [(1, 'b256.fromrgb'), (4, 'b256.skip'), (7, 'b128.skip'), (10, 'b64.skip'), (13, 'b32.skip')],
)
def test_freezed_counts_layers_as_nvidias_option_does(count: int, last: str) -> None:
    D = Discriminator(0, 256, 3, channel_base=2048, channel_max=8)
    more = set(frozen_names(freeze(D, count))) - set(frozen_names(freeze(D, count - 1)))
    assert {name.rsplit('.', 1)[0] for name in more} == {last}
    everything = frozen_names(freeze(D, 19))
    assert frozen_names(freeze(D, 100)) == everything and not any(
        name.startswith('b4.') for name in everything
    )


def test_frozen_weights_are_buffers_and_unfreeze() -> None:
    D = Discriminator(0, 32, 3, **TINY)
    frozen = freeze(D, 4)
    assert 'b32.conv0.weight' in dict(frozen.named_buffers()) and 'b32.conv0.weight' not in dict(
        frozen.named_parameters()
    )
    back = freeze(frozen, 0)
    assert (
        frozen_names(back) == []
        and dict(back.named_parameters()).keys() == dict(D.named_parameters()).keys()
    )
    for (_, a), (_, b) in zip(sorted(named_tensors(D)), sorted(named_tensors(back))):
        assert torch.equal(a, b)


@pytest.mark.parametrize('g,d', [('skip', 'resnet'), ('resnet', 'skip'), ('orig', 'orig')])
@pytest.mark.parametrize('c_dim,channels', [(0, 3), (4, 1)])
def test_architectures(g: str, d: str, c_dim: int, channels: int) -> None:
    G = Generator(
        16,
        c_dim,
        16,
        32,
        channels,
        mapping_kwargs=dict(num_layers=2),
        synthesis_kwargs=dict(architecture=g, **TINY),
    )
    D = Discriminator(
        c_dim, 32, channels, architecture=d, epilogue_kwargs=dict(mbstd_group_size=2), **TINY
    )
    z, c = torch.randn(6, 16), torch.eye(4)[torch.arange(6) % 4] if c_dim else torch.zeros(6, 0)
    img = G(z, c)
    assert img.shape == (6, channels, 32, 32) and img.dtype == torch.float32
    logits = D(img, c)
    assert logits.shape == (6, 1)
    logits.sum().backward()
    assert all(p.grad is not None for p in [*G.parameters(), *D.parameters()])
    if c_dim:
        assert not torch.equal(D(img, c), D(img, c.roll(1, dims=0)))
    G.eval()
    one, fused = (
        G.synthesis(G.mapping(z, c), noise_mode='const', fused_modconv=flag)
        for flag in (False, True)
    )
    torch.testing.assert_close(one, fused, atol=1e-4, rtol=1e-4)


def test_batches_judged_together_are_judged_apart() -> None:
    D = Discriminator(0, 16, 3, epilogue_kwargs=dict(mbstd_group_size=4), **TINY)
    img = torch.randn(12, 3, 16, 16)
    apart = torch.cat([D(part, None) for part in img.split(4)])
    torch.testing.assert_close(D(img, None, batches=3), apart)
    assert not torch.allclose(D(img, None), apart, atol=1e-4)


def test_half_precision_scales_neither_weights_nor_their_gradients() -> None:
    """What is demodulated does not depend on the scale that keeps float16 from overflowing."""
    weight, styles = (
        torch.randn(size).mul(100).requires_grad_(True) for size in ([6, 5, 3, 3], [4, 5])
    )
    results = []
    for dtype in (torch.float16, torch.float32):
        w, s, d = networks._scales(
            torch.empty([4, 5, 8, 8], dtype=dtype), weight, styles, demodulate=True
        )
        product = w * s[:, None, :, None, None] * d[:, :, None, None, None]
        gradients = torch.autograd.grad(
            product.mul(torch.linspace(-1, 1, product.numel()).reshape(product.shape)).sum(),
            [weight, styles],
        )
        results.append([product.detach(), *gradients])
    for half, plain in zip(*results):
        torch.testing.assert_close(half, plain, atol=1e-5 * float(plain.abs().max()), rtol=0)


def test_squares_of_kernels() -> None:
    weight = torch.randn([3, 2, 3, 3], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(
        networks._SquaresOfKernels.apply(weight), weight.square().sum(dim=(2, 3))
    )
    assert torch.autograd.gradcheck(
        networks._SquaresOfKernels.apply, weight
    ) and torch.autograd.gradgradcheck(networks._SquaresOfKernels.apply, weight)


def test_nested_and_flat_arguments() -> None:
    nested = Generator(8, 0, 8, 16, 3, synthesis_kwargs=dict(num_fp16_res=2, **TINY))
    flat = Generator(8, 0, 8, 16, 3, num_fp16_res=2, **TINY)
    assert [n for n, _ in named_tensors(nested)] == [n for n, _ in named_tensors(flat)]
    assert [getattr(flat.synthesis, f'b{r}').use_fp16 for r in (4, 8, 16)] == [False, True, True]


def test_w_avg_follows_in_training_only() -> None:
    G = Generator(8, 0, 8, 8, 3, mapping_kwargs=dict(num_layers=2, w_avg_beta=0.5), **TINY)
    z = torch.randn(64, 8)
    mean = G.mapping(z, None, update_emas=False)[:, 0].mean(0)
    assert G.mapping.w_avg.abs().sum() == 0
    G.mapping(z, None)
    torch.testing.assert_close(G.mapping.w_avg, mean * 0.5)
    G.mapping(z, None, skip_w_avg_update=True)
    G.eval().mapping(z, None)
    torch.testing.assert_close(G.mapping.w_avg, mean * 0.5)
    torch.testing.assert_close(G.mapping(z, None, truncation_psi=0)[3, 2], G.mapping.w_avg)


def test_noise_modes() -> None:
    G = Generator(8, 0, 8, 16, 3, **TINY).eval()
    for name, p in G.named_parameters():
        if name.endswith('noise_strength'):
            p.data.fill_(0.5)
    ws = G.mapping(torch.randn(2, 8), None)
    images = {
        mode: [G.synthesis(ws, noise_mode=mode) for _ in range(2)]
        for mode in ('const', 'random', 'none')
    }
    assert (
        torch.equal(*images['const'])
        and torch.equal(*images['none'])
        and not torch.equal(*images['random'])
    )
    assert not torch.equal(images['const'][0], images['none'][0])
    with pytest.raises(ValueError, match='noise_mode'):
        G.synthesis(ws, noise_mode='loud')


def test_clamp() -> None:
    D = Discriminator(0, 16, 3, conv_clamp=0.01, **TINY)
    x, _ = D.b16(None, torch.randn(2, 3, 16, 16) * 100)
    unlimited, _ = Discriminator(0, 16, 3, **TINY).b16(None, torch.randn(2, 3, 16, 16) * 100)
    assert (
        D.b16.fromrgb(torch.randn(2, 3, 16, 16) * 100).abs().max() <= 0.01 < unlimited.abs().max()
    )


def test_minibatch_std_groups() -> None:
    layer = networks.MinibatchStdLayer(group_size=2, num_channels=1)
    x = torch.zeros(4, 3, 2, 2)
    x[2] = 2  # members of a group are half a batch apart: 0 with 2, 1 with 3
    y = layer(x)
    assert y.shape == (4, 4, 2, 2)
    torch.testing.assert_close(y[:, 3, 0, 0], torch.tensor([1.0, 1e-4, 1.0, 1e-4]))
    assert layer(torch.randn(5, 3, 2, 2)).shape == (5, 4, 2, 2)  # no group of 2 fits


@pytest.mark.parametrize('resolution', [0, 3, 12, 33])
def test_resolution_must_be_a_power_of_two(resolution: int) -> None:
    with pytest.raises(ValueError, match='power of two'):
        Generator(8, 0, 8, resolution, 3)
    with pytest.raises(ValueError, match='power of two'):
        Discriminator(0, resolution, 3)


@pytest.mark.parametrize('name', ['networks', 'augment'])
def test_travelling_files(name: str) -> None:
    """Python 3.7's syntax; no imports but those that NVIDIA's checkouts have, or that may fail."""
    tree = ast.parse(
        (Path(networks.__file__).parent / f'{name}.py').read_text(), feature_version=(3, 7)
    )
    allowed = {'math', 'typing', 'numpy', 'torch', 'torch_utils', 'torch_utils.ops'}
    attempts = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and ast.unparse(node.handlers[0].type or node) == 'ImportError'
    ]
    optional = {statement for node in attempts for statement in node.body}
    for node in set(ast.walk(tree)) - optional:
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom):
            assert node.module in allowed
            if node.module.startswith('torch_utils'):
                assert {alias.name for alias in node.names} <= {
                    'persistence',
                    'misc',
                    'bias_act',
                    'upfirdn2d',
                    'conv2d_resample',
                    'fma',
                    'conv2d_gradfix',
                    'grid_sample_gradfix',
                }


def test_layout_follows_the_precision() -> None:
    """On a GPU; and however the precision was set."""
    on_gpu: Any = SimpleNamespace(is_cuda=True)
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        for precision, layout in [('tf32', torch.channels_last), ('ieee', torch.contiguous_format)]:
            torch.backends.cudnn.conv.fp32_precision = precision
            assert networks._memory_format(False, False, on_gpu) == layout
            assert networks._memory_format(False, True, on_gpu) == torch.channels_last
        torch.backends.cudnn.allow_tf32 = True  # by the interface of older versions
        assert networks._memory_format(False, False, on_gpu) == torch.channels_last
        torch.backends.cudnn.allow_tf32 = False
        assert networks._memory_format(False, False, on_gpu) == torch.contiguous_format
    finally:
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.conv.fp32_precision = before
