"""What people have: archives of every kind, well-known sets, videos, several at once; their labels;
the audit; what is written.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_prepare_data import SIZE, encode, error_line, pixels, png, prepare, read

import prepare_data
from dataset_tools.image.resize import resize
from training.dataset import ImageFolderDataset


def labels(metadata: dict[str, Any]) -> list[Any]:
    return [label for _, label in metadata['labels']]


# ---- archives ---------------------------------------------------------------


@pytest.mark.parametrize('packing', ['', 'gz', 'bz2', 'xz'])
def test_tars_of_every_packing_are_read(
    packing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f'set.tar.{packing}'
    with tarfile.open(path, f'w:{packing}') as tar:
        for name, data in {'b/2.png': png(2), 'b/2.csv': b'a', 'a/1.png': png(1)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert prepare(path, tmp_path / 'set.zip') == 0
    pictures, metadata = read(tmp_path / 'set.zip')
    np.testing.assert_array_equal(pictures, [pixels(2), pixels(1)])
    assert metadata['files'] == ['b/2.png', 'a/1.png']
    assert capsys.readouterr().out.endswith('passed over 1 file that is no picture\n')


def cifar(path: Path, prefix: str = 'cifar-10-batches-py', hundred: bool = False) -> np.ndarray:
    """As the real one is: pickles of protocol 2, by Python 2, whose keys and pixels are byte
    strings.
    """
    values = np.random.default_rng(0).integers(0, 256, [6, 3072], dtype=np.uint8)

    class Old(pickle._Pickler):
        """Byte strings as Python 2 writes them."""

        dispatch = dict(pickle._Pickler.dispatch)

        def save_old(self, data: bytes) -> None:
            self.write(b'T' + struct.pack('<i', len(data)) + data)
            self.memoize(data)

        dispatch[bytes] = save_old

    def dump(content: Any) -> bytes:
        buffer = io.BytesIO()
        Old(buffer, 2).dump(content)
        return buffer.getvalue().replace(b'cnumpy._core.multiarray', b'cnumpy.core.multiarray')

    files = {}
    if hundred:
        files = {
            'train': {b'data': values, b'fine_labels': [0, 1, 2, 0, 1, 2]},
            'meta': {b'fine_label_names': [b'apple', b'fish', b'baby']},
        }
    else:
        for i in range(2):
            files[f'data_batch_{i + 1}'] = {
                b'batch_label': b'x',
                b'labels': [2, 0, 1],
                b'data': values[3 * i : 3 * i + 3],
                b'filenames': [b'a', b'b', b'c'],
            }
        files['test_batch'] = {b'labels': [0], b'data': values[:1]}
        files['batches.meta'] = {b'label_names': [b'plane', b'car', b'bird']}
    with tarfile.open(path, 'w:gz') as tar:
        for name, content in files.items():
            data = dump(content)
            info = tarfile.TarInfo(f'{prefix}/{name}')
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return values.reshape(6, 3, 32, 32).transpose(0, 2, 3, 1)


@pytest.mark.parametrize('hundred', [False, True])
def test_cifar_is_read_with_its_classes(
    hundred: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, dest = tmp_path / 'cifar.tar.gz', tmp_path / 'set.zip'
    values = cifar(path, hundred=hundred)
    assert prepare(path, dest, resolution=32) == 0
    pictures, metadata = read(dest)
    np.testing.assert_array_equal(pictures, values)
    assert labels(metadata) == ([0, 1, 2, 0, 1, 2] if hundred else [2, 0, 1, 2, 0, 1])
    assert metadata['class_names'] == (
        ['apple', 'fish', 'baby'] if hundred else ['plane', 'car', 'bird']
    )
    assert f'3 classes: 0 {metadata["class_names"][0]}: 2, ' in capsys.readouterr().out
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / 'unpacked', filter='data')
    assert (
        prepare(tmp_path / 'unpacked', tmp_path / 'again.zip', '--labels', 'none', resolution=32)
        == 0
    )
    assert read(tmp_path / 'again.zip')[1]['content_sha256'] == metadata['content_sha256']
    assert read(tmp_path / 'again.zip')[1]['labels'] is None


def test_pickles_of_another_make_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python 3 writes bytes by a call of a function, which is allowed to none."""
    (tmp_path / 'c').mkdir()
    values = np.arange(3072, dtype=np.uint8).reshape(1, 3072)
    (tmp_path / 'c/data_batch_1').write_bytes(pickle.dumps({'labels': [0], 'data': values}, 2))
    (tmp_path / 'c/batches.meta').write_bytes(pickle.dumps({'label_names': ['one']}, 2))
    assert prepare(tmp_path / 'c', tmp_path / 'set.zip', resolution=32) == 2
    assert 'refers to _codecs.encode' in error_line(capsys)


