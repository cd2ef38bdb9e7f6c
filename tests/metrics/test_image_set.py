"""Folders and zips as batches of pictures."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from metric_sets import draw_pictures
from PIL import Image

from metrics.image_set import PictureSet, to_rgb


def test_colours_become_rgb_over_white() -> None:
    grey = np.full((1, 1, 1), 7, np.uint8)
    assert to_rgb(grey).tolist() == [[[7, 7, 7]]]
    assert to_rgb(np.array([[[10, 255], [10, 0]]], np.uint8)).tolist() == [[[10] * 3, [255] * 3]]
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    assert to_rgb(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]


def test_batches_hold_one_size_and_lose_nothing(tmp_path: Path) -> None:
    for i in range(23):
        Image.new('L', (8 + i % 3, 8), i).save(tmp_path / f'{i:02}.png')
    for batch in (1, 2, 4, 50):
        batches = list(PictureSet(tmp_path).batches(batch))
        assert all(b.dtype == torch.uint8 and b.shape[1] == 3 and len(b) <= batch for b in batches)
        assert sorted(int(picture[0, 0, 0]) for b in batches for picture in b) == list(range(23))


def test_many_sizes_do_not_pile_up(tmp_path: Path) -> None:
    for i in range(20):
        Image.new('L', (8 + i, 8), i).save(tmp_path / f'{i:02}.png')
    pictures = PictureSet(tmp_path)
    taken = 0

    def counting(
        *args: Any, ahead: Callable[..., Iterator[Any]] = pictures._ahead
    ) -> Iterator[Any]:
        nonlocal taken
        for pixels in ahead(*args):
            taken += 1
            yield pixels

    pictures._ahead = counting  # type: ignore[method-assign]
    next(pictures.batches(2))
    assert taken == 8


def test_choice_is_seeded_and_nested(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 20, size=4)
    chosen = {num: set(PictureSet(tmp_path, num=num, seed=3).names) for num in (5, 10, 99)}
    assert [len(chosen[num]) for num in chosen] == [5, 10, 20]
    assert chosen[5] < chosen[10]
    assert (
        chosen[5]
        == set(PictureSet(tmp_path, num=5, seed=3).names)
        != set(PictureSet(tmp_path, num=5, seed=4).names)
    )


def test_zip_is_read_like_its_folder(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / 'set', 5)
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    a, b = (torch.cat(list(PictureSet(path).batches(2))) for path in (folder, tmp_path / 'set.zip'))
    assert torch.equal(a, b)
