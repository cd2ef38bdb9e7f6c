"""Pictures from a snapshot."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image

import generate
from dnnlib import UserError
from dnnlib.cli import parse_seeds
from synthesis.images import sample_images
from torch_utils.pictures import tile
from training.checkpoint import load_networks

PLAIN, COND = str(GOLDEN / 'ada-uncond-32.pkl'), str(GOLDEN / 'ada-cond-32.pkl')


def draw(outdir: Path, *options: str) -> dict[str, np.ndarray]:
    assert generate.main(['--outdir', str(outdir), '--device=cpu', *options]) == 0
    return {path.name: np.asarray(Image.open(path)) for path in sorted(outdir.iterdir())}


def test_the_pictures_that_users_know(tmp_path: Path) -> None:
    images = draw(tmp_path, '--network', PLAIN, '--seeds=0-2,85')
    assert list(images) == ['seed0000.png', 'seed0001.png', 'seed0002.png', 'seed0085.png']
    G = load_networks(PLAIN).G_ema
    z = torch.from_numpy(np.random.RandomState(85).randn(1, G.z_dim)).float()
    want = (G(z, None, noise_mode='const').permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].numpy()
    assert np.abs(images['seed0085.png'].astype(int) - want).max() <= 1


def test_every_option_shows(tmp_path: Path) -> None:
    base = ['--network', COND, '--seeds=3', '--class=0']
    name = 'seed0003.png'
    plain = draw(tmp_path / 'plain', *base)[name]
    for i, change in enumerate([['--trunc=0.3'], ['--class=1'], ['--noise-mode=none'], ['--noise-mode=random']]):
        assert not np.array_equal(draw(tmp_path / str(i), *base, *change)[name], plain), change
    random = [draw(tmp_path / f'r{i}', *base, '--noise-mode=random')[name] for i in range(2)]
    assert np.array_equal(*random)


def test_batches_and_grid(tmp_path: Path) -> None:
    one, many = (draw(tmp_path / str(n), '--network', PLAIN, '--seeds=0-4', '--grid=2x2', f'--batch={n}') for n in (1, 3))
    assert one.keys() == many.keys() and one['grid.png'].shape == (64, 64, 3)
    for name in one:
        assert np.abs(one[name].astype(int) - many[name]).max() <= 1
    np.testing.assert_array_equal(one['grid.png'][:32, 32:], one['seed0001.png'])


@pytest.mark.parametrize('options,words', [
    (['--network=none.pkl'], 'none.pkl: no such'), (['--network', COND], '--class=0'), (['--network', COND, '--class=3'], '0…2'),
    (['--network', PLAIN, '--class=0'], 'no classes'), (['--network', PLAIN, '--seeds=5-2'], '--seeds=5-2'), (['--network', PLAIN, '--seeds='], '--seeds='),
    (['--network', PLAIN, '--grid=6'], '--grid=6'), (['--network', PLAIN, '--noise-mode=loud'], 'loud'), (['--network', PLAIN, '--batch=0'], '0'),
    (['--network', __file__], 'neither a pickle'), ([], '--network'),
])
def test_bad_input(options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate.main(['--outdir=out', '--device=cpu', *options]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error and not list(tmp_path.iterdir())


def test_outdir_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'out').write_text('mine')
    assert generate.main([f"--outdir={tmp_path / 'out'}", '--network', PLAIN, '--seeds=0', '--device=cpu']) == 2
    assert 'cannot write' in capsys.readouterr().err and (tmp_path / 'out').read_text() == 'mine'


def test_seeds() -> None:
    assert parse_seeds('0-3, 7,9-9') == [0, 1, 2, 3, 7, 9]
    for text in ('', 'a', '1-', '-1', '3-1', '4294967296', '0-99999999'):
        with pytest.raises(UserError, match='--seeds='):
            parse_seeds(text)


def test_samples_for_metrics() -> None:
    G = load_networks(COND).G_ema
    first, second = (list(sample_images(G, 7, batch_size=3, seed=1, noise_mode='const')) for _ in range(2))
    assert [len(batch) for batch in first] == [3, 3, 1] and first[0].dtype == torch.uint8
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    fixed = torch.cat(list(sample_images(G, 7, seed=1, noise_mode='const', label_fn=lambda n: torch.eye(3)[[0] * n])))
    assert not torch.equal(fixed, torch.cat(first))


def test_tile() -> None:
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1).repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_array_equal(tile(images, 2)[:, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]])