class Evil:
    """What pickle.load would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_is_a_program_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / 'c'
    source.mkdir()
    for name in ('data_batch_1', 'batches.meta'):
        (source / name).write_bytes(pickle.dumps({'labels': Evil(tmp_path / 'owned')}, 2))
    assert prepare(source, tmp_path / 'set.zip', resolution=32) == 2
    assert 'refers to posix.mkdir' in capsys.readouterr().err or os.name == 'nt'
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize('form', ['folder', 'packed folder', 'file', 'without labels'])
def test_mnist_is_read_in_every_form(form: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, [5, 28, 28], dtype=np.uint8)
    source = tmp_path / 'mnist'
    source.mkdir()
    packed = form != 'folder'
    for name, data in {
        'train-images-idx3-ubyte': struct.pack('>4I', 0x803, 5, 28, 28) + values.tobytes(),
        'train-labels-idx1-ubyte': struct.pack('>2I', 0x801, 5) + bytes([3, 1, 4, 1, 5]),
        't10k-images-idx3-ubyte': struct.pack('>4I', 0x803, 1, 28, 28) + bytes(784),
    }.items():
        if form != 'without labels' or 'labels' not in name:
            (source / (name + '.gz' * packed)).write_bytes(gzip.compress(data) if packed else data)
    path = source / 'train-images-idx3-ubyte.gz' if form == 'file' else source
    assert prepare(path, tmp_path / 'set.zip', '--fit', 'pad', resolution=32) == 0
    pictures, metadata = read(tmp_path / 'set.zip')
    for picture, value in zip(pictures, values, strict=True):
        np.testing.assert_array_equal(
            picture,
            resize(Image.fromarray(value).convert('RGB'), (32, 32), 'lanczos', (0, 0, 28, 28)),
        )
    assert (
        metadata['labels'] is None
        if form == 'without labels'
        else labels(metadata) == [3, 1, 4, 1, 5]
    )


def test_lmdb_values_are_read(tmp_path: Path) -> None:
    lmdb = pytest.importorskip('lmdb')
    with (
        lmdb.open(str(tmp_path / 'bedroom')) as database,
        database.begin(write=True) as transaction,
    ):
        for i in (1, 0):
            transaction.put(
                f'{i:040x}'.encode(), encode(Image.fromarray(pixels(i)), 'webp', lossless=True)
            )
        transaction.put(b'z', b'broken')
    assert prepare(tmp_path / 'bedroom', tmp_path / 'set.zip') == 0
    pictures, metadata = read(tmp_path / 'set.zip')
    np.testing.assert_array_equal(pictures, [pixels(0), pixels(1)])
    assert metadata['files'] == [f'bedroom/{i:040x}' for i in (0, 1)]


def video(path: Path, count: int = 10, shape_of_pixels: str = '1') -> None:
    """Frame i has the grey 20·i."""
    from imageio_ffmpeg import get_ffmpeg_exe

    frames = b''.join(np.full([48, 64, 3], 20 * i, np.uint8).tobytes() for i in range(count))
    subprocess.run(
        [
            get_ffmpeg_exe(),
            '-v',
            'error',
            '-f',
            'rawvideo',
            '-pix_fmt',
            'rgb24',
            '-s',
            '64x48',
            '-r',
            '10',
            '-i',
            '-',
            '-vf',
            f'setsar={shape_of_pixels}',
            '-c:v',
            'mpeg4',
            '-q:v',
            '2',
            str(path),
        ],
        input=frames,
        check=True,
    )


def test_video_frames_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, dest = tmp_path / 'clip.mp4', tmp_path / 'set.zip'
    video(path)
    assert prepare(path, dest, '--every', '3') == 0
    pictures, metadata = read(dest)
    assert [round(picture.mean() / 20) for picture in pictures] == [0, 3, 6, 9]
    assert metadata['files'] == [f'clip.mp4/{i:06d}' for i in (0, 3, 6, 9)]
    assert prepare(path, dest, '--max-images', '2') == 0
    assert read(dest)[1]['num_images'] == 2
    capsys.readouterr()
    (tmp_path / 'broken.mp4').write_bytes(path.read_bytes()[:300])
    assert prepare(tmp_path / 'broken.mp4', tmp_path / 'b.zip') == 2
    assert 'ffmpeg says' in error_line(capsys)
    (tmp_path / 'list.mp4').write_text(f'ffconcat version 1.0\nfile {path.name}\n')
    assert prepare(tmp_path / 'list.mp4', tmp_path / 'b.zip') == 2, (
        'a playlist opens no other files'
    )
    capsys.readouterr()
    (tmp_path / 'p').mkdir()
    (tmp_path / 'p/a.png').write_bytes(png())
    assert prepare(tmp_path / 'p', tmp_path / 'b.zip', '--every', '3') == 2
    assert '--every 3 does nothing' in error_line(capsys)


@pytest.mark.parametrize(
    ('shape_of_pixels', 'size'),
    [('1', (64, 48)), ('3/2', (96, 48)), ('1/2', (64, 96)), ('100', (64, 48))],
)
def test_pixels_of_videos_become_square(
    shape_of_pixels: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """Those of DVDs are oblong; and what nobody makes is not believed."""
    video(tmp_path / 'clip.mkv', 1, shape_of_pixels)
    assert (
        prepare(tmp_path / 'clip.mkv', tmp_path / 'set.zip', '--report', str(tmp_path / 'audit'))
        == 0
    )
    with (tmp_path / 'audit/report.csv').open(newline='') as file:
        assert [(row['width'], row['height']) for row in csv.DictReader(file)] == [
            tuple(map(str, size))
        ]


def test_several_sources_are_merged(tmp_path: Path) -> None:
    for i, name in enumerate(('cats', 'dogs')):
        (tmp_path / name).mkdir()
        (tmp_path / name / '1.png').write_bytes(png(i))
    both = '--source', str(tmp_path / 'dogs')
    assert prepare(tmp_path / 'cats', tmp_path / 'set.zip', *both, '--labels', 'folder') == 0
    pictures, metadata = read(tmp_path / 'set.zip')
    np.testing.assert_array_equal(pictures, [pixels(0), pixels(1)])
    assert metadata['files'] == ['cats/1.png', 'dogs/1.png'] and metadata['source'] == [
        'cats',
        'dogs',
    ]
    assert metadata['class_names'] == ['cats', 'dogs'] and labels(metadata) == [0, 1]
    assert (
        prepare(
            tmp_path / 'set.zip',
            tmp_path / 'twice.zip',
            '--source',
            str(tmp_path / 'set.zip'),
            '--dedupe',
        )
        == 0
    )
    assert read(tmp_path / 'twice.zip')[1]['num_images'] == 2


def test_merged_sets_unite_classes_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {'a': ['cat', 'dog'], 'b': ['dog', 'fox'], 'bare': None}
    for name, classes in sets.items():
        (tmp_path / name).mkdir()
        for i in (0, 1):
            (tmp_path / name / f'{i}.png').write_bytes(png(i))
        content = (
            {'labels': [['0.png', 0], ['1.png', 1]], 'class_names': classes}
            if classes
            else {'labels': None}
        )
        (tmp_path / name / 'dataset.json').write_text(json.dumps(content))
    assert prepare(tmp_path / 'a', tmp_path / 'set.zip', '--source', str(tmp_path / 'b')) == 0
    metadata = read(tmp_path / 'set.zip')[1]
    assert metadata['class_names'] == ['cat', 'dog', 'fox'] and labels(metadata) == [0, 1, 1, 2]
    capsys.readouterr()
    assert prepare(tmp_path / 'a', tmp_path / 'set.zip', '--source', str(tmp_path / 'bare')) == 2
    assert 'bare has no labels' in error_line(capsys)


# ---- labels -----------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / 'pictures'
    for i, name in enumerate(['dog/a.png', 'cat/b.png', 'dog/deep/c.png']):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(i))
    return path


def test_labels_by_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / 'top.png').write_bytes(png())
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'folder') == 0
    out, err = capsys.readouterr()
    assert (
        out.startswith('2 classes: 0 cat: 1, 1 dog: 2\n')
        and err == 'skipped top.png: without a label: --labels finds none for it\n'
    )
    metadata = read(tmp_path / 'set.zip')[1]
    assert labels(metadata) == [0, 1, 1] and metadata['class_names'] == ['cat', 'dog']
    data = ImageFolderDataset(tmp_path / 'set.zip', use_labels=True)
    assert data.label_dim == 2 and data.stored_labels.argmax(1).tolist() == [0, 1, 1]


def test_a_folder_around_all_is_no_class(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / 'all.tar', 'w') as tar:
        tar.add(folder, './set')
    assert prepare(tmp_path / 'all.tar', tmp_path / 'set.zip', '--labels', 'folder') == 0
    metadata = read(tmp_path / 'set.zip')[1]
    assert metadata['class_names'] == ['cat', 'dog'] and all(
        name.startswith('set/') for name in metadata['files']
    )
    assert prepare(folder / 'dog', tmp_path / 'set.zip', '--labels', 'folder') == 0
    capsys.readouterr()
    assert prepare(folder / 'cat', tmp_path / 'set.zip', '--labels', 'folder') == 2
    assert 'lie in one folder' in error_line(capsys)


def test_labels_by_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / 'table.csv').write_text(
        'kind,filename,age\nred,dog/a.png,4\nblue,cat/b.png,2\nred,dog/deep/c.png,4\n'
    )
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'csv:kind') == 0
    metadata = read(tmp_path / 'set.zip')[1]
    assert dict(zip(metadata['files'], labels(metadata))) == {
        'cat/b.png': 0,
        'dog/a.png': 1,
        'dog/deep/c.png': 1,
    }
    assert metadata['class_names'] == ['blue', 'red']
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'csv:age') == 0
    assert labels(read(tmp_path / 'set.zip')[1]) == [2, 4, 4]
    capsys.readouterr()
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'csv:hair') == 2
    assert 'has a column or a line hair: table.csv has kind, filename, age' in error_line(capsys)


def test_labels_by_cartoonsets_pairs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, path in enumerate(sorted(folder.rglob('*.png'))):
        path.with_suffix('.csv').write_text(f'"eye_angle", 0, 3\n"hair", {2 - i}, 111\n')
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'csv:hair', '--strict') == 0
    assert labels(read(tmp_path / 'set.zip')[1]) == [2, 1, 0]
    said = capsys.readouterr()
    assert said.err == '' and 'no pictures' not in said.out, 'the tables have been read'
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'csv:beard') == 2
    assert 'has eye_angle, hair' in error_line(capsys)


def test_numbers_that_can_be_no_classes_are_names(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network has an input for each class up to the highest number."""
    (folder / 'table.csv').write_text(
        'file,year,kind\ndog/a.png,2001,0\ncat/b.png,1999,999\ndog/deep/c.png,2001,0\n'
    )
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'csv:year') == 0
    assert capsys.readouterr().out.startswith('2 classes: 0 1999: 1, 1 2001: 2\n')
    metadata = read(tmp_path / 'set.zip')[1]
    assert labels(metadata) == [0, 1, 1] and metadata['class_names'] == ['1999', '2001']
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'csv:kind') == 0
    assert labels(read(tmp_path / 'set.zip')[1]) == [999, 0, 0]


