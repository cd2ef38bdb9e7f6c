"""Every option of generate.py, seen in pixels."""

import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from conftest import GOLDEN, read_video
from hostile_parts import touching
from PIL import ExifTags, Image

import generate
from synthesis.noise import blend_noise, random_noise
from synthesis.sampling import render_ws
from training.snapshots import load_networks

PLAIN, COND = str(GOLDEN / 'ada-uncond-32.pkl'), str(GOLDEN / 'ada-cond-32.pkl')
LAST = 7  # of the eight ws of these networks


def run(*options: object) -> None:
    words = [str(word) for word in options]
    assert (
        generate.main(
            [*([] if '--network' in words else ['--network', PLAIN]), '--device=cpu', *words]
        )
        == 0
    )


def draw(outdir: Path, *options: object) -> dict[str, np.ndarray]:
    run('--outdir', outdir, *options)
    return {
        path.name: np.asarray(Image.open(path))
        for path in sorted(outdir.iterdir())
        if path.suffix != '.npz'
    }


def film(path: Path, *options: object) -> np.ndarray:
    run('--video', path, '--frames=9', *options)
    return read_video(path)[0]


def sweep(path: Path, *options: object) -> np.ndarray:
    """Frames of a sweep at the size of the network: tiles of 32 pixels, which are enlarged three
    times.
    """
    return film(path, *options)[:, 1::3, 1::3]


