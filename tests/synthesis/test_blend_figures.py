"""Pictures of blends, and the labelled table that they stand in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from two_networks import generator, networks, run, snapshots

from dnnlib import UserError
from synthesis.blend_figures import RenderSpec, swap_table
from synthesis.blending import BlendPlan, blend_generators
from synthesis.sampling import latents_from_seeds, render
from torch_utils.image_io import labelled_table, require_picture_suffix
from training.networks import Generator
from training.snapshots import Networks, save_networks


def solid(*colours: tuple[int, int, int], size: int = 20) -> np.ndarray:
    return np.stack(
        [np.broadcast_to(np.uint8(colour)[:, None, None], (3, size, size)) for colour in colours]
    )


def test_labelled_table_shows_pictures_and_labels_whole() -> None:
    colours = {(x, y): (200, 30 + 60 * x, 30 + 60 * y) for x in range(3) for y in range(2)}
    rows = {
        label: solid(*(colours[x, y] for x in range(3)))
        for y, label in enumerate(['a row', 'another row of some length'])
    }
    headings = ['seed 0', 'seed 123456789', 'c']
    table = labelled_table(
        rows, headings, ['a line below that is longer than the whole table is wide, ' * 3]
    )
    assert table.shape[1] > labelled_table(rows, headings).shape[1] + 300
    boxes = {}
    for place, colour in colours.items():
        ys, xs = np.nonzero((table == colour).all(axis=2))
        # enlarged, whole, and not written over
        assert len(ys) == 100**2 and np.ptp(ys) == np.ptp(xs) == 99
        boxes[place] = ys[0], xs.min()
    assert len({boxes[x, 0][0] for x in range(3)}) == 1 and boxes[0, 1][0] >= boxes[0, 0][0] + 100
    assert (
        boxes[0, 0][1] + 100 < boxes[1, 0][1] < boxes[2, 0][1] - 100
        and boxes[0, 0][1] == boxes[0, 1][1]
    )
    ink = (table < 128).all(axis=2)
    top, left, bottom = boxes[0, 0][0], boxes[0, 0][1], boxes[0, 1][0] + 100
    middle = boxes[1, 0][1] + 50
    assert (
        ink[:top, middle - 40 : middle + 40].any()
        and ink[top : top + 100, :left].any()
        and ink[bottom:].any()
    )
    assert not ink[:, [0, -1]].any() and not ink[[0, -1]].any()  # nothing is cut off
    plain, narrow = (
        labelled_table({'grey': np.zeros([1, 1, 20, 20], np.uint8)}, ['x']),
        labelled_table({'grey': np.zeros([1, 3, 20, 20], np.uint8)}, ['x']),
    )
    assert np.array_equal(plain, narrow)


@pytest.mark.parametrize('size,enlarged', [(8, 96), (32, 96), (64, 128), (96, 96), (256, 256)])
def test_small_pictures_of_a_table_are_enlarged(size: int, enlarged: int) -> None:
    table = labelled_table({'a': solid((255, 0, 0), size=size)}, ['b'])
    assert (table == (255, 0, 0)).all(axis=2).sum() == enlarged**2


def test_labels_of_a_table_do_not_touch() -> None:
    heading = 'a heading wider than a picture'
    table = labelled_table({'a': solid((255, 0, 0), (255, 0, 0))}, [heading, heading])
    reds = (table == (255, 0, 0)).all(axis=2)
    top = np.nonzero(reds)[0].min()
    ink = (table[:top] < 250).any(axis=(0, 2))
    gaps = np.diff(np.nonzero(ink)[0])
    assert gaps.max() >= 14  # as much as a letter is high, between the headings
    assert (table[top - 3 : top] == 255).all()  # and some white above the pictures


@pytest.mark.parametrize(
    'options,swaps',
    [
        (dict(), [4, 8]),
        (dict(mapping=1.0), [4, 8, 16]),
        (dict(blend_width=1.0), [4, 8, 16]),
        (dict(swap_level=1), [4, 8]),
        (dict(rule='dvschultz'), [4, 8]),
    ],
)
def test_table_shows_each_swap_that_takes_something(options: dict, swaps: list[int]) -> None:
    low, high = networks(0), networks(1)
    low.meta['path'], high.meta['path'] = '/long/run-a/low.pkl', 'high.pkl'
    spec = RenderSpec([3, 5], 0.5, None, torch.device('cpu'))
    z, seen = latents_from_seeds([3, 5], 8), []

    def draw(G: Generator) -> np.ndarray:
        return render(G, z, torch.zeros([2, 0]), truncation_psi=0.5).numpy()

    want = {
        'low': draw(low.G_ema),
        **{
            f'swap at {res}': draw(
                blend_generators(low.G_ema, high.G_ema, BlendPlan(res, **options))
            )
            for res in swaps
        },
        'high': draw(high.G_ema),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('synthesis.blend_figures.BATCH', 1)
        patch.setattr(
            'synthesis.blend_figures.labelled_table',
            lambda *parts: seen.append(parts) or np.zeros([1, 1, 3], np.uint8),
        )
        swap_table(low, high, BlendPlan(4, **options), spec)
    rows, columns, caption = seen[0]
    assert (
        list(rows) == list(want)
        and columns == ['seed 3', 'seed 5']
        and caption[:2] == ['low: run-a/low.pkl', 'high: high.pkl']
    )
    for label, pictures in want.items():
        assert (
            rows[label].shape == pictures.shape
            and np.abs(rows[label].astype(int) - pictures).max() <= 1
        ), label
    assert (
        all(str(value) in caption[2] for value in options.values() if isinstance(value, str))
        and 'psi 0.5' in caption[2]
    )


def test_grid_needs_no_output(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    low, high = snapshots(tmp_path)
    assert (
        run(
            low,
            high,
            '--grid',
            tmp_path / 'grid.png',
            '--seeds=0-19',
            '--blend-width=1',
            '--rule=pinkney',
        )
        == 0
    )
    assert capsys.readouterr().out == f'{tmp_path / "grid.png"}: 20 seeds\n'
    grid = np.asarray(Image.open(tmp_path / 'grid.png'))
    assert grid.shape[1] > 20 * 16 and sorted(path.name for path in tmp_path.iterdir()) == [
        'grid.png',
        'high.pkl',
        'low.pkl',
    ]
    assert (
        run(
            low,
            high,
            '--grid',
            tmp_path / 'both.png',
            '--swap-resolution=8',
            '--output',
            tmp_path / 'out.pkl',
            '--preview',
            tmp_path / 'p.jpg',
        )
        == 0
    )
    assert {'both.png', 'out.pkl', 'p.jpg'} <= {path.name for path in tmp_path.iterdir()}


def test_class_of_pictures_is_0_by_default(tmp_path: Path) -> None:
    path = tmp_path / 'conditional.safetensors'
    save_networks(path, Networks(None, None, generator(4, 'skip', 3, 2, 0), None))
    drawn = {}
    for options in ('', '--class=0', '--class=1'):
        assert (
            run(
                path,
                path,
                '--swap-resolution=8',
                '--preview',
                tmp_path / 'p.png',
                '--seeds=1',
                *options.split(),
            )
            == 0
        )
        drawn[options] = np.asarray(Image.open(tmp_path / 'p.png'))
    assert np.array_equal(drawn[''], drawn['--class=0']) and not np.array_equal(
        drawn[''], drawn['--class=1']
    )


@pytest.mark.parametrize(
    'suffix,fits',
    [
        ('.png', True),
        ('.JPG', True),
        ('.webp', True),
        ('.txt', False),
        ('', False),
        ('.psd', False),
    ],
)
def test_picture_suffix_must_be_known(suffix: str, fits: bool) -> None:
    def refuse() -> Any:
        return require_picture_suffix(f'name{suffix}')

    if fits:
        refuse()
    else:
        with pytest.raises(UserError, match='no picture format has this suffix'):
            refuse()