@pytest.mark.parametrize(
    ('mode', 'message'),
    [
        ('csv:', '--labels csv:: choose from'),
        ('colour', '--labels colour: choose from'),
        ('csv:hair', 'has a column or a line hair; there is none'),
        ('json', 'has no dataset.json'),
    ],
)
def test_missing_labels_are_refused(
    mode: str, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(folder, tmp_path / 'set.zip', '--labels', mode) == 2
    assert message in error_line(capsys)


# ---- options of conversion --------------------------------------------------


@pytest.mark.parametrize(
    ('alpha', 'colour'), [('white', 255), ('black', 0), ('#402010', [64, 32, 16]), ('drop', None)]
)
def test_transparency_shows_the_chosen_backdrop(alpha: str, colour: Any, tmp_path: Path) -> None:
    (tmp_path / 'p').mkdir()
    rgba = np.dstack([pixels(1), pixels(2, (SIZE, SIZE))])
    (tmp_path / 'p/a.png').write_bytes(encode(Image.fromarray(rgba)))
    assert prepare(tmp_path / 'p', tmp_path / 'set.zip', '--alpha', alpha) == 0
    a = rgba[..., 3:] / 255
    expected = rgba[..., :3] if colour is None else rgba[..., :3] * a + np.array(colour) * (1 - a)
    np.testing.assert_allclose(read(tmp_path / 'set.zip')[0][0], expected, atol=1)


def test_a_checkered_backdrop(tmp_path: Path) -> None:
    (tmp_path / 'p').mkdir()
    (tmp_path / 'p/a.png').write_bytes(encode(Image.new('RGBA', (SIZE, SIZE))))
    assert prepare(tmp_path / 'p', tmp_path / 'set.zip', '--alpha', 'checker') == 0
    [picture] = read(tmp_path / 'set.zip')[0]
    y, x = np.mgrid[:SIZE, :SIZE]
    np.testing.assert_array_equal(picture[..., 0], np.where((x + y) % 2, 204, 255))


def test_linear_light_keeps_the_brightness(tmp_path: Path) -> None:
    """Black and white lines are as bright as the grey of half their light."""
    (tmp_path / 'p').mkdir()
    (tmp_path / 'p/a.png').write_bytes(
        encode(Image.fromarray(np.tile(np.uint8([[0], [255]]), [SIZE, 2 * SIZE])))
    )
    for options, expected in {(): 127.5, ('--linear-light',): 188}.items():
        assert (
            prepare(tmp_path / 'p', tmp_path / 'set.zip', '--resize-filter', 'box', *options) == 0
        )
        assert abs(read(tmp_path / 'set.zip')[0][0].mean() - expected) < 1


def test_nvidias_options_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'p').mkdir()
    wide = pixels(0, (48, 64, 3))
    (tmp_path / 'p/a.png').write_bytes(encode(Image.fromarray(wide)))

    def nvidia(*options: str) -> int:
        return prepare_data.main(
            [
                f'--source={tmp_path / "p"}',
                f'--dest={tmp_path / "set.zip"}',
                '--resize-filter=box',
                *options,
            ]
        )

    assert nvidia('--width=16', '--height=16', '--transform=center-crop') == 0
    np.testing.assert_allclose(
        read(tmp_path / 'set.zip')[0][0],
        wide[:, 8:56].reshape(16, 3, 16, 3, 3).mean((1, 3)),
        atol=1,
    )
    assert nvidia('--resolution=32x16', '--transform=center-crop-wide') == 0
    [picture] = read(tmp_path / 'set.zip')[0]
    assert picture.shape == (32, 32, 3) and not picture[:8].any() and not picture[24:].any()
    np.testing.assert_allclose(
        picture[8:24], wide[8:40].reshape(16, 2, 32, 2, 3).mean((1, 3)), atol=1
    )
    capsys.readouterr()
    for options, message in {
        ('--width=16',): '--height is missing',
        ('--width=16', '--height=8'): 'StyleGAN2 makes squares',
        ('--resolution=16', '--width=16'): 'say the same',
        ('--resolution=16x16', '--fit=pad', '--transform=center-crop'): 'both say',
        ('--resolution=16', '--alpha=#12'): '--alpha #12',
        ('--resolution=16x32', '--transform=center-crop-wide'): 'at most its width',
    }.items():
        assert nvidia(*options) == 2
        assert message in error_line(capsys)


