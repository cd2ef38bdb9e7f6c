"""Snapshots: read without executing, written so that NVIDIA's loaders read them."""

import argparse
import io
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, load_npz

import convert
from dnnlib import UserError
from torch_utils import torch_file
from torch_utils.misc import named_tensors
from training.augment import AugmentPipe
from training.networks import Discriminator, Generator
from training.snapshots import (
    WRITERS,
    Networks,
    load_networks,
    nvidia,
    published,
    save_networks,
    unpickling,
)


def tensors_equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    x, y = dict(named_tensors(a)), dict(named_tensors(b))
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


@pytest.mark.parametrize(
    'name', ['ada-uncond-32', 'ada-cond-32', 'sg3-cond-32', 'ada-uncond-32-py37']
)
def test_round_trip(name: str, tmp_path: Path) -> None:
    nets = load_networks(GOLDEN / f'{name}.pkl')
    save_networks(tmp_path / 'a.pkl', nets)
    again = load_networks(tmp_path / 'a.pkl')
    for part in ('G', 'D', 'G_ema', 'augment_pipe'):
        a, b = getattr(nets, part), getattr(again, part)
        assert (a is None) == (b is None)
        if a is not None:
            assert a._init_kwargs == b._init_kwargs and tensors_equal(a, b)
    about = nets.meta[
        'training_set_kwargs'
    ]  # its path is ./data.zip: folders are nobody's business
    assert again.meta['training_set_kwargs'] == {**about, 'path': 'data.zip'}
    assert os.listdir(tmp_path) == ['a.pkl']


def test_constructor_arguments_follow_the_stored_state() -> None:
    ada, sg3 = (load_networks(GOLDEN / f'{name}-cond-32.pkl') for name in ('ada', 'sg3'))
    assert ada.G_ema.mapping.w_avg_beta == 0.995 and sg3.G_ema.mapping.w_avg_beta == 0.998
    for nets in (ada, sg3):
        assert [getattr(nets.G_ema.synthesis, f'b{r}').use_fp16 for r in (4, 8, 16, 32)] == [
            False,
            False,
            True,
            True,
        ]
        assert (
            nets.G_ema.synthesis.b32.conv1.conv_clamp == 256 and nets.G_ema.mapping.num_layers == 8
        )
        assert nets.D is not None and 'b32.conv0.weight' in dict(nets.D.named_buffers())


@pytest.mark.parametrize('g,d', [('skip', 'resnet'), ('resnet', 'skip'), ('orig', 'orig')])
def test_round_trip_of_any_architecture(g: str, d: str, tmp_path: Path) -> None:
    narrow = dict(channel_base=256, channel_max=16)
    mapping = dict(num_layers=3, lr_multiplier=0.02, layer_features=24, embed_features=5)
    G = Generator(
        8,
        2,
        12,
        32,
        1,
        mapping_kwargs=mapping,
        architecture=g,
        num_fp16_res=1,
        conv_clamp=64,
        use_noise=(g != 'orig'),
        **narrow,
    )
    D = Discriminator(
        2,
        32,
        1,
        architecture=d,
        cmap_dim=7,
        block_kwargs=dict(freeze_layers=2, activation='relu'),
        epilogue_kwargs=dict(
            mbstd_group_size=None, mbstd_num_channels=2, activation='relu', conv_clamp=3
        ),
        **narrow,
    )
    pipe = AugmentPipe(scale=1, hue=0.5, scale_std=0.3)
    pipe.p.fill_(0.25)
    save_networks(tmp_path / 'a.pkl', Networks(G, D, G, pipe, {'toonify': {'cur_nimg': 1000}}))
    nets = load_networks(tmp_path / 'a.pkl')
    assert nets.G is not None and nets.D is not None and nets.augment_pipe is not None
    assert (
        tensors_equal(G, nets.G)
        and tensors_equal(D, nets.D)
        and tensors_equal(pipe, nets.augment_pipe)
    )
    assert nets.meta['toonify'] == {'cur_nimg': 1000} and nets.augment_pipe.scale_std == 0.3
    z, c = torch.randn(4, 8), torch.eye(2)[[0, 1, 1, 0]]
    img = G.eval()(z, c, noise_mode='const')
    torch.testing.assert_close(nets.G(z, c, noise_mode='const'), img)
    torch.testing.assert_close(nets.D(img, c), D(img, c))


