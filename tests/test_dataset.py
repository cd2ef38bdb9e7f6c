"""Pictures as training data."""

import json
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib import UserError
from training.dataset import ImageFolderDataset, InfiniteSampler, batches


def picture(seed: int, size: int = 8, mode: str = 'RGB') -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, [size, size, 3], dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def make(folder: Path, count: int = 6, labels: list | None = None, mode: str = 'RGB') -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        picture(i, mode=mode).save(folder / f'{i}.png')
    (folder / 'notes.csv').write_text('a,b')
    if labels is not None:
        (folder / 'dataset.json').write_text(json.dumps({'labels': labels}))
    return folder


def zipped(folder: Path) -> Path:
    path = folder.with_suffix('.zip')
    with zipfile.ZipFile(path, 'w') as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_folder_and_zip_are_the_same(mode: str, tmp_path: Path) -> None:
    folder = make(tmp_path / 'set', mode=mode)
    for path in (folder, zipped(folder)):
        data = ImageFolderDataset(path)
        assert (len(data), data.resolution, data.num_channels, data.label_dim) == (6, 8, 1 if mode == 'L' else 3, 0)
        image, label = data[2]
        want = np.asarray(picture(2, mode=mode)).reshape(8, 8, -1).transpose(2, 0, 1)
        assert image.dtype == np.uint8 and label.shape == (0,)
        np.testing.assert_array_equal(image, want)


def test_mirror_images(tmp_path: Path) -> None:
    path = make(tmp_path / 'set', count=3)
    data = ImageFolderDataset(path, xflip=True, yflip=True)
    assert len(data) == 12
    plain = data[1][0]
    for index, axes in [(4, (2,)), (7, (1,)), (10, (1, 2))]:
        np.testing.assert_array_equal(data[index][0], np.flip(plain, axes))
    assert len(ImageFolderDataset(path, xflip=True)) == 6


def test_subset_is_seeded(tmp_path: Path) -> None:
    path = make(tmp_path / 'set', count=9)
    chosen = [[ImageFolderDataset(path, max_size=4, seed=seed)[i][0].tobytes() for i in range(4)] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    with pytest.raises(UserError, match='--subset=0'):
        ImageFolderDataset(path, max_size=0)


def test_labels(tmp_path: Path) -> None:
    path = make(tmp_path / 'set', count=3, labels=[['0.png', 2], ['1.png', 0], ['2.png', 1]])
    data = ImageFolderDataset(path, use_labels=True)
    assert data.label_dim == 3
    np.testing.assert_array_equal(data[0][1], [0, 0, 1])
    assert ImageFolderDataset(path).label_dim == 0
    vectors = make(tmp_path / 'vectors', count=2, labels=[['0.png', [0.5, 1]], ['1.png', [0, 2]]])
    np.testing.assert_array_equal(ImageFolderDataset(vectors, use_labels=True)[1][1], [0, 2])


@pytest.mark.parametrize('labels,words', [
    (None, 'has no labels'), ([], 'has no labels'), ([['0.png', 1]], 'no label for 1.png'),
    ([['0.png', 'cat'], ['1.png', 'dog']], 'classes 0, 1, 2'), ([3], 'should be'), ([['0.png', -1], ['1.png', 0]], 'classes'),
])
def test_bad_labels(labels: list | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        ImageFolderDataset(make(tmp_path / 'set', count=2, labels=labels), use_labels=True)


@pytest.mark.parametrize('stray,words', [
    (picture(0, size=16), '1x.png is 16×16 with 3 channels, 0.png is 8×8'), (picture(0, mode='L'), 'with 1 channel,'),
    (Image.new('RGB', (8, 16)), '8×16'), (picture(0, mode='RGBA'), 'with 4 channels'),
])
def test_a_stray_picture_is_named(stray: Image.Image, words: str, tmp_path: Path) -> None:
    path = make(tmp_path / 'set')
    stray.save(path / '1x.png')
    with pytest.raises(UserError, match=words):
        ImageFolderDataset(path)


@pytest.mark.parametrize('size', [(12, 12), (8, 16), (4, 4)])
def test_shape_of_the_set(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new('RGB', size).save(tmp_path / 'a.png')
    with pytest.raises(UserError, match='prepare_data.py makes them equal'):
        ImageFolderDataset(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text('x')
    with pytest.raises(UserError, match='no pictures'):
        ImageFolderDataset(tmp_path)
    with pytest.raises(UserError, match='neither a folder nor a zip'):
        ImageFolderDataset(tmp_path / 'a.txt')
    with pytest.raises(UserError, match='no such'):
        ImageFolderDataset(tmp_path / 'none')


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / 'set')
    (path / '3.png').write_bytes((path / '3.png').read_bytes()[:60])
    data = ImageFolderDataset(path)  # its header is fine
    with pytest.raises(UserError, match=r'3\.png'):
        data[3]
    (path / '3.jpg').write_bytes(b'\xff\xd8 no')
    with pytest.raises(UserError, match=r'3\.jpg'):
        ImageFolderDataset(path)


def test_sampler_covers_the_set_and_goes_on() -> None:
    drawn = list(islice(InfiniteSampler(5, seed=1), 20))
    assert all(sorted(drawn[i:i + 5]) == list(range(5)) for i in range(0, 20, 5)) and drawn[:5] != drawn[5:10]
    assert list(islice(InfiniteSampler(5, seed=1, start=7), 13)) == drawn[7:]
    assert list(islice(InfiniteSampler(5, seed=2), 20)) != drawn


def test_batches_with_and_without_workers(tmp_path: Path) -> None:
    data = ImageFolderDataset(zipped(make(tmp_path / 'set')))
    streams = [list(islice(batches(data, 4, seed=0, workers=workers, device=torch.device('cpu')), 3)) for workers in (0, 2)]
    for (a, _), (b, c) in zip(*streams):
        assert torch.equal(a, b) and a.shape == (4, 3, 8, 8) and a.dtype == torch.float32 and c.shape == (4, 0)
        assert -1 <= a.min() < -0.5 and 0.5 < a.max() <= 1
