"""The networks that come with the project, by name, and the recipe that made them."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import blend
import calc_fid
import generate
import prepare_data
from dnnlib import UserError
from synthesis.latents import save_ws
from training.snapshots import load_networks
from training.snapshots.shipped import shipped_networks

NAMES = ('cartoon64', 'faces64', 'goblin64')


def test_shipped_networks_are_small_and_have_cards() -> None:
    files = shipped_networks()
    assert set(NAMES) <= set(files)
    assert sum(path.stat().st_size for path in files.values()) < 12e6
    card = (ROOT / 'models' / 'README.md').read_text(encoding='utf-8')
    assert all(f'## {name}' in card for name in files)


@pytest.mark.parametrize('name', NAMES)
def test_shipped_network_draws_offline_by_name(name: str, tmp_path: Path) -> None:
    options = ['--seeds', '0-3', '--grid', '2x2', '--outdir', str(tmp_path), '--device', 'cpu']
    assert generate.main(['--network', name, *options]) == 0
    pixels = np.asarray(Image.open(tmp_path / 'grid.png'))
    assert pixels.shape == (128, 128, 3) and pixels.std() > 30


def test_shipped_networks_are_relatives(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    grid = str(tmp_path / 'swaps.png')
    words = ['--low', 'faces64', '--high', 'cartoon64', '--grid', grid, '--seeds', '0-1']
    assert blend.main([*words, '--device', 'cpu']) == 0
    assert 'warning' not in capsys.readouterr().err


def test_shipped_network_is_compared_by_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    words = ['--real', str(data), '--fake', 'cartoon64', '--num', '4', '--detector', 'random-vgg']
    assert calc_fid.main([*words, '--device', 'cpu']) == 0
    assert 'lower is better' in capsys.readouterr().out


@pytest.mark.parametrize('script', ['toonify', 'project', 'generate'])
def test_output_never_replaces_an_input(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (64, 64)).save('me.png')
    Image.new('RGB', (64, 64)).save('target.png')
    w = torch.zeros([1, 10, 128])
    save_ws('proj00.npz', list(w), [{}])
    few = ['--num-steps', '1', '--loss', 'pyramid', '--align', 'none']
    common = ['--network', 'faces64', '--outdir', '.', '--device', 'cpu']
    words = {
        'toonify': ['me.png', *common, '--toon', 'cartoon64', '--swap-resolution', '16', *few],
        'project': ['--target', 'target.png', *common, *few],
        'generate': ['--projected-w', 'proj00.npz', '--save-w', *common],
    }[script]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert importlib.import_module(script).main(words) == 2
    assert 'there is an input, which would be lost' in capsys.readouterr().err
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())


def test_source_network_can_be_fine_tuned() -> None:
    nets = load_networks('faces64')
    assert nets.G is not None and nets.D is not None


def test_file_of_a_networks_name_comes_first_and_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(shipped_networks()['goblin64'], 'faces64')
    assert load_networks('faces64').G is None
    assert 'faces64: the file of this name is used' in caplog.text


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match='cartoon64, faces64, goblin64, .*ffhq256'):
        load_networks('faces65')


def test_damaged_shipped_file_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shipped_networks()['goblin64']
    (tmp_path / 'goblin64.safetensors').write_bytes(source.read_bytes()[:100_000])
    monkeypatch.setattr('training.snapshots.shipped.FOLDER', tmp_path)
    with pytest.raises(UserError, match='git checkout -- models/goblin64.safetensors restores it'):
        load_networks('goblin64')


@pytest.mark.slow
def test_recipe_of_the_networks_runs_in_its_smallest_form(tmp_path: Path) -> None:
    faces = tmp_path / 'faces'
    faces.mkdir()
    for i in range(24):  # in place of those that models/draw_faces.py draws
        pixels = np.random.RandomState(i).randint(0, 256, [64, 64, 3], dtype=np.uint8)
        Image.fromarray(pixels).save(faces / f'{i}.png')
    archive = str(tmp_path / 'faces64.zip')
    assert prepare_data.main(['--source', str(faces), '--dest', archive, '--resolution', '64']) == 0
    words = [sys.executable, str(ROOT / 'models' / 'make.py'), '--out', str(tmp_path)]
    subprocess.run([*words, '--smallest'], check=True, timeout=600)
    for name in NAMES:
        assert load_networks(tmp_path / f'{name}.safetensors').G_ema.img_resolution == 64