def test_written_for_python_37_and_numpy_1() -> None:
    data = nvidia.dumps(
        {'G_ema': Generator(8, 0, 8, 8, 3, channel_base=64), 'training_set_kwargs': {}}
    )
    assert data[:2] == b'\x80\x03'
    names = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            names.add(f'{module}.{name}')
            return (
                (lambda meta: None)
                if name == '_reconstruct_persistent_obj'
                else super().find_class(module, name)
            )

    Recorder(io.BytesIO(data)).load()
    assert names == {
        'torch_utils.persistence._reconstruct_persistent_obj',
        'collections.OrderedDict',
        'builtins.set',
        'torch._utils._rebuild_tensor_v2',
        'torch._utils._rebuild_parameter',
        'torch.storage._load_from_bytes',
    }


SUFFIXES = ['.pkl', '.pt', '.safetensors']
STAND_IN = Path(__file__).parents[1] / 'nvidia_stand_in'


def test_loads_in_a_stand_in_for_nvidias_checkouts(tmp_path: Path) -> None:
    """Plain pickle.load, with the source inside executed against a minimal `torch_utils` and
    `dnnlib` of NVIDIA's names.
    """
    data = load_npz('ada-cond-32')
    nets = load_networks(GOLDEN / 'ada-cond-32.pkl')
    assert nets.augment_pipe is not None
    nets.augment_pipe.p.fill_(1)
    save_networks(tmp_path / 'ours.pkl', nets)
    np.savez(tmp_path / 'in.npz', **data)
    script = textwrap.dedent("""
        import pickle, numpy as np, torch
        import torch_utils.persistence
        assert not hasattr(torch_utils.persistence, 'build')  # the stand-in, not ours
        nets = pickle.load(open('ours.pkl', 'rb'))
        names = ('G', 'D', 'G_ema', 'augment_pipe')
        assert all(isinstance(nets[name], torch.nn.Module) for name in names)
        data = {name: torch.as_tensor(value) for name, value in np.load('in.npz').items()}
        with torch.no_grad():
            options = dict(truncation_psi=0.7, noise_mode='const', force_fp32=True)
            img = nets['G_ema'](data['z'], data['c'], **options)
            logits = nets['D'](data['D_in'], data['c'])
            ws = nets['G'].mapping(data['z'], data['c'])
            augmented = nets['augment_pipe'](data['D_in'], debug_percentile=0.3)
        fp16 = nets['G'].synthesis.b32.use_fp16
        np.savez('out.npz', img=img, logits=logits, ws=ws, augmented=augmented, fp16=fp16)
    """)
    environment = {**os.environ, 'PYTHONPATH': str(STAND_IN)}
    subprocess.run(
        [sys.executable, '-c', script], cwd=tmp_path, env=environment, check=True, timeout=120
    )
    out = dict(np.load(tmp_path / 'out.npz'))
    np.testing.assert_allclose(out['img'], data['G_ema_img_const'], atol=1e-4)
    np.testing.assert_allclose(out['logits'], data['D_logits'], atol=1e-4)
    np.testing.assert_allclose(out['ws'], data['G_ws'], atol=1e-4)
    assert out['fp16']
    np.testing.assert_allclose(
        out['augmented'],
        nets.augment_pipe(torch.as_tensor(data['D_in']), debug_percentile=0.3).numpy(),
        atol=1e-4,
    )


def test_not_a_snapshot(tmp_path: Path) -> None:
    (tmp_path / 'text.pkl').write_text('hello')
    (tmp_path / 'other.pkl').write_bytes(pickle.dumps({'a': [1, 2.0, 'x', None]}))
    for name, words in [
        ('text.pkl', 'neither a pickle'),
        ('other.pkl', 'not a StyleGAN2 snapshot'),
        ('none.pkl', 'no such'),
        ('.', 'folder'),
    ]:
        with pytest.raises(UserError, match=words):
            load_networks(tmp_path / name)


