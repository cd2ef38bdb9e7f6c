"""`prepare_data.py` as a user meets it: options in, a zip, a summary, an exit code out."""

import functools
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import prepare_data
from dataset_tools import writer
from dnnlib.image_decoding import decode_picture

SIZE = 16


def prepare(source: Path, dest: Path, *options: str, resolution: int = SIZE) -> int:
    return prepare_data.main(
        ['--source', str(source), '--dest', str(dest), '--resolution', str(resolution), *options]
    )


def read(dest: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    """The pictures as int `[H, W, 3]`, and dataset.json."""
    with zipfile.ZipFile(dest) as file:
        pictures = []
        for name in file.namelist()[:-1]:
            picture = Image.open(io.BytesIO(file.read(name)))
            assert picture.format == 'PNG' and picture.mode == 'RGB'
            pictures.append(np.asarray(picture).astype(int))
        return pictures, json.loads(file.read('dataset.json'))


def pixels(seed: int = 0, shape: tuple[int, ...] = (SIZE, SIZE, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(picture: Image.Image, suffix: str = 'png', **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(
        buffer, {'jpg': 'JPEG', 'tif': 'TIFF', 'jp2': 'JPEG2000'}.get(suffix, suffix), **options
    )
    return buffer.getvalue()


def png(seed: int = 0, shape: tuple[int, ...] = (SIZE, SIZE, 3)) -> bytes:
    return encode(Image.fromarray(pixels(seed, shape)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to put pictures in."""
    path = tmp_path / 'pictures'
    path.mkdir()
    return path


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / 'set.zip'


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that stderr is allowed to hold."""
    out, err = capsys.readouterr()
    assert (
        out == ''
        and err.endswith('\n')
        and err.count('\n') == 1
        and err.startswith('prepare_data.py: error: ')
    ), (out, err)
    return err


# ---- what kinds of pictures become ------------------------------------------


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    a = alpha[..., np.newaxis] / 255
    return colour * a + 255 * (1 - a)


def grey_as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1).astype(float)


def kinds() -> dict[str, tuple[str, bytes, np.ndarray, float]]:
    """name: (suffix, file, what is expected of it, tolerance)."""
    rgb, grey, alpha = pixels(1), pixels(2, (SIZE, SIZE)), pixels(3, (SIZE, SIZE))
    rgba, la = np.dstack([rgb, alpha]), np.dstack([grey, alpha])
    deep = np.random.default_rng(4).integers(0, 65536, (SIZE, SIZE)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    table = pixels(5, (256, 3))
    palette = Image.fromarray(grey)
    palette.putpalette(table.tobytes())
    see_through = table[grey].astype(float)
    see_through[grey == 7] = 255
    palette_alpha = over_white(table[grey], alpha.ravel()[grey])
    bits = grey > 127
    cmyk = pixels(6, (SIZE, SIZE, 4))
    ink = (255 - cmyk[..., :3].astype(float)) * (255 - cmyk[..., 3:].astype(float)) / 255
    flat_cmyk = np.tile(np.uint8([200, 30, 90, 40]), (SIZE, SIZE, 1))
    flat_ink = (255 - flat_cmyk[..., :3].astype(float)) * (255 - 40) / 255
    smooth = np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8) * 8
    image = Image.fromarray
    return {
        'rgb': ('png', encode(image(rgb)), rgb, 0),
        'rgb-bmp': ('bmp', encode(image(rgb), 'bmp'), rgb, 0),
        'rgb-tif': ('TIF', encode(image(rgb), 'tif'), rgb, 0),
        'rgb-webp': ('webp', encode(image(rgb), 'webp', lossless=True), rgb, 0),
        'rgb-transparent-colour': (
            'png',
            encode(image(rgb), transparency=tuple(rgb[3, 4].tolist())),
            np.where((rgb == rgb[3, 4]).all(-1, keepdims=True), 255, rgb),
            0,
        ),
        'rgba': ('png', encode(image(rgba)), over_white(rgb, alpha), 1),
        'rgba-webp': (
            'webp',
            encode(image(rgba), 'webp', lossless=True, exact=True),
            over_white(rgb, alpha),
            1,
        ),
        'grey': ('png', encode(image(grey)), grey_as_rgb(grey), 0),
        'grey-jpg': ('jpg', encode(image(smooth), 'jpg', quality=95), grey_as_rgb(smooth), 4),
        'grey-alpha': ('png', encode(image(la)), over_white(grey_as_rgb(grey), alpha), 1),
        'grey-transparent-level': (
            'png',
            encode(image(grey), transparency=7),
            grey_as_rgb(np.where(grey == 7, 255, grey)),
            0,
        ),
        'palette': ('png', encode(palette), table[grey], 0),
        'palette-gif': ('gif', encode(palette, 'gif'), table[grey], 0),
        'palette-transparent-index': ('png', encode(palette, transparency=7), see_through, 0),
        'palette-alpha': ('png', encode(palette, transparency=alpha.tobytes()), palette_alpha, 1),
        'two-colours': ('png', encode(image(bits)), grey_as_rgb(bits * 255), 0),
        'grey-16': ('png', encode(image(deep)), grey_as_rgb(deep / 257), 0.5),
        'grey-16-tif': ('tiff', encode(image(deep), 'tif'), grey_as_rgb(deep / 257), 0.5),
        'grey-16-transparent-level': (
            'png',
            encode(image(deep), transparency=int(deep[5, 5])),
            grey_as_rgb(np.where(deep == deep[5, 5], 65535, deep) / 257),
            0.5,
        ),
        'int-tif': (
            'tif',
            encode(image(deep.astype(np.int32)), 'tif'),
            grey_as_rgb(deep / 257),
            0.5,
        ),
        'cmyk-tif': ('tif', encode(image(cmyk, 'CMYK'), 'tif'), ink, 1.5),
        'cmyk-jpg': ('jpg', encode(image(flat_cmyk, 'CMYK'), 'jpg', quality=100), flat_ink, 3),
    }


with warnings.catch_warnings():
    # Pillow 12 and 13 disagree about fromarray's mode
    warnings.simplefilter('ignore', DeprecationWarning)
    KINDS = kinds()


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_becomes_rgb_over_white(kind: str, folder: Path, dest: Path) -> None:
    suffix, data, expected, tolerance = KINDS[kind]
    (folder / f'a.{suffix}').write_bytes(data)
    assert prepare(folder, dest) == 0
    [picture], _ = read(dest)
    np.testing.assert_allclose(picture, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(orientation: int, folder: Path, dest: Path) -> None:
    upright = pixels(0, (SIZE, SIZE, 3))
    stored = {  # how a camera lays down an upright picture under each orientation
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / 'a.png').write_bytes(encode(Image.fromarray(np.ascontiguousarray(stored)), exif=exif))
    assert prepare(folder, dest) == 0
    [picture], _ = read(dest)
    np.testing.assert_array_equal(picture, upright)


# ---- size and shape ---------------------------------------------------------


def block_mean(picture: np.ndarray, factor: int) -> np.ndarray:
    h, w, c = picture.shape
    return picture.reshape(h // factor, factor, w // factor, factor, c).mean(axis=(1, 3))


def test_crop_takes_the_centre(folder: Path, dest: Path) -> None:
    wide, tall = pixels(0, (32, 48, 3)), pixels(1, (50, 32, 3))
    for name, picture in {'a.png': wide, 'b.png': tall}.items():
        (folder / name).write_bytes(encode(Image.fromarray(picture)))
    assert prepare(folder, dest, '--resize-filter', 'box') == 0
    pictures, _ = read(dest)
    np.testing.assert_allclose(pictures[0], block_mean(wide[:, 8:40], 2), atol=1)
    np.testing.assert_allclose(pictures[1], block_mean(tall[9:41], 2), atol=1)


def test_pad_keeps_all_on_white(folder: Path, dest: Path) -> None:
    wide = pixels(0, (16, 32, 3))
    (folder / 'a.png').write_bytes(encode(Image.fromarray(wide)))
    assert prepare(folder, dest, '--resize-filter', 'box', '--fit', 'pad') == 0
    [picture], _ = read(dest)
    assert (picture[:4] == 255).all() and (picture[12:] == 255).all()
    np.testing.assert_allclose(picture[4:12], block_mean(wide, 2), atol=1)


def test_stretch_distorts(folder: Path, dest: Path) -> None:
    wide = pixels(0, (16, 32, 3))
    (folder / 'a.png').write_bytes(encode(Image.fromarray(wide)))
    assert prepare(folder, dest, '--resize-filter', 'box', '--fit', 'stretch') == 0
    [picture], _ = read(dest)
    np.testing.assert_allclose(picture, wide.reshape(16, 16, 2, 3).mean(axis=2), atol=1)


def test_a_very_oblong_picture_is_converted(folder: Path, dest: Path) -> None:
    (folder / 'a.png').write_bytes(png(0, (1, 300, 3)))
    for fit in ('crop', 'pad', 'stretch'):
        assert prepare(folder, dest, '--fit', fit) == 0
        assert read(dest)[0][0].shape == (SIZE, SIZE, 3)


def test_enlarging_is_allowed_and_counted(
    folder: Path, dest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = pixels(0, (8, 8, 3))
    (folder / 'small.png').write_bytes(encode(Image.fromarray(small)))
    (folder / 'wide.png').write_bytes(png(1, (8, 32, 3)))
    (folder / 'zfits.png').write_bytes(png(2, (16, 17, 3)))
    for fit, count in {'crop': 2, 'pad': 1, 'stretch': 2}.items():
        assert prepare(folder, dest, '--resize-filter', 'box', '--fit', fit) == 0
        assert f'; {count} enlarged;' in capsys.readouterr().out
        np.testing.assert_array_equal(read(dest)[0][0], small.repeat(2, 0).repeat(2, 1))


def test_resize_filters_give_different_pixels(folder: Path, dest: Path) -> None:
    (folder / 'a.png').write_bytes(png(0, (41, 41, 3)))
    results = {}
    for name in ('lanczos', 'box', 'bicubic'):
        assert prepare(folder, dest, '--resize-filter', name) == 0
        [picture], metadata = read(dest)
        results[name] = picture.tobytes()
        assert metadata['resize_filter'] == name
    assert len(set(results.values())) == 3
    assert prepare(folder, dest) == 0
    assert read(dest)[0][0].tobytes() == results['lanczos'], 'the default'


# ---- sources ----------------------------------------------------------------


@pytest.mark.parametrize('zipped', [False, True])
def test_nested_sources_with_csv_files_beside_the_pictures(
    zipped: bool, folder: Path, dest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ['b/2.png', 'a/deep/er/1.PNG', 'c.png']
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
        path.with_suffix('.csv').write_text('a,b\n')
    source = folder
    if zipped:
        source = tmp_path / 'pictures.zip'
        with zipfile.ZipFile(source, 'w', zipfile.ZIP_DEFLATED) as file:
            for path in folder.rglob('*'):
                file.write(path, path.relative_to(folder))
    assert prepare(source, dest) == 0
    out, err = capsys.readouterr()
    assert (
        out == f'written 3 pictures at 16x16 to {dest}; 0 enlarged; skipped 0; passed over 3 files '
        f'that are no pictures\n'
    )
    assert err == ''
    pictures, metadata = read(dest)
    for picture, seed in zip(pictures, [1, 0, 2]):
        np.testing.assert_array_equal(picture, pixels(seed))
    assert (
        metadata['files'] == ['a/deep/er/1.PNG', 'b/2.png', 'c.png']
        and metadata['source'] == source.name
    )
    assert metadata['num_images'] == 3 and metadata['labels'] is None


def test_zip_has_nvidias_layout_and_decodes(folder: Path, dest: Path) -> None:
    data = png(0, (4, 4, 3))
    source = folder.parent / 'many.zip'
    with zipfile.ZipFile(source, 'w') as file:
        for i in range(1002):
            file.writestr(f'{i}.png', data)
    assert prepare(source, dest, '--workers', '1', resolution=4) == 0
    with zipfile.ZipFile(dest) as file:
        names = file.namelist()
        assert names[0] == '00000/img00000000.png' and names[999] == '00000/img00000999.png'
        assert names[1000:] == ['00001/img00001000.png', '00001/img00001001.png', 'dataset.json']
        assert all(
            info.compress_type == zipfile.ZIP_STORED and info.date_time[0] == 1980
            for info in file.infolist()
        )
        assert file.testzip() is None
        np.testing.assert_array_equal(decode_picture(file.read(names[1001])), pixels(0, (4, 4, 3)))


def test_a_broken_picture_is_named_and_skipped(
    folder: Path, dest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('dnnlib.image_decoding.MAX_PIXELS', 900)
    whole = png(0, (24, 24, 3))
    (folder / 'a-truncated.png').write_bytes(whole[: len(whole) // 2])
    (folder / 'b-fine.png').write_bytes(png(1))
    (folder / 'c-text.jpg').write_text('<html>404</html>' * 50)
    (folder / 'd-bomb.png').write_bytes(png(2, (40, 40, 3)))
    (folder / 'e-worse-bomb.png').write_bytes(png(2, (80, 80, 3)))
    (folder / 'f-empty.webp').write_bytes(b'')
    (folder / 'g-float.tif').write_bytes(
        encode(Image.fromarray(pixels().astype(np.float32)[..., 0]), 'tif')
    )
    (folder / 'h-gone.png').symlink_to(folder / 'nowhere')
    truncated_jpeg = encode(Image.fromarray(pixels(3, (24, 24, 3))), 'jpg')
    (folder / 'i.jpg').write_bytes(truncated_jpeg[:-200])
    assert prepare(folder, dest) == 0
    out, err = capsys.readouterr()
    assert 'written 1 picture at' in out and 'skipped 8 (3 damaged, 2 too large, 1 ' in out
    lines = err.splitlines()
    assert [line.split(':')[:2] for line in lines] == [
        ['skipped h-gone.png', ' link'],
        ['skipped a-truncated.png', ' damaged'],
        ['skipped c-text.jpg', ' not a picture'],
        ['skipped d-bomb.png', ' too large'],
        ['skipped e-worse-bomb.png', ' too large'],
        ['skipped f-empty.webp', ' damaged'],
        ['skipped g-float.tif', ' unsupported'],
        ['skipped i.jpg', ' damaged'],
    ]
    [picture], metadata = read(dest)
    np.testing.assert_array_equal(picture, pixels(1))
    assert metadata['files'] == ['b-fine.png']


def test_max_images_counts_what_is_written(folder: Path, dest: Path) -> None:
    for i in range(5):
        (folder / f'{i}.png').write_bytes(png(i))
    (folder / '1.png').write_bytes(b'broken')
    assert prepare(folder, dest, '--max-images', '3') == 0
    assert read(dest)[1]['files'] == ['0.png', '2.png', '3.png']
    assert prepare(folder, dest, '--max-images', '99') == 0
    assert read(dest)[1]['num_images'] == 4


@pytest.mark.parametrize(
    'labels',
    [
        [['a.png', 0], ['s/b.png', 2], ['gone.png', 1]],
        [['a.png', [0, 1.5]], ['s\\b.png', [1, 0]]],
        {'a.png': 4, 's/b.png': 5},
    ],
)
def test_labels_are_carried_over(labels: Any, folder: Path, dest: Path) -> None:
    (folder / 's').mkdir()
    (folder / 'a.png').write_bytes(png(0))
    (folder / 's/b.png').write_bytes(png(1))
    (folder / 'dataset.json').write_text(json.dumps({'labels': labels}))
    assert prepare(folder, dest) == 0
    values = list(dict(labels).values())[:2]
    assert read(dest)[1]['labels'] == [
        ['00000/img00000000.png', values[0]],
        ['00000/img00000001.png', values[1]],
    ]
    again = dest.with_name('again.zip')  # a prepared set is a source as well
    assert prepare(dest, again) == 0
    assert read(again)[1]['labels'] == read(dest)[1]['labels']
    assert read(again)[1]['content_sha256'] == read(dest)[1]['content_sha256']


# ---- the file that is written -----------------------------------------------


def test_same_input_same_bytes_with_any_number_of_workers(folder: Path, dest: Path) -> None:
    for i in range(40):
        (folder / f'{i:02}.png').write_bytes(png(i, (10 + i, 30, 3)))
    (folder / '07.png').write_bytes(b'broken')
    hashes = set()
    for workers in ('1', '2', '2'):
        assert prepare(folder, dest, '--workers', workers) == 0
        hashes.add(hashlib.sha256(dest.read_bytes()).hexdigest())
        os.utime(folder / '05.png', (0, 0))
    assert len(hashes) == 1
    pictures, metadata = read(dest)
    assert len(pictures) == 39
    digests = b''.join(
        hashlib.sha256(picture.astype(np.uint8).tobytes()).digest() for picture in pictures
    )
    assert metadata['content_sha256'] == hashlib.sha256(digests).hexdigest()


def test_dest_inside_the_source_folder_does_not_read_itself(folder: Path) -> None:
    (folder / 'a.png').write_bytes(png(0))
    dest = folder / 'set.zip'
    assert prepare(folder, dest) == 0
    first = dest.read_bytes()
    assert prepare(folder, dest) == 0
    assert dest.read_bytes() == first
    assert sorted(path.name for path in folder.iterdir()) == ['a.png', 'set.zip']


@pytest.mark.parametrize(
    ('error', 'code'),
    [(KeyboardInterrupt, 130), (ZeroDivisionError, 1), (OSError(28, 'No space left on device'), 2)],
)
def test_an_interrupted_run_leaves_no_files(
    error: Any, code: int, folder: Path, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / 'a.png').write_bytes(png(0))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(writer.DatasetWriter, 'finish', fail)
    assert prepare(folder, dest) == code
    assert list(dest.parent.iterdir()) == [folder]
    dest.write_bytes(b'an older set')
    assert prepare(folder, dest) == code
    assert dest.read_bytes() == b'an older set' and len(list(dest.parent.iterdir())) == 2


@pytest.mark.skipif(os.name == 'nt', reason='signals of Unix')
@pytest.mark.parametrize(
    ('name', 'to_all'), [('SIGINT', True), ('SIGTERM', False), ('SIGTERM', True), ('SIGHUP', False)]
)
def test_ctrl_c_ends_the_workers_too(name: str, to_all: bool, folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / 'many.zip', tmp_path / 'out'
    data = encode(Image.fromarray(pixels(0, (512, 512, 3))), 'jpg')
    with zipfile.ZipFile(source, 'w') as file:
        for i in range(4000):
            file.writestr(f'{i}.jpg', data)
    script = Path(prepare_data.__file__)
    command = [
        sys.executable,
        str(script),
        '--source',
        str(source),
        '--dest',
        str(out / 'set.zip'),
        '--resolution',
        '64',
        '--workers',
        '2',
    ]
    # shells start background jobs deaf to it
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen,
    ) as process:
        deadline = time.monotonic() + 60
        while (
            not any(path.stat().st_size > 0 for path in out.glob('.*'))
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        # a terminal, and a batch system, send it to every process
        (os.killpg if to_all else os.kill)(process.pid, getattr(signal, name))
        # which also waits until the workers have closed their stderr
        stdout, stderr = process.communicate(timeout=60)
    # click puts a blank line before it, because a terminal shows ^C there
    assert (process.returncode, stdout, stderr.lstrip('\n')) == (
        130,
        '',
        'prepare_data.py: error: interrupted\n',
    )
    assert list(out.iterdir()) == []


# ---- what is refused --------------------------------------------------------


def make_bad_inputs(root: Path) -> None:
    (root / 'good').mkdir()
    (root / 'good/a.png').write_bytes(png(0))
    (root / 'empty').mkdir()
    (root / 'no-pictures').mkdir()
    (root / 'no-pictures/a.csv').write_text('a\n')
    (root / 'broken').mkdir()
    for i in range(3):
        (root / f'broken/{i}.png').write_bytes(b'broken')
    (root / 'notes.txt').write_text('no zip')
    (root / 'empty-file.zip').write_bytes(b'')
    with zipfile.ZipFile(root / 'no-pictures.zip', 'w') as file:
        file.writestr('a.csv', 'a')
    with zipfile.ZipFile(root / 'good.zip', 'w') as file:
        file.writestr('a.png', png(0))
    (root / 'cut.zip').write_bytes((root / 'good.zip').read_bytes()[:-30])
    (root / 'folder.zip').mkdir()
    for name, labels in {
        'bad': 5,
        'some': [['b.png', 1]],
        'words': [['a.png', 'cat']],
        'negative': [['a.png', -1]],
        'flag': [['a.png', True]],
        'hollow': [['a.png', []]],
        'triples': [['a.png', 1, 2]],
        'nan': [['a.png', [float('nan')]]],
    }.items():
        (root / f'{name}-labels').mkdir()
        (root / f'{name}-labels/a.png').write_bytes(png(0))
        (root / f'{name}-labels/dataset.json').write_text(json.dumps({'labels': labels}))
    (root / 'mixed-labels').mkdir()
    for name in 'ab':
        (root / f'mixed-labels/{name}.png').write_bytes(png(0))
    (root / 'mixed-labels/dataset.json').write_text(
        json.dumps({'labels': [['a.png', 1], ['b.png', [0, 1]]]})
    )
    (root / 'no-json').mkdir()
    (root / 'no-json/a.png').write_bytes(png(0))
    (root / 'no-json/dataset.json').write_text('{')


GOOD = {'source': 'good', 'dest': 'set.zip', 'resolution': '16'}
BAD_INPUTS = {
    'missing source': ({'source': 'nowhere'}, 'no such file'),
    'no source': ({'source': None}, '--source'),
    'empty source name': ({'source': ''}, "'--source': it is empty"),
    'empty folder': ({'source': 'empty'}, 'no pictures in it (it is empty)'),
    'folder without pictures': (
        {'source': 'no-pictures'},
        'no pictures in it (none of its 1 files',
    ),
    'zip without pictures': ({'source': 'no-pictures.zip'}, 'no pictures in it'),
    'no zip': ({'source': 'notes.txt'}, 'neither a folder nor a zip'),
    'empty file': ({'source': 'empty-file.zip'}, 'neither a folder nor a zip'),
    'cut zip': ({'source': 'cut.zip'}, 'is a zip, but a damaged one, most likely cut short'),
    'name too long': ({'source': 'n' * 300}, 'cannot be read: File name too long'),
    'every picture broken': (
        {'source': 'broken'},
        'not one of its 3 pictures can be used (3 not a picture); 0.png: ',
    ),
    'dest is source': ({'source': 'good.zip', 'dest': 'good.zip'}, 'the same file as --source'),
    'dest is source by another way': (
        {'source': 'good.zip', 'dest': 'good/../good.zip'},
        'the same file as --source',
    ),
    'dest is no zip': ({'dest': 'set.tar'}, 'must end in .zip'),
    'dest is a folder with something in it': ({'dest': 'broken'}, 'it is there already'),
    'dest folder in the source': ({'dest': 'good/set'}, 'lies in --source'),
    'empty dest name': ({'dest': ''}, "'--dest': it is empty"),
    'no dest': ({'dest': None}, '--dest'),
    'dest is a folder': ({'dest': 'folder.zip'}, 'it is a folder'),
    'dest below a file': ({'dest': 'notes.txt/set.zip'}, 'cannot write'),
    'dest too long': ({'dest': 'n' * 300 + '.zip'}, 'File name too long'),
    'no resolution': ({'resolution': None}, '--resolution'),
    'odd resolution': ({'resolution': '100'}, '--resolution 100: StyleGAN2 needs a power of two'),
    'small resolution': ({'resolution': '2'}, '--resolution 2:'),
    'zero resolution': ({'resolution': '0'}, '--resolution 0:'),
    'negative resolution': ({'resolution': '-4'}, '--resolution -4:'),
    'huge resolution': ({'resolution': '65536'}, '--resolution 65536:'),
    'resolution in words': ({'resolution': 'big'}, '--resolution big: a number of pixels'),
    'unknown fit': ({'fit': 'squash'}, "'squash' is not one of 'crop', 'pad', 'stretch', 'error'"),
    'unknown filter': ({'resize-filter': 'nearest'}, "'nearest' is not one of"),
    'no images': ({'max-images': '0'}, '--max-images'),
    'no workers': ({'workers': '0'}, '--workers'),
    'unknown option': ({'colour': 'red'}, '--colour'),
    'labels of no known form': (
        {'source': 'bad-labels'},
        'should be a list of [file name, label] pairs',
    ),
    'labels in triples': (
        {'source': 'triples-labels'},
        'should be a list of [file name, label] pairs',
    ),
    'labels for some': ({'source': 'some-labels'}, 'none for 1 of 1 pictures, such as a.png'),
    'labels in words': ({'source': 'words-labels'}, 'should all be class numbers'),
    'negative labels': ({'source': 'negative-labels'}, 'should all be class numbers'),
    'labels true and false': ({'source': 'flag-labels'}, 'should all be class numbers'),
    'labels without numbers': ({'source': 'hollow-labels'}, 'should all be class numbers'),
    'labels not a number': ({'source': 'nan-labels'}, 'should all be class numbers'),
    'labels of two kinds': ({'source': 'mixed-labels'}, 'should all be class numbers'),
    'dataset.json is not JSON': ({'source': 'no-json'}, 'not valid JSON'),
}


@pytest.mark.parametrize('case', BAD_INPUTS)
def test_bad_input_is_refused_in_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bad_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    changes, message = BAD_INPUTS[case]
    before = {path: path.read_bytes() if path.is_file() else b'' for path in tmp_path.rglob('*')}
    argv = [
        word
        for name, value in {**GOOD, **changes}.items()
        if value is not None
        for word in (f'--{name}', value)
    ]
    assert prepare_data.main(argv) == 2
    assert message in error_line(capsys)
    assert {
        path: path.read_bytes() if path.is_file() else b'' for path in tmp_path.rglob('*')
    } == before


def test_help_needs_no_torch() -> None:
    code = (
        'import sys, prepare_data; code = prepare_data.main(["--help"]); '
        'sys.exit(code or "torch" in sys.modules)'
    )
    result = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=Path(prepare_data.__file__).parent,
    )
    assert result.returncode == 0 and '--resize-filter' in result.stdout
