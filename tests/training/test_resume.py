"""`--resume`: what a new run takes from a snapshot, and what it says about it."""

from pathlib import Path

import pytest
import torch
from conftest import GOLDEN
from PIL import Image

import train
from torch_utils.misc import named_tensors
from training import resume
from training.config import TrainingConfig, build_config
from training.dataset import ImageFolderDataset
from training.run import setup
from training.snapshots import Networks, load_networks, save_networks

UNCOND, COND = str(GOLDEN / 'ada-uncond-32.pkl'), str(GOLDEN / 'ada-cond-32.pkl')


@pytest.fixture
def data(labelled_data: Path) -> Path:
    return labelled_data


def settings(
    data: Path, source: str, cond: bool = False, **options: object
) -> tuple[TrainingConfig, ImageFolderDataset]:
    dataset = ImageFolderDataset(data, use_labels=cond)
    return build_config(
        'auto', 32, 1, {'resume': source, 'data': {'path': str(data), 'cond': cond}, **options}
    ), dataset


def run(data: Path, outdir: Path, *options: str) -> Path:
    assert (
        train.main(
            [
                '--outdir',
                str(outdir),
                '--data',
                str(data),
                '--device=cpu',
                '--batch=4',
                '--snap=1',
                '--tick=0.004',
                *options,
            ]
        )
        == 0
    )
    return max(outdir.iterdir())


def test_every_tensor_is_the_sources(data: Path) -> None:
    source = load_networks(UNCOND)
    config, dataset = settings(data, UNCOND)
    got = setup(config, dataset, torch.device('cpu'))
    for key in ('G', 'D', 'G_ema'):
        ours, theirs = (
            dict(named_tensors(getattr(got, key))),
            dict(named_tensors(getattr(source, key))),
        )
        assert ours.keys() == theirs.keys() and all(
            torch.equal(ours[name], theirs[name]) for name in theirs
        )
        assert f'{key}: {len(theirs)} tensors copied' in got.notes
    z = torch.randn(4, source.G_ema.z_dim)
    assert torch.equal(
        got.G_ema(z, None, noise_mode='const'), source.G_ema(z, None, noise_mode='const')
    )


def test_the_snapshot_overrides_the_preset(data: Path) -> None:
    config, dataset = settings(data, UNCOND)
    got = resume.load_source(config, dataset)
    assert config.network.z_dim == 512 and got.config.network.z_dim == got.G.z_dim == 32
    (line,) = (note for note in got.notes if 'overrides' in note)
    assert 'z_dim 32 (preset 512)' in line and 'mapping_layers' not in line
    assert any('probability was' in note for note in got.notes)


@pytest.mark.parametrize(
    'source,cond,classes', [(UNCOND, True, 3), (COND, False, 0), (COND, True, 3)]
)
def test_dropped_labels(source: str, cond: bool, classes: int, data: Path) -> None:
    before = load_networks(source)
    got = resume.load_source(*settings(data, source, cond, resume_labels='drop'))
    assert got.G.c_dim == got.G_ema.c_dim == got.D.c_dim == classes
    for key in ('G', 'D', 'G_ema'):
        ours, theirs = (
            dict(named_tensors(getattr(got, key))),
            dict(named_tensors(getattr(before, key))),
        )
        same = [
            name
            for name in ours
            if name in theirs
            and ours[name].shape == theirs[name].shape
            and torch.equal(ours[name], theirs[name])
        ]
        others = set(ours) - set(same)
        assert all(name.startswith(('mapping.', 'b4.out.')) for name in others) and not any(
            name.startswith('synthesis') for name in others
        )
        (note,) = (note for note in got.notes if note.startswith(f'{key}: '))
        assert note.startswith(f'{key}: {len(same)} tensors copied')
        # A network that loses its labels loses layers; one that gets labels gets new ones.
        assert ('skipped' in note) == (classes == 0) and ('new' in note) == (classes > 0)
    if classes:
        assert torch.equal(got.G.mapping.embed.weight, got.G_ema.mapping.embed.weight)
        if source == COND:
            assert not torch.equal(got.G.mapping.embed.weight, before.G.mapping.embed.weight)  # type: ignore[union-attr]
    z = torch.randn(4, got.G.z_dim)
    c = torch.eye(classes)[[0, 1, 2, 0]] if classes else None
    if source == UNCOND:  # all classes begin with the pictures of the source
        torch.testing.assert_close(
            got.G_ema(z, c, noise_mode='const'),
            before.G_ema(z, None, noise_mode='const'),
            atol=1e-5,
            rtol=1e-5,
        )
    logits = got.D(torch.randn(4, 3, 32, 32), c)
    assert logits.shape == (4, 1) and logits.isfinite().all()