def test_w_avg_of_a_file_without_latent_avg(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(GOLDEN / 'rosinality-32.pt', weights_only=True)
    torch.save({'g_ema': content['g_ema']}, tmp_path / 'a.pt')
    nets = load_networks(tmp_path / 'a.pt')
    assert 'w_avg is estimated' in caplog.text and nets.G is None and nets.D is None
    scale = content['latent_avg'].norm()
    assert (nets.G_ema.mapping.w_avg - content['latent_avg']).norm() < 0.5 * scale + 0.1


def test_pkl_always_holds_what_nvidias_loader_needs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """G, D and G_ema are modules: a missing G is filled in, a missing D is warned of."""
    nets = load_networks(GOLDEN / 'ada-uncond-32.pkl')
    save_networks(tmp_path / 'a.pkl', Networks(None, nets.D, nets.G_ema))
    again = load_networks(tmp_path / 'a.pkl')
    assert again.G is not None and tensors_equal(again.G, nets.G_ema) and again.D is not None
    save_networks(tmp_path / 'b.pkl', Networks(None, None, nets.G_ema))
    assert 'NVIDIA' in caplog.text and load_networks(tmp_path / 'b.pkl').D is None


@pytest.mark.parametrize('name', ['tf-uncond-32', 'rosinality-32'])
def test_foreign_checkpoints(name: str) -> None:
    data = {key: torch.as_tensor(value) for key, value in load_npz(name).items()}
    nets = load_networks(next(GOLDEN.glob(f'{name}.p[kt]*')))
    assert nets.G is not None and nets.D is not None
    for part, G in [('G', nets.G), ('G_ema', nets.G_ema)]:
        psi = 0.7 if name.startswith('tf') else 1
        torch.testing.assert_close(
            G(data['z'], None, noise_mode='const', truncation_psi=psi),
            data[f'{part}_img_const'],
            atol=1e-4,
            rtol=0,
        )
    torch.testing.assert_close(nets.D(data['D_in'], None), data['D_logits'], atol=1e-4, rtol=0)
    if 'w' in data:
        torch.testing.assert_close(
            nets.G_ema.mapping(data['z'], None)[:, 0], data['w'], atol=1e-4, rtol=0
        )
        truncated = nets.G_ema(data['z'], None, noise_mode='const', truncation_psi=0.7)
        torch.testing.assert_close(truncated, data['G_ema_img_const_psi0.7'], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    'source', ['ada-cond-32.pkl', 'sg3-uncond-32.pkl', 'tf-uncond-32.pkl', 'rosinality-32.pt']
)
@pytest.mark.parametrize(
    'way',
    [
        *([one] for one in SUFFIXES),
        *([one, other] for one in SUFFIXES for other in SUFFIXES if one != other),
        *([one, other, one] for one in SUFFIXES for other in SUFFIXES if one != other),
        ['.pt', '.safetensors', '.pkl', '.pt'],
    ],
)
def test_conversions(
    source: str, way: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    nets = load_networks(GOLDEN / source)
    path = GOLDEN / source
    for i, suffix in enumerate(way):
        dest = tmp_path / f'{i}{suffix}'
        code = convert.main(['--source', str(path), '--dest', str(dest)])
        if suffix == '.pt' and nets.G_ema.c_dim:
            assert code == 2 and 'unconditional' in capsys.readouterr().err and not dest.exists()
            return
        assert code == 0
        path = dest
    again = load_networks(path)
    assert again.G is not None and nets.G is not None
    if '.pt' in way:  # rosinality's format has one w_avg, that of G_ema
        nets.G.mapping.w_avg.copy_(nets.G_ema.mapping.w_avg)
    for part in ('G', 'D', 'G_ema'):
        assert tensors_equal(getattr(again, part), getattr(nets, part)), part
    z, c = (
        torch.randn(2, nets.G_ema.z_dim),
        torch.eye(nets.G_ema.c_dim)[:2] if nets.G_ema.c_dim else None,
    )
    images = [
        (network.G_ema(z, c, noise_mode='const', truncation_psi=0.7) * 127.5 + 128).clamp(0, 255)
        for network in (nets, again)
    ]
    assert (images[0] - images[1]).abs().max() < 1
    assert 'carried' in capsys.readouterr().out


def test_conversion_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Down to single settings and tensors."""
    G, D = (
        Generator(32, 0, 32, 32, 3, channel_base=256, num_fp16_res=2, conv_clamp=256),
        Discriminator(0, 32, 3, channel_base=256),
    )
    G_ema = Generator(
        32,
        0,
        32,
        32,
        3,
        channel_base=256,
        num_fp16_res=2,
        conv_clamp=256,
        mapping_kwargs={'w_avg_beta': 0.998},
    )
    G.mapping.w_avg.fill_(1)
    save_networks(
        tmp_path / 'a.pkl', Networks(G, D, G_ema, None, {'training_set_kwargs': {'path': 'x'}})
    )
    assert (
        convert.main(['--source', str(tmp_path / 'a.pkl'), '--dest', str(tmp_path / 'a.pt')]) == 0
    )
    lines = dict(
        line.split(maxsplit=1)
        for line in capsys.readouterr().out.split(f'{tmp_path}/a.pt\n')[1].splitlines()
    )
    assert (
        'conv_clamp 256 → None in' in lines['G_ema']
        and 'use_fp16 True → False in 2 layers' in lines['G_ema']
    )
    assert (
        'w_avg_beta 0.998 → 0.995' in lines['G_ema']
        and 'mapping.w_avg' in lines['G']
        and 'mapping.w_avg,' not in lines['G_ema']
    )
    assert lines['D'] == 'carried' and lines['training_set_kwargs'].startswith('not carried')
    save_networks(tmp_path / 'b.safetensors', Networks(None, None, G_ema))
    assert (
        convert.main(
            ['--source', str(tmp_path / 'b.safetensors'), '--dest', str(tmp_path / 'b.pkl')]
        )
        == 0
    )
    assert 'G             added: this format insists on it' in capsys.readouterr().out


def test_tensors_must_fit_their_data() -> None:
    storage = torch.zeros(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    assert torch_file.rebuild_tensor(typed, 0, (2, 2), (2, 1)).shape == (2, 2)
    for offset, size, stride in [
        (0, (5,), (1,)),
        (3, (2,), (1,)),
        (0, (1 << 40,), (0,)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
    ]:
        with pytest.raises(pickle.UnpicklingError):
            torch_file.rebuild_tensor(typed, offset, size, stride)


def test_arrays_and_numbers_are_read() -> None:
    content = {
        'a': np.arange(6, dtype=np.float32).reshape(2, 3),
        'b': np.float64(1.5),
        'c': np.int64(-3),
        'd': {1, 2},
        'e': np.bool_(True),
    }
    for protocol in (2, 3, 4):
        got = unpickling.load(pickle.dumps(content, protocol=protocol), 'x')
        np.testing.assert_array_equal(got['a'], content['a'])
        assert (got['b'], got['c'], got['d'], got['e']) == (1.5, -3, {1, 2}, True)


def test_loading_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    load_networks(GOLDEN / 'ada-uncond-32.pkl')
    assert torch.equal(torch.randn(4), expected)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.pkl'
    path.write_bytes(b'old')

    def fail(file: Any, content: Any) -> None:
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setitem(WRITERS, '.pkl', fail)
    with pytest.raises(UserError, match='No space left'):
        save_networks(path, load_networks(GOLDEN / 'ada-uncond-32.pkl'))
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['a.pkl']


def test_named_sources_and_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetched(url: str, **kwargs: Any) -> Path:
        asked.append(url)
        return GOLDEN / 'ada-uncond-32.pkl'

    monkeypatch.setattr(published, 'fetch', fetched)
    monkeypatch.chdir(tmp_path)
    assert load_networks('ffhq256').G_ema.img_resolution == 32
    load_networks('http://127.0.0.1/x.pkl')
    assert (
        asked[0].endswith('/transfer-learning-source-nets/ffhq-res256-mirror-paper256-noaug.pkl')
        and asked[1] == 'http://127.0.0.1/x.pkl'
    )
    with pytest.raises(UserError, match='nor a known name: cartoon64, .*ffhq256'):
        load_networks('ffhq257')


@pytest.mark.parametrize('zipped', [True, False])
def test_checkpoint_of_rosinalitys_training(zipped: bool, tmp_path: Path) -> None:
    """With optimisers and the command line beside the networks, also in the format that PyTorch
    wrote until 2020.
    """
    content = torch.load(GOLDEN / 'rosinality-32.pt', weights_only=True)
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    optimizer = torch.optim.Adam(weights)
    (weights[0].sum() + weights[1].square().sum()).backward()
    optimizer.step()
    content.update(
        g_optim=optimizer.state_dict(),
        d_optim=optimizer.state_dict(),
        ada_aug_p=0.25,
        args=argparse.Namespace(path='x', size=32, betas=(0.0, 0.99)),
    )
    torch.save(content, tmp_path / 'a.pt', _use_new_zipfile_serialization=zipped)
    nets, golden = load_networks(tmp_path / 'a.pt'), load_networks(GOLDEN / 'rosinality-32.pt')
    for part in ('G', 'D', 'G_ema'):
        assert tensors_equal(getattr(nets, part), getattr(golden, part))
    data = (tmp_path / 'a.pt').read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / 'cut.pt').write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UserError):
            load_networks(tmp_path / 'cut.pt')