def tiles_of(strip: np.ndarray, rows: int = 2) -> np.ndarray:
    """The pictures in a labelled strip of SeFa at the size of the network: uint8 `[rows, 7, 32, 32,
    3]`.
    """
    top, left, step = 28, strip.shape[1] - 7 * 110, 110  # of pictures of 96, three times enlarged
    return np.stack(
        [
            [strip[y : y + 96, x : x + 96][1::3, 1::3] for x in range(left, strip.shape[1], step)]
            for y in range(top, top + rows * step, step)
        ]
    )


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two pictures, in levels. Under 10 between a picture and the same one in a
    GIF, over 20 between seeds.
    """
    return float(np.abs(a.astype(float) - b).mean())


def error_of(capsys: pytest.CaptureFixture, *options: object) -> str:
    assert generate.main(['--device=cpu', *map(str, options)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1, error
    return error


@pytest.fixture(scope='module', autouse=True)
def networks_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr('training.snapshots.load_networks', functools.cache(load_networks))
        yield


@pytest.fixture(scope='module')
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """The pictures of seeds 0 to 3."""
    return list(draw(tmp_path_factory.mktemp('seeds'), '--seeds=0-3').values())


def test_seeds_draw_the_pictures_of_nvidias_scripts(tmp_path: Path) -> None:
    images = draw(tmp_path, '--seeds=0-2,85')
    assert list(images) == ['seed0000.png', 'seed0001.png', 'seed0002.png', 'seed0085.png']
    G = load_networks(PLAIN).G_ema
    z = torch.from_numpy(np.random.RandomState(85).randn(1, G.z_dim)).float()
    want = (
        (G(z, None, noise_mode='const').permute(0, 2, 3, 1) * 127.5 + 128)
        .clamp(0, 255)
        .to(torch.uint8)[0]
        .numpy()
    )
    assert np.abs(images['seed0085.png'].astype(int) - want).max() <= 1


def test_36_pictures_by_default(tmp_path: Path) -> None:
    assert list(draw(tmp_path)) == [f'seed{seed:04d}.png' for seed in range(36)]


def test_each_option_changes_the_picture(tmp_path: Path) -> None:
    base = ['--network', COND, '--seeds=3', '--class=0']
    plain = draw(tmp_path / 'plain', *base)['seed0003.png']
    for i, change in enumerate(
        [
            ['--trunc=0.3'],
            ['--class=1'],
            ['--noise-mode=none'],
            ['--noise-mode=random'],
            ['--seeds=4'],
        ]
    ):
        (image,) = draw(tmp_path / str(i), *base, *change).values()
        assert image.shape == plain.shape and not np.array_equal(image, plain), change
    networks = [
        draw(tmp_path / name, '--network', GOLDEN / f'{name}-uncond-32.pkl', '--seeds=3')[
            'seed0003.png'
        ]
        for name in ('ada', 'tf')
    ]
    assert not np.array_equal(*networks)
    mean, same_mean = (
        draw(tmp_path / f'mean{seed}', *base, '--trunc=0', f'--seeds={seed}').popitem()[1]
        for seed in (3, 4)
    )
    np.testing.assert_array_equal(mean, same_mean)


def test_random_noise_belongs_to_the_seed(tmp_path: Path) -> None:
    base = ['--noise-mode=random', '--seeds=0-4']
    images = [
        draw(tmp_path / f'{i}', *base, f'--batch={batch}') for i, batch in enumerate([1, 2, 5, 5])
    ]
    (alone,) = draw(tmp_path / 'alone', '--noise-mode=random', '--seeds=3').values()
    for name, image in images[0].items():
        assert all(np.abs(other[name].astype(int) - image).max() <= 1 for other in images[1:])
        np.testing.assert_array_equal(images[2][name], images[3][name])
    assert np.abs(alone.astype(int) - images[0]['seed0003.png']).max() <= 1
    with_noise, without = (
        draw(tmp_path / mode, '--seeds=3', f'--noise-mode={mode}').popitem()[1]
        for mode in ('const', 'none')
    )
    assert gap(alone, without) > 0.5 < gap(alone, with_noise)


def test_batch_size_changes_neither_pictures_nor_grid(tmp_path: Path) -> None:
    one, many = (
        draw(tmp_path / str(n), '--seeds=0-4', '--grid=2x2', f'--batch={n}') for n in (1, 3)
    )
    assert one.keys() == many.keys() and one['grid.png'].shape == (64, 64, 3)
    for name in one:
        assert np.abs(one[name].astype(int) - many[name]).max() <= 1
    np.testing.assert_array_equal(one['grid.png'][:32, 32:], one['seed0001.png'])


def test_saved_ws_draw_the_same_again(tmp_path: Path, seeds: list[np.ndarray]) -> None:
    images = draw(tmp_path / 'a', '--seeds=0-1', '--save-w', '--trunc=0.6')
    w = np.load(tmp_path / 'a' / 'seed0001.npz')['w']
    assert (
        w.shape == (1, 8, w.shape[2])
        and w.dtype == np.float32
        and gap(images['seed0001.png'], seeds[1]) > 1
    )
    again = draw(tmp_path / 'b', '--projected-w', tmp_path / 'a' / 'seed0001.npz')
    assert list(again) == ['proj00.png']
    np.testing.assert_array_equal(again['proj00.png'], images['seed0001.png'])
    both = np.concatenate([np.load(tmp_path / 'a' / f'seed000{i}.npz')['w'] for i in (1, 0)])
    np.savez(tmp_path / 'both.npz', w=both.astype(np.float64))
    pair = draw(tmp_path / 'c', '--projected-w', tmp_path / 'both.npz', '--batch=1')
    np.testing.assert_array_equal(pair['proj01.png'], images['seed0000.png'])
    mean = draw(tmp_path / 'd', '--projected-w', tmp_path / 'both.npz', '--trunc=0')
    np.testing.assert_array_equal(mean['proj00.png'], mean['proj01.png'])


def test_noise_of_an_npz_is_drawn(tmp_path: Path, seeds: list[np.ndarray]) -> None:
    run('--seeds=0-1', '--save-w', '--outdir', tmp_path)
    w = np.concatenate([np.load(tmp_path / f'seed000{i}.npz')['w'] for i in (0, 1)])
    layer = load_networks(PLAIN).G_ema.synthesis.b8.conv0
    own = {
        'noise.b8.conv0': np.stack([layer.noise_const.numpy(), -layer.noise_const.numpy()]),
        'noise.b32.conv1': np.zeros([32, 32]),
    }
    np.savez(
        tmp_path / 'w.npz', w=w, other=np.zeros(3), **{'noise.b8.conv0': own['noise.b8.conv0']}
    )
    first, second = draw(tmp_path / 'a', '--projected-w', tmp_path / 'w.npz', '--save-w').values()
    np.testing.assert_allclose(first, seeds[0], atol=1)
    assert gap(second, seeds[1]) > 0.2
    (again,) = draw(tmp_path / 'b', '--projected-w', tmp_path / 'a' / 'proj01.npz').values()
    np.testing.assert_allclose(again, second, atol=1)
    silent = draw(tmp_path / 'c', '--projected-w', tmp_path / 'w.npz', '--noise-mode=none')[
        'proj01.png'
    ]
    plain = draw(tmp_path / 'd', '--seeds=1', '--noise-mode=none')['seed0001.png']
    np.testing.assert_allclose(silent, plain, atol=1)
    np.savez(tmp_path / 'flat.npz', w=w, **{'noise.b32.conv1': own['noise.b32.conv1']})
    assert (
        gap(draw(tmp_path / 'e', '--projected-w', tmp_path / 'flat.npz')['proj00.png'], seeds[0])
        > 0.1
    )


def test_style_mix_takes_layers_from_the_column(tmp_path: Path, seeds: list[np.ndarray]) -> None:
    images = draw(tmp_path / 'a', '--style-mix=0,1/2,3', '--styles=0-3', '--save-w')
    assert sorted(images) == [
        '0-0.png',
        '0-2.png',
        '0-3.png',
        '1-1.png',
        '1-2.png',
        '1-3.png',
        '2-2.png',
        '3-3.png',
        'grid.png',
    ]
    for i in range(4):
        np.testing.assert_allclose(images[f'{i}-{i}.png'], seeds[i], atol=1)
    grid = images['grid.png'].reshape(3, 32, 3, 32, 3).transpose(0, 2, 1, 3, 4)
    assert not grid[0, 0].any()
    for row, line in enumerate([['', '2-2', '3-3'], ['0-0', '0-2', '0-3'], ['1-1', '1-2', '1-3']]):
        for column, name in enumerate(line):
            assert not name or np.array_equal(grid[row, column], images[f'{name}.png'])
    w = {name: np.load(tmp_path / 'a' / f'{name}.npz')['w'][0] for name in ('0-0', '0-2', '2-2')}
    np.testing.assert_array_equal(w['0-2'][:4], w['2-2'][:4])
    np.testing.assert_array_equal(w['0-2'][4:], w['0-0'][4:])
    usual, none, all_layers = (
        draw(tmp_path / str(i), '--style-mix=0/2', *options)['0-2.png']
        for i, options in enumerate([[], [f'--styles={LAST}'], [f'--styles=0-{LAST}']])
    )
    np.testing.assert_allclose(all_layers, seeds[2], atol=1)
    flat = draw(tmp_path / 'flat', '--style-mix=0/2', '--trunc=0')
    np.testing.assert_allclose(flat['0-0.png'], flat['2-2.png'], atol=1)
    assert 0 < gap(none, seeds[0]) < gap(images['0-2.png'], seeds[0]) < gap(usual, seeds[0])


@pytest.mark.parametrize('suffix', ['mp4', 'gif'])
def test_interpolation_passes_through_its_seeds(
    suffix: str, tmp_path: Path, seeds: list[np.ndarray]
) -> None:
    path = tmp_path / 'new' / f'a.{suffix}'
    frames = film(path, '--interpolate=0,1,2', '--fps=10', *['--quality=100'] * (suffix == 'mp4'))
    assert (
        frames.shape == (9, 32, 32, 3)
        and read_video(path)[1] == pytest.approx(0.9, abs=0.02)
        and len(list(path.parent.iterdir())) == 1
    )
    for frame, seed in [(0, 0), (4, 1), (8, 2)]:
        near = [gap(frames[frame], image) for image in seeds]
        assert np.argmin(near) == seed and near[seed] * 2 < sorted(near)[1]
    assert gap(frames[0], frames[1]) < gap(frames[0], frames[4])
    slow = tmp_path / 'slow.gif'
    assert len(film(slow, '--interpolate=0,1', '--fps=3', '--frames=4')) == 4 and read_video(slow)[
        1
    ] == pytest.approx(4 / 3, abs=0.02)


def test_each_option_changes_an_interpolation(tmp_path: Path) -> None:
    base = ['--interpolate=0,1', '--frames=9', '--trunc=0.8']
    plain = film(tmp_path / 'a.gif', *base)
    for i, change in enumerate(
        [
            ['--easing=smooth'],
            ['--easing=circular'],
            ['--space=z'],
            ['--trunc=0.4'],
            ['--noise-mode=none'],
        ]
    ):
        other = film(tmp_path / f'{i}.gif', *base, *change)
        assert gap(other[2], plain[2]) > 0.3, change
        if i < 3:
            np.testing.assert_array_equal(other[[0, 8]], plain[[0, 8]])
    smooth, circular = (
        film(tmp_path / f'{easing}.gif', *base, f'--easing={easing}')
        for easing in ('smooth', 'circular')
    )
    assert gap(circular[1], plain[0]) < gap(smooth[1], plain[0]) < gap(plain[1], plain[0])
    there_and_back = film(tmp_path / 'loop.gif', *base, '--loop', '--frames=16')
    np.testing.assert_array_equal(
        there_and_back[[0, 2, 4, 6, 8, 10, 12, 14]], plain[[0, 2, 4, 6, 8, 6, 4, 2]]
    )
    assert np.array_equal(film(tmp_path / 'one.gif', *base, '--frames=1'), plain[:1])
    flicker = film(
        tmp_path / 'random.gif', '--interpolate=0,0', '--frames=3', '--noise-mode=random'
    )
    assert gap(flicker[0], flicker[1]) > 0.5 < gap(flicker[1], flicker[2])


def test_sweep_of_truncation_passes_through_its_psis(
    tmp_path: Path, seeds: list[np.ndarray]
) -> None:
    frames = sweep(tmp_path / 'a.gif', '--sweep=trunc=-1:0:1', '--seeds=0-2', '--batch=4')
    # two by two, the last empty
    assert frames.shape == (9, 64, 64, 3) and frames[:, 32:, 32:].mean() < 3
    assert gap(frames[8, :32, 32:], seeds[1]) < 10 < gap(frames[0, :32, 32:], seeds[1])
    (mean,) = draw(tmp_path / 'mean', '--seeds=0', '--trunc=0').values()
    assert all(
        gap(tile, mean) < 10
        for tile in (frames[4, :32, :32], frames[4, :32, 32:], frames[4, 32:, :32])
    )
    back = sweep(tmp_path / 'b.gif', '--sweep=trunc=0:1', '--loop', '--frames=8')
    assert (
        back.shape == (8, 32, 32, 3)
        and gap(back[4], seeds[0]) < 10
        and np.array_equal(back[3], back[5])
    )
    run('--seeds=0', '--save-w', '--outdir', tmp_path / 'w')
    again = sweep(
        tmp_path / 'c.gif',
        '--sweep=trunc=0:1',
        '--loop',
        '--frames=8',
        '--projected-w',
        tmp_path / 'w' / 'seed0000.npz',
    )
    np.testing.assert_allclose(again, back, atol=2)


def test_sweep_of_noise_is_a_round_trip(tmp_path: Path, seeds: list[np.ndarray]) -> None:
    frames = sweep(tmp_path / 'a.gif', '--sweep=noise', '--seeds=2', '--frames=8')
    assert gap(frames[0], seeds[2]) < 10 and gap(frames[4], frames[0]) > 1
    assert gap(frames[1], frames[0]) < gap(frames[4], frames[0]) and gap(
        frames[7], frames[0]
    ) < gap(frames[4], frames[0])
    eased = sweep(
        tmp_path / 'b.gif', '--sweep=noise', '--seeds=2', '--frames=8', '--easing=circular'
    )
    assert np.array_equal(eased[4], frames[4]) and gap(eased[1], frames[0]) < gap(
        frames[1], frames[0]
    )
    run('--seeds=2', '--save-w', '--outdir', tmp_path / 'w')
    other = {
        f'noise.{name}': 3 * noise.numpy()
        for name, noise in random_noise(load_networks(PLAIN).G_ema, [7]).items()
    }
    np.savez(tmp_path / 'w.npz', w=np.load(tmp_path / 'w' / 'seed0002.npz')['w'], **other)
    (picture,) = draw(tmp_path / 'own', '--projected-w', tmp_path / 'w.npz').values()
    first = sweep(tmp_path / 'own.gif', '--sweep=noise', '--projected-w', tmp_path / 'w.npz')[0]
    assert gap(first, picture) < 10 < gap(first, frames[0])


def test_sweep_of_classes_passes_through_them(tmp_path: Path) -> None:
    base = ['--network', COND, '--seeds=3']
    want = [draw(tmp_path / str(i), *base, f'--class={i}')['seed0003.png'] for i in range(3)]
    for name, order in [('class', [0, 1, 2]), ('class=2,0', [2, 0])]:
        frames = sweep(tmp_path / f'{len(order)}.gif', *base, f'--sweep={name}')
        for frame, stop in zip(np.linspace(0, 8, len(order)).astype(int), order):
            near = [gap(frames[frame], image) for image in want]
            assert np.argmin(near) == stop
    flat = sweep(tmp_path / 'flat.gif', *base, '--sweep=class', '--trunc=0')
    assert np.array_equal(flat[0], flat[4]) and np.array_equal(flat[0], flat[8])


def test_sefa_strips_move_along_directions(tmp_path: Path, seeds: list[np.ndarray]) -> None:
    base = ['--sefa=2', '--seeds=1,2']
    drawn = draw(tmp_path / 'a', *base, '--save-w')
    assert list(drawn) == ['sefa00.png', 'sefa01.png']
    strips = [tiles_of(strip) for strip in drawn.values()]
    for strip in strips:
        for row in (0, 1):
            middle = strip[row, 3]
            np.testing.assert_allclose(middle, seeds[1 + row], atol=1)
            assert gap(strip[row, 0], middle) > gap(strip[row, 2], middle) > 0.5
    assert gap(strips[0], strips[1]) > 1
    w = np.load(tmp_path / 'a' / 'sefa01.npz')['w']
    assert w.shape[0] == 14 and np.linalg.norm(w[13, 0] - w[10, 0]) == pytest.approx(3, rel=1e-4)
    again = draw(tmp_path / 'w', '--projected-w', tmp_path / 'a' / 'sefa01.npz')
    np.testing.assert_allclose(again['proj13.png'], strips[1][1, 6], atol=1)
    less = tiles_of(draw(tmp_path / 'b', *base, '--sefa-scale=1')['sefa00.png'])
    some = tiles_of(draw(tmp_path / 'c', *base, '--sefa-layers=0,1', '--save-w')['sefa00.png'])
    moved = np.ptp(np.load(tmp_path / 'c' / 'sefa00.npz')['w'][:7], axis=0).max(axis=1)
    assert (moved[:2] > 0.1).all() and not moved[2:].any()
    middle = strips[0][0, 3]
    assert 0 < gap(less[0, 6], middle) < gap(strips[0][0, 6], middle)
    assert gap(some[0, 6], middle) > 0 and not np.array_equal(some, strips[0])
    assert draw(tmp_path / 'd', '--sefa=1')['sefa00.png'].shape[0] == 28 + 6 * 110
    assert draw(tmp_path / 'e', '--sefa=1', '--seeds=1,1')['sefa00.png'].shape[0] == 28 + 2 * 110
    one, two = (
        tiles_of(
            draw(tmp_path / f'trunc{seed}', '--sefa=1', f'--seeds={seed}', '--trunc=0')[
                'sefa00.png'
            ],
            1,
        )
        for seed in (1, 2)
    )
    np.testing.assert_allclose(one, two, atol=1)


def test_tiles_of_a_sweep_are_enlarged(tmp_path: Path) -> None:
    assert film(tmp_path / 'a.gif', '--sweep=trunc=0:1', '--seeds=0-2', '--frames=2').shape == (
        2,
        192,
        192,
        3,
    )
    assert film(tmp_path / 'b.gif', '--interpolate=0,1', '--frames=2').shape == (2, 32, 32, 3)


def test_styles_of_a_mix_are_the_first_half_by_default(tmp_path: Path) -> None:
    usual, half = (
        draw(tmp_path / name, '--style-mix=0/2', '--save-w', *options)['0-2.png']
        for name, options in [('usual', []), ('half', ['--styles=0-3'])]
    )
    np.testing.assert_array_equal(usual, half)
    w = {
        name: np.load(tmp_path / 'usual' / f'{name}.npz')['w'][0] for name in ('0-0', '0-2', '2-2')
    }
    np.testing.assert_array_equal(w['0-2'], np.concatenate([w['2-2'][:4], w['0-0'][4:]]))


def test_interpolation_between_files(tmp_path: Path, seeds: list[np.ndarray]) -> None:
    run('--seeds=0-2', '--save-w', '--outdir', tmp_path)
    files = [tmp_path / f'seed000{i}.npz' for i in range(3)]
    frames = film(
        tmp_path / 'a.gif', '--interpolate=w', *(f'--projected-w={path}' for path in files)
    )
    for frame, seed in [(0, 0), (4, 1), (8, 2)]:
        assert gap(frames[frame], seeds[seed]) < 10
    assert np.array_equal(frames, film(tmp_path / 'b.gif', '--interpolate=0,1,2'))
    np.savez(tmp_path / 'all.npz', w=np.concatenate([np.load(path)['w'] for path in files]))
    one = film(
        tmp_path / 'c.gif',
        '--interpolate=w',
        f'--projected-w={tmp_path / "all.npz"}',
        '--loop',
        '--frames=9',
    )
    assert gap(one[0], seeds[0]) < 10 and gap(one[3], seeds[1]) < 10 and gap(one[6], seeds[2]) < 10


def test_noise_of_files_is_interpolated(tmp_path: Path) -> None:
    G = load_networks(PLAIN).G_ema
    w = G.mapping.w_avg.numpy()[None, None].repeat(8, axis=1)
    noises = [random_noise(G, [seed]) for seed in (1, 2)]
    for i, noise in enumerate(noises):
        np.savez(
            tmp_path / f'{i}.npz',
            w=w,
            **{f'noise.{name}': array.numpy() for name, array in noise.items()},
        )
    np.savez(tmp_path / 'none.npz', w=w)
    files = [f'--projected-w={tmp_path / f"{name}.npz"}' for name in (0, 1, 'none')]
    frames = film(tmp_path / 'a.gif', '--interpolate=w', *files)
    pictures = list(draw(tmp_path / 'out', *files).values())
    assert len(pictures) == 3
    for i, frame in enumerate(frames[[0, 4, 8]]):
        assert np.argmin([gap(frame, picture) for picture in pictures]) == i
    middle = blend_noise(*noises, 0.5)
    assert all(0.7 < float(noise.std()) < 1.3 for noise in middle.values()), 'the variance is kept'
    assert all(
        torch.allclose(blend_noise(noises[0], noises[0], 0.5)[name], array)
        for name, array in noises[0].items()
    )
    zero = {name: torch.zeros_like(array) for name, array in noises[0].items()}
    assert all(torch.isfinite(noise).all() for noise in blend_noise(zero, noises[1], 0.5).values())


def test_sweep_of_a_circle_starts_at_the_seed(tmp_path: Path, seeds: list[np.ndarray]) -> None:
    frames = sweep(tmp_path / 'a.gif', '--sweep=circle', '--seeds=2', '--frames=8')
    assert gap(frames[0], seeds[2]) < 10 < gap(frames[4], frames[0])
    assert gap(frames[7], frames[0]) < gap(frames[4], frames[0])
    near = sweep(tmp_path / 'b.gif', '--sweep=circle', '--seeds=2', '--frames=8', '--radius=0.1')
    assert gap(near[0], frames[0]) < 5 and gap(near[4], near[0]) < gap(frames[4], frames[0])


def test_looped_noise_returns_to_its_start(tmp_path: Path) -> None:
    base = ['--interpolate=3,3', '--frames=8', '--noise-mode=loop']
    frames = film(tmp_path / 'a.gif', *base)
    still = film(tmp_path / 'b.gif', '--interpolate=3,3', '--frames=8')
    assert np.array_equal(still[0], still[4]) and np.array_equal(frames[0], still[0])
    assert gap(frames[1], frames[0]) < gap(frames[4], frames[0]) > gap(frames[7], frames[0])
    tiles = sweep(
        tmp_path / 'c.gif', '--sweep=circle', '--seeds=3,4', '--noise-mode=loop', '--frames=4'
    )
    const = sweep(tmp_path / 'd.gif', '--sweep=circle', '--seeds=3,4', '--frames=4')
    assert np.array_equal(tiles[0], const[0]) and gap(tiles[2], const[2]) > 0.5


def test_formats_qualities_and_metadata(tmp_path: Path) -> None:
    base = [
        '--network',
        COND,
        '--seeds=3',
        '--class=1',
        '--trunc=0.7',
        '--noise-mode=none',
        '--grid=1x1',
    ]
    want = {
        'network': 'ada-cond-32.pkl',
        'network_sha256': hashlib.sha256(Path(COND).read_bytes()).hexdigest(),
        'trunc': 0.7,
        'class': 1,
        'noise_mode': 'none',
        'seed': 3,
    }
    (png,) = (image for name, image in draw(tmp_path / 'png', *base).items() if name != 'grid.png')
    for kind, pillow in [('png', 'PNG'), ('jpg', 'JPEG'), ('webp', 'WEBP')]:
        images = draw(tmp_path / kind, *base, f'--format={kind}')
        assert (
            sorted(images) == [f'grid.{kind}', f'seed0003.{kind}']
            and gap(images[f'seed0003.{kind}'], png) < 8
        )
        with Image.open(tmp_path / kind / f'seed0003.{kind}') as image:
            assert image.format == pillow
            text = (
                image.text['toonify']
                if kind == 'png'
                else image.getexif()[ExifTags.Base.ImageDescription]
            )  # type: ignore[attr-defined]
        assert json.loads(text) == want
    for kind in ('jpg', 'webp'):
        gaps = [
            gap(
                draw(tmp_path / f'{kind}{q}', *base, f'--format={kind}', f'--quality={q}')[
                    f'seed0003.{kind}'
                ],
                png,
            )
            for q in (5, 60, 100)
        ]
        assert gaps[0] > gaps[1] > gaps[2]
    films = [film(tmp_path / f'{q}.mp4', '--interpolate=0,1', f'--quality={q}') for q in (10, 100)]
    gif = film(tmp_path / 'a.gif', '--interpolate=0,1')
    assert gap(films[0], gif) > gap(films[1], gif)


GO = '--interpolate=1,2'


def test_foreign_code_in_a_pickle_runs_only_with_trust_pickle(
    tmp_path: Path, capsys: pytest.CaptureFixture, seeds: list[np.ndarray]
) -> None:
    (tmp_path / 'odd.pkl').write_bytes(touching(tmp_path / 'made'))
    base = ['--network', tmp_path / 'odd.pkl', '--seeds=0']
    assert (
        '--trust-pickle' in error_of(capsys, *base, '--outdir', tmp_path / 'out')
        and not (tmp_path / 'made').exists()
    )
    np.testing.assert_array_equal(
        draw(tmp_path / 'out', *base, '--trust-pickle', '--batch=1')['seed0000.png'],
        draw(tmp_path / 'again', '--seeds=0', '--batch=1')['seed0000.png'],
    )
    assert (tmp_path / 'made').exists()


@pytest.mark.parametrize('suffix', ['mp4', 'gif'])
def test_ctrl_c_keeps_the_old_video(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / f'a.{suffix}').write_text('old')
    batches = []

    def render(*args: object) -> torch.Tensor:
        batches.append(args)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return render_ws(*args)  # type: ignore[arg-type]

    monkeypatch.setattr('synthesis.sampling.render_ws', render)
    assert (
        generate.main(
            [
                '--network',
                PLAIN,
                '--device=cpu',
                GO,
                '--batch=2',
                '--video',
                str(tmp_path / f'a.{suffix}'),
            ]
        )
        == 130
    )
    assert (
        'interrupted' in capsys.readouterr().err
        and (tmp_path / f'a.{suffix}').read_text() == 'old'
        and len(list(tmp_path.iterdir())) == 1
    )


def test_every_option_has_a_test() -> None:
    files = Path(__file__).parent.glob('test_*.py')
    text = ''.join(path.read_text(encoding='utf-8') for path in files)
    assert [
        param.opts
        for param in generate.command.params
        if not any(name in text for name in param.opts)
    ] == []


def test_file_as_outdir_and_folder_as_video_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'out').write_text('mine')
    assert 'out is a file, not a folder' in error_of(
        capsys, '--outdir', tmp_path / 'out', '--network', PLAIN, '--seeds=0'
    )
    (tmp_path / 'a.gif').mkdir()
    assert 'it is a folder' in error_of(
        capsys, '--video', tmp_path / 'a.gif', '--network', PLAIN, GO, '--frames=2'
    )
    assert (tmp_path / 'out').read_text() == 'mine' and not list((tmp_path / 'a.gif').iterdir())


def test_a_picture_of_a_seed_passes_at_most_five_modules(tmp_path: Path) -> None:
    """Counted are those of synthesis/ and the reading and writing of pictures, imports aside."""
    options = ['--seeds=0', '--outdir', tmp_path]
    run(*options)  # imports all
    modules = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_globals.get('__name__', '')
        if event == 'call' and name.startswith(('synthesis.', 'torch_utils.image_io')):
            modules.add(name)

    sys.setprofile(note)
    try:
        run(*options)
    finally:
        sys.setprofile(None)
    assert modules == {
        'synthesis.generate.request',
        'synthesis.generate.scenes',
        'synthesis.generate.writing',
        'synthesis.sampling',
        'torch_utils.image_io',
    }