def test_small_and_oblong_pictures_can_be_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / 'p'
    source.mkdir()
    for name, shape in {'a': (16, 16, 3), 'b': (16, 40, 3), 'c': (32, 32, 3)}.items():
        (source / f'{name}.png').write_bytes(png(0, shape))
    assert prepare(source, tmp_path / 'set.zip', '--min-size', '17') == 0
    assert read(tmp_path / 'set.zip')[1]['files'] == ['c.png']
    assert 'skipped b.png: too small: 40x16 pixels' in capsys.readouterr().err
    assert prepare(source, tmp_path / 'other.zip', '--fit', 'error') == 2
    assert (
        'skipped b.png: not square: 40x16 pixels' in capsys.readouterr().err
        and not (tmp_path / 'other.zip').exists()
    )


@pytest.mark.parametrize('fit', ['crop', 'pad', 'stretch'])
@pytest.mark.parametrize('size', [(401, 333), (199, 203), (1601, 1203)])
def test_jpegs_decoded_smaller_look_the_same(
    fit: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """Against the same picture as a PNG, which is always decoded in full."""
    noise = Image.fromarray(pixels(0, (14, 17, 3))).resize(size, Image.Resampling.BICUBIC)
    jpeg = encode(noise, 'jpg', quality=95)
    (tmp_path / 'p').mkdir()
    (tmp_path / 'p/a.jpg').write_bytes(jpeg)
    (tmp_path / 'p/b.png').write_bytes(encode(Image.open(io.BytesIO(jpeg))))
    assert prepare(tmp_path / 'p', tmp_path / 'set.zip', '--fit', fit, resolution=32) == 0
    small, full = read(tmp_path / 'set.zip')[0]
    assert 0 < np.sqrt(((small - full) ** 2).mean()) < 2 and np.abs(small - full).max() <= 12


# ---- audit ------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    source = tmp_path / 'mixed'
    source.mkdir()
    whole = png(0, (24, 24, 3))
    files = {
        'a.png': png(1),
        'b.png': png(2, (16, 20, 3)),
        'c.png': whole[: len(whole) // 2],
        'd.csv': b'x',
        'e.jpg': png(3),
        'f.png': png(1),
        '<b>.png': b'no picture',
        '=1+1.png': b'',
    }
    for name, data in files.items():
        (source / name).write_bytes(data)
    return source


def rows(report: Path) -> dict[str, list[str]]:
    with (report / 'report.csv').open(encoding='utf-8', newline='') as file:
        return {
            f'{row["name"]} {row["outcome"]}': [row['kinds'], row['width']]
            for row in csv.DictReader(file)
        }


def test_a_dry_run_writes_nothing_and_says_all(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ['--source', str(mixed), '--resolution', '16', '--dry-run', '--dedupe']
    assert prepare_data.main(argv) == 0
    out, err = capsys.readouterr()
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ['2', 'kept as they are, but for their size'],
        ['1', 'changed'],
        ['1', 'cropped'],
        ['4', 'dropped'],
        ['1', 'not a picture'],
        ['2', 'damaged'],
        ['1', 'duplicate'],
        ['1', 'passed over, for they are no pictures'],
        ['1', '.csv'],
    ]
    assert (
        'skipped f.png: duplicate: the same pixels as a.png' in err
        and 'remark e.jpg: mislabelled: is a PNG' in err
    )
    assert list(tmp_path.iterdir()) == [mixed]
    report = tmp_path / 'audit'
    assert prepare_data.main([*argv, '--report', str(report)]) == 0
    assert sorted(path.name for path in report.iterdir()) == ['report.csv', 'report.html']
    assert rows(report) == {
        'a.png kept': ['', '16'],
        'b.png changed': ['cropped', '20'],
        'c.png dropped': ['damaged', ''],
        'd.csv passed over': ['.csv', ''],
        'e.jpg remark': ['mislabelled', '16'],
        'e.jpg kept': ['', '16'],
        'f.png dropped': ['duplicate', ''],
        '<b>.png dropped': ['not a picture', ''],
        "'=1+1.png dropped": ['damaged', ''],
    }
    page = (report / 'report.html').read_text(encoding='utf-8')
    assert (
        '&lt;b&gt;.png' in page and '<b>.png' not in page and page.count('data:image/jpeg') == 4
    ), 'b, half of c, e and f'
    assert len(list(tmp_path.iterdir())) == 2


def test_strict_turns_a_drop_into_an_error(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / 'set.zip'
    assert prepare(mixed, dest, '--strict', '--report', str(tmp_path / 'audit')) == 2
    err = capsys.readouterr().err
    assert (
        '--strict: 3 would be left out (2 damaged, 1 not a picture)' in err.splitlines()[-1]
        and 'skipped c.png' in err
    )
    assert not dest.exists() and len(rows(tmp_path / 'audit')) == 9
    for name in ('c.png', '<b>.png', '=1+1.png'):
        (mixed / name).unlink()
    assert prepare(mixed, dest, '--strict') == 0


# ---- output -----------------------------------------------------------------


@pytest.mark.parametrize('form', ['jpeg', 'webp'])
def test_files_that_need_no_change_are_kept(form: str, tmp_path: Path) -> None:
    source, dest = tmp_path / 'p', tmp_path / 'set.zip'
    source.mkdir()
    suffix = {'jpeg': 'jpg', 'webp': 'webp'}[form]
    kept = encode(Image.fromarray(pixels(0)), suffix, quality=80)
    exif = Image.Exif()
    exif[0x0112] = 3
    (source / f'a.{suffix}').write_bytes(kept)
    (source / 'b.png').write_bytes(png(1))
    (source / f'c.{suffix}').write_bytes(
        encode(Image.fromarray(pixels(0)), suffix, quality=80, exif=exif)
    )
    (source / 'd.jpg').write_bytes(encode(Image.fromarray(pixels(0)[..., 0]), 'jpg'))
    assert prepare(source, dest, '--format', form) == 0
    with zipfile.ZipFile(dest) as file:
        assert [name.rpartition('.')[2] for name in file.namelist()] == [suffix] * 4 + ['json']
        stored = [file.read(name) for name in file.namelist()]
    assert stored[0] == kept and stored[2] != kept
    decoded = [np.asarray(Image.open(io.BytesIO(data))) for data in stored[:4]]
    np.testing.assert_allclose(decoded[1], pixels(1), atol=40 if form == 'jpeg' else 0)
    digests = b''.join(hashlib.sha256(picture.tobytes()).digest() for picture in decoded)
    assert json.loads(stored[4])['content_sha256'] == hashlib.sha256(digests).hexdigest()
    data = ImageFolderDataset(dest)
    assert data.shape == (3, 16, 16)
    np.testing.assert_array_equal(data.load(0).transpose(1, 2, 0), decoded[0])


def test_a_folder_as_output(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(folder, tmp_path / 'set.zip', '--labels', 'folder') == 0
    assert prepare(folder, tmp_path / 'set', '--labels', 'folder') == 0
    with zipfile.ZipFile(tmp_path / 'set.zip') as file:
        assert {name: file.read(name) for name in file.namelist()} == {
            path.relative_to(tmp_path / 'set').as_posix(): path.read_bytes()
            for path in (tmp_path / 'set').rglob('*')
            if path.is_file()
        }
    assert len(ImageFolderDataset(tmp_path / 'set', use_labels=True)) == 3
    capsys.readouterr()
    assert prepare(folder, tmp_path / 'set') == 2
    assert 'it is there already' in error_line(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['pictures', 'set', 'set.zip']


def test_more_files_than_a_plain_zip_counts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, 'ZIP_FILECOUNT_LIMIT', 2)
    assert prepare(folder, tmp_path / 'set.zip') == 0
    assert b'PK\x06\x06' in (tmp_path / 'set.zip').read_bytes(), "zip64's end record"
    assert prepare(tmp_path / 'set.zip', tmp_path / 'again.zip') == 0
    assert len(ImageFolderDataset(tmp_path / 'set.zip')) == 3
