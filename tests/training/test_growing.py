"""Networks at another resolution begin as what they were."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image

import convert
import train
from dnnlib import UserError
from torch_utils.ops import upfirdn2d
from training.growing import change_resolution
from training.networks import Discriminator, Generator
from training.snapshots import Networks, load_networks


def networks(g_architecture: str = 'skip', channel_base: int = 512) -> Networks:
    torch.manual_seed(0)
    kwargs = dict(channel_base=channel_base, channel_max=32, architecture=g_architecture)
    G = Generator(16, 0, 16, 16, 3, mapping_kwargs={'num_layers': 2}, synthesis_kwargs=kwargs)
    D = Discriminator(0, 16, 3, channel_base=channel_base, channel_max=32)
    D.b16.fromrgb.bias.data.normal_()
    return Networks(
        G.eval().requires_grad_(False), D.eval().requires_grad_(False), G.eval(), None, {}
    )


@pytest.mark.parametrize('resolution', [32, 64])
def test_grown_generator_draws_the_old_pictures_enlarged(resolution: int) -> None:
    old = networks()
    new = change_resolution(old, resolution)
    z = torch.randn([3, 16])
    want = old.G_ema(z, None, noise_mode='const')
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    while want.shape[-1] < resolution:
        want = upfirdn2d.upsample2d(want, f)
    assert new.G_ema.img_resolution == resolution
    torch.testing.assert_close(new.G_ema(z, None, noise_mode='const'), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize('resolution', [32, 64])
def test_grown_discriminator_judges_reduced_pictures_as_before(resolution: int) -> None:
    old = networks()
    new = change_resolution(old, resolution)
    assert old.D is not None and new.D is not None
    img = torch.randn([4, 3, resolution, resolution])
    small, f = img, upfirdn2d.setup_filter([1, 3, 3, 1])
    while small.shape[-1] > 16:
        small = upfirdn2d.downsample2d(small, f)
    torch.testing.assert_close(new.D(img, None), old.D(small, None), rtol=1e-4, atol=1e-4)


def test_every_new_weight_can_learn() -> None:
    new = change_resolution(networks(), 32)
    assert new.G is not None and new.D is not None
    G, D = new.G.requires_grad_(True), new.D.requires_grad_(True)
    images = G(torch.randn([4, 16]), None, noise_mode='const')
    torch.nn.functional.softplus(-D(images, None)).sum().backward()
    assert G.synthesis.b32.torgb.weight.grad.abs().sum() > 0  # then the convolutions follow
    for layer in (D.b32.fromrgb, D.b32.conv0, D.b32.conv1, D.b32.skip):
        assert layer.weight.grad.abs().sum() > 0


def test_reduced_generator_draws_its_own_lower_resolution() -> None:
    old = networks()
    new = change_resolution(old, 8)
    z = torch.randn([2, 16])
    ws = old.G_ema.mapping(z, None)
    x, img, index = None, None, 0
    for res in (4, 8):
        block = getattr(old.G_ema.synthesis, f'b{res}')
        part = ws[:, index : index + block.num_conv + block.num_torgb]
        x, img = block(x, img, part, noise_mode='const')
        index += block.num_conv
    torch.testing.assert_close(new.G_ema(z, None, noise_mode='const'), img)
    assert new.D is not None and new.D.img_resolution == 8


@pytest.mark.parametrize(
    'resolution,words',
    [(16, 'that is what'), (48, 'power of two'), (4, 'from 8'), (2048, 'to 1024')],
)
def test_impossible_resolutions_are_named(resolution: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        change_resolution(networks(), resolution)


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UserError, match='only generators of the skip .* is resnet'):
        change_resolution(networks('resnet'), 32)


def test_convert_grows_a_snapshot_that_training_takes(tmp_path: Path) -> None:
    grown = tmp_path / 'grown.pkl'
    source = str(GOLDEN / 'ada-uncond-32.pkl')
    assert convert.main(['--source', source, '--dest', str(grown), '--resolution', '64']) == 0
    nets = load_networks(grown)
    assert nets.meta['toonify']['parents'][0]['name'] == 'ada-uncond-32.pkl'
    (tmp_path / 'set').mkdir()
    for i in range(4):
        pixels = np.random.RandomState(i).randint(0, 256, [64, 64, 3], dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'set' / f'{i}.png')
    arguments = ['--outdir', str(tmp_path / 'runs'), '--data', str(tmp_path / 'set')]
    options = ['--device=cpu', '--batch=4', '--kimg=0.004', f'--resume={grown}']
    assert train.main([*arguments, *options]) == 0


def test_resolution_needs_a_destination(capsys: pytest.CaptureFixture) -> None:
    source = str(GOLDEN / 'ada-uncond-32.pkl')
    for option in (['--resolution=64'], ['--half'], ['--ema-only']):
        assert convert.main(['--source', source, '--list', *option]) == 2
        assert option[0] in capsys.readouterr().err
    assert convert.main(['--source', source, '--half', '--dest', 'x.pkl']) == 2
    assert 'must end in .safetensors' in capsys.readouterr().err


def test_half_and_ema_only_draw_nearly_the_same(tmp_path: Path) -> None:
    source, small = str(GOLDEN / 'ada-uncond-32.pkl'), tmp_path / 'small.safetensors'
    assert convert.main(['--source', source, '--dest', str(small), '--half', '--ema-only']) == 0
    before, after = load_networks(source), load_networks(small)
    assert after.G is None and after.D is None
    assert small.stat().st_size < 2.2 * sum(p.numel() for p in before.G_ema.state_dict().values())
    z = torch.randn([2, before.G_ema.z_dim])
    images = [nets.G_ema(z, None, noise_mode='const') for nets in (before, after)]
    torch.testing.assert_close(images[1], images[0], rtol=0, atol=0.01)
