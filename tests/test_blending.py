"""Layer swapping: every tensor from the parent that the rule names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import blend
from dnnlib import UserError
from synthesis.blending import blend_generators, blend_networks
from torch_utils.misc import named_tensors
from training.checkpoint import Networks, are_related, load_networks, save_networks
from training.networks import Discriminator, Generator


def generator(log2: int, architecture: str, c_dim: int, layers: int, seed: int) -> Generator:
    torch.manual_seed(seed)
    G = Generator(8, c_dim, 8, 2 ** log2, 3, mapping_kwargs=dict(num_layers=layers), architecture=architecture, channel_base=64, channel_max=8)
    with torch.no_grad():
        for _, tensor in named_tensors(G):
            tensor.copy_(torch.randn_like(tensor))  # filters, noise and w_avg too: every tensor must tell its parent
    return G.eval()


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 6), st.sampled_from(['skip', 'resnet', 'orig']), st.sampled_from([0, 3]), st.integers(1, 3), st.data())
def test_each_tensor_has_its_parent(log2: int, architecture: str, c_dim: int, layers: int, data: st.DataObject) -> None:
    swap = 2 ** data.draw(st.integers(2, log2))
    mapping = data.draw(st.sampled_from(['low', 'high']))
    low, high = (generator(log2, architecture, c_dim, layers, seed) for seed in (0, 1))
    blended = dict(named_tensors(blend_generators(low, high, swap, mapping)))
    parents = {'low': dict(named_tensors(low)), 'high': dict(named_tensors(high))}
    assert blended.keys() == parents['low'].keys()
    for name, tensor in blended.items():
        parts = name.split('.')
        if parts[0] == 'mapping':
            want = mapping
        else:
            want = 'low' if int(parts[1][1:]) <= swap else 'high'
        assert torch.equal(tensor, parents[want][name]) and not torch.equal(tensor, parents['high' if want == 'low' else 'low'][name]), name


def test_everything_from_one_parent_is_that_parent() -> None:
    low, high = (generator(4, 'skip', 0, 2, seed) for seed in (0, 1))
    z = torch.randn(2, 8)
    same = blend_generators(low, high, 16, 'low')
    assert torch.equal(same(z, None, noise_mode='const'), low(z, None, noise_mode='const'))


@pytest.mark.parametrize('swap', [0, 2, 3, 64, -4])
def test_resolution_must_be_one_of_the_networks(swap: int) -> None:
    low, high = (generator(4, 'skip', 0, 2, seed) for seed in (0, 1))
    with pytest.raises(UserError, match=f'--swap-resolution={swap}: these networks have the resolutions 4, 8, 16$'):
        blend_generators(low, high, swap)


def test_different_networks_are_refused() -> None:
    low = generator(4, 'skip', 0, 2, 0)
    for other, words in [(generator(5, 'skip', 0, 2, 1), r'synthesis\.b32'), (generator(4, 'skip', 0, 3, 1), r'mapping\.fc2'),
                         (generator(4, 'resnet', 0, 2, 1), 'skip'), (generator(4, 'skip', 2, 2, 1), r'mapping\.embed')]:
        with pytest.raises(UserError, match=words):
            blend_generators(low, other, 8)
    wide = Generator(8, 0, 8, 16, 3, mapping_kwargs=dict(num_layers=2), channel_base=64, channel_max=16)
    with pytest.raises(UserError, match=r'is \[8.*in --low and \[16'):
        blend_generators(low, wide, 8)


def test_snapshots(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def networks(seed: int) -> Networks:
        torch.manual_seed(100 + seed)
        D = Discriminator(0, 16, 3, channel_base=64, channel_max=8)
        return Networks(generator(4, 'skip', 0, 2, seed), D, generator(4, 'skip', 0, 2, seed + 10), None)

    low, high = networks(0), networks(1)
    out = blend_networks(low, high, 8)
    assert out.G is not None and out.D is low.D
    assert torch.equal(out.G.synthesis.b16.conv0.weight, high.G.synthesis.b16.conv0.weight)  # type: ignore[union-attr]
    assert torch.equal(out.G_ema.synthesis.b16.conv0.weight, high.G_ema.synthesis.b16.conv0.weight)
    assert torch.equal(out.G_ema.mapping.w_avg, low.G_ema.mapping.w_avg)
    save_networks(tmp_path / 'low.pkl', low)
    save_networks(tmp_path / 'high.pkl', high)
    assert blend.main(['--low', str(tmp_path / 'low.pkl'), '--high', str(tmp_path / 'high.pkl'), '--swap-resolution', '8',
                       '--output', str(tmp_path / 'out.pkl'), '--preview', str(tmp_path / 'p.png'), '--seeds', '0-3', '--device', 'cpu']) == 0
    assert 'nothing says that one of these networks was fine-tuned from the other' in capsys.readouterr().err
    written = load_networks(tmp_path / 'out.pkl')
    for (name, a), (_, b) in zip(named_tensors(written.G_ema), named_tensors(out.G_ema)):
        assert torch.equal(a, b), name
    assert written.meta['toonify']['blend']['swap_resolution'] == 8
    families = [row['name'] for row in written.meta['toonify']['parents']]
    assert families == ['low.pkl', 'high.pkl'] and are_related(written, load_networks(tmp_path / 'low.pkl'))
    assert not are_related(load_networks(tmp_path / 'low.pkl'), load_networks(tmp_path / 'high.pkl'))
    preview = np.asarray(Image.open(tmp_path / 'p.png'))
    assert preview.shape == (48, 64, 3)
    assert not np.array_equal(preview[:16], preview[16:32]) and not np.array_equal(preview[16:32], preview[32:])


@pytest.mark.parametrize('change,words', [
    ({'--low': 'nowhere.pkl'}, 'no such snapshot'), ({'--swap-resolution': '7'}, '4, 8, 16, 32'), ({'--output': 'out.txt'}, '.pkl'),
    ({'--high': str(GOLDEN / 'ada-cond-32.pkl')}, 'differ'), ({'--mapping': 'middle'}, 'middle'), ({'--seeds': 'a'}, '--seeds=a'),
])
def test_bad_input(change: dict, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    snapshot = str(GOLDEN / 'ada-uncond-32.pkl')
    options = {'--low': snapshot, '--high': snapshot, '--swap-resolution': '8', '--output': 'out.pkl', **change}
    assert blend.main([word for pair in options.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error
    assert list(tmp_path.iterdir()) == []