def test_a_conditional_run_from_an_unconditional_snapshot(data: Path, tmp_path: Path) -> None:
    run_dir = run(
        data, tmp_path, f'--resume={UNCOND}', '--cond=1', '--resume-labels=drop', '--kimg=0.008'
    )
    nets = load_networks(run_dir / 'network-snapshot-000000.008.pkl')
    assert nets.G_ema.c_dim == 3 and nets.D is not None and nets.D.c_dim == 3
    assert 'mapping.embed.weight' in (run_dir / 'log.txt').read_text()
    assert nets.meta['toonify']['parents'][0]['name'] == 'ada-uncond-32.pkl'


def test_missing_networks(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = load_networks(UNCOND)
    path = tmp_path / 'only.safetensors'
    save_networks(path, Networks(None, None, whole.G_ema))
    assert (
        train.main(
            [
                '--outdir',
                str(tmp_path / 'out'),
                '--data',
                str(data),
                '--device=cpu',
                f'--resume={path}',
            ]
        )
        == 2
    )
    assert (
        'no G and no D; with --resume-missing=fresh' in capsys.readouterr().err
        and not (tmp_path / 'out').exists()
    )
    config, dataset = settings(data, str(path), resume_missing='fresh')
    got = resume.load_source(config, dataset)
    for (name, ours), (_, theirs) in zip(named_tensors(got.G), named_tensors(whole.G_ema)):
        assert torch.equal(ours, theirs), name
    assert {'G: G_ema, since the file has no G', 'D: new, since the file has none'} <= set(
        got.notes
    )
    assert got.D.img_resolution == 32 and not torch.equal(
        got.D.b4.out.weight, whole.D.b4.out.weight
    )  # type: ignore[union-attr]
    run(data, tmp_path / 'out', f'--resume={path}', '--resume-missing=fresh', '--kimg=0.004')


@pytest.mark.parametrize(
    'options,words',
    [
        ([f'--resume={COND}'], '--resume-labels=drop'),
        (['--resume-labels=drop'], '--resume-labels=drop needs --resume'),
        (['--resume-missing=fresh'], 'needs --resume'),
        (['--resume-labels=x'], 'keep'),
        (['--keep=0'], '--keep=0'),
    ],
)
def test_bad_input(
    options: list[str], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert (
        train.main(
            ['--outdir', str(tmp_path / 'out'), '--data', str(data), '--device=cpu', *options]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error and not (tmp_path / 'out').exists()


def test_another_resolution_is_an_error_naming_both(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Image.new('RGB', (64, 64)).save(tmp_path / 'a.png')
    assert (
        train.main(
            [
                '--outdir',
                str(tmp_path / 'out'),
                '--data',
                str(tmp_path),
                '--device=cpu',
                f'--resume={UNCOND}',
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert (
        'resolution is 32' in error
        and 'is 64' in error
        and 'prepare_data.py --resolution 32' in error
    )


def test_lineage_tells_preset_and_kimg(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path, f'--resume={UNCOND}', '--nkimg=3', '--kimg=3.004')
    second = run(
        data,
        tmp_path,
        f'--resume={first / "network-snapshot-000003.004.pkl"}',
        '--cfg=demo',
        '--kimg=0.004',
    )
    parents = load_networks(second / 'network-snapshot-000000.004.pkl').meta['toonify']['parents']
    assert [(row['name'], row['kimg'], row['preset']) for row in parents] == [
        ('network-snapshot-000003.004.pkl', 3.004, 'auto'),
        ('ada-uncond-32.pkl', None, None),
    ]
