"""Bad input to prepare_data.py: each file is named and costs only itself, nothing hangs, nothing is
written beside `--dest`.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_prepare_data import encode, error_line, pixels, png, prepare, read
from test_prepare_sources import cifar

import prepare_data
from dataset_tools import open_sources
from dataset_tools.label_sources import csv_labels
from dataset_tools.sources import mnist, video_frames
from dataset_tools.sources.cifar import read_cifar
from dnnlib import UserError, containers
from dnnlib.containers import FolderContainer, Unusable
from dnnlib.image_archive import PictureArchive
from training.dataset import ImageFolderDataset

unix = pytest.mark.skipif(os.name == 'nt', reason='Windows has no such files')


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with one good picture."""
    path = tmp_path / 'source'
    path.mkdir()
    (path / 'good.png').write_bytes(png())
    return path


def survivors(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], list[str]]:
    """The files that went into the set, and what was said of others. Nothing else may have
    appeared.
    """
    before = {path for path in tmp_path.rglob('*') if not path.is_symlink()}
    (tmp_path / 'out').mkdir()
    assert prepare(source, tmp_path / 'out/set.zip') == 0
    after = {path for path in tmp_path.rglob('*') if not path.is_symlink()}
    assert after - before == {tmp_path / 'out', tmp_path / 'out/set.zip'}
    files = read(tmp_path / 'out/set.zip')[1]['files']
    assert len(files) == len(read(tmp_path / 'out/set.zip')[0])
    err = capsys.readouterr().err.splitlines()
    capsys.readouterr()
    assert prepare(source, tmp_path / 'out/strict.zip', '--strict') == (
        2 if any(line.startswith('skipped') for line in err) else 0
    )
    return files, err


@unix
def test_links_pipes_and_sockets_are_skipped_or_followed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (elsewhere / 'far.png').write_bytes(png(1))
    (source / 'deep').mkdir()
    (source / 'deep/loop').symlink_to(source)
    (source / 'a-self.png').symlink_to('a-self.png')
    (source / 'linked').symlink_to(elsewhere)
    (source / 'linked-too').symlink_to(elsewhere)
    (source / 'photos').symlink_to(tmp_path / 'not mounted')
    os.mkfifo(source / 'pipe.png')
    with (
        contextlib.chdir(source) if sys.version_info >= (3, 11) else contextlib.nullcontext(),
        socket.socket(socket.AF_UNIX) as plug,
    ):
        plug.bind('plug.png' if sys.version_info >= (3, 11) else str(source / 'plug.png'))
        files, err = survivors(source, tmp_path, capsys)
    assert files == ['good.png', 'linked/far.png']
    assert [line.split(':')[0] for line in sorted(err)] == [
        'skipped a-self.png',
        'skipped deep/loop',
        'skipped linked-too',
        'skipped photos',
        'skipped pipe.png',
        'skipped plug.png',
    ]


@unix
def test_odd_names_are_remarked_and_read(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (
        b'\xff\xfe.png',
        b'new\nline.png',
        b'Good.png',
        '日本.png'.encode(),
        b'-rf.png',
        b' .png',
    ):
        Path(os.fsdecode(os.fsencode(source) + b'/' + name)).write_bytes(png())
    files, err = survivors(source, tmp_path, capsys)
    assert len(files) == 7
    said = '\n'.join(err)
    assert (
        'good.png: odd name: differs from Good.png only by case' in said
        and 'odd name: is not UTF-8' in said
    )
    report = tmp_path / 'audit'
    assert prepare(source, tmp_path / 'a.zip', '--report', str(report)) == 0
    assert '\\udcff' in (report / 'report.csv').read_text(encoding='utf-8')


@unix
def test_files_without_permission_are_skipped(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Made up, for root may read everything."""
    (source / 'locked').mkdir()
    (source / 'locked/in.png').write_bytes(png())
    (source / 'mine.png').write_bytes(png())
    real_scan, real_open = os.scandir, os.open

    def scan(path: Any) -> Any:
        if Path(path).name == 'locked':
            raise PermissionError(13, 'Permission denied', str(path))
        return real_scan(path)

    def open_(path: Any, *args: Any, **kwargs: Any) -> Any:
        if Path(path).name == 'mine.png':
            raise PermissionError(13, 'Permission denied', str(path))
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, 'scandir', scan)
    monkeypatch.setattr(os, 'open', open_)
    assert prepare(source, tmp_path / 'set.zip') == 0
    assert capsys.readouterr().err.splitlines() == [
        'skipped locked: unreadable: the folder cannot be listed: Permission denied',
        'skipped mine.png: unreadable: cannot be read: Permission denied',
    ]


def bomb_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(bytes(1000)))
        + chunk(b'IEND', b'')
    )


def test_pictures_that_claim_too_many_pixels_are_skipped(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / 'huge.png').write_bytes(bomb_png(100_000, 100_000))
    (source / 'huge.bmp').write_bytes(
        b'BM'
        + struct.pack(
            '<IHHIIiiHHIIiiII', 54, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0
        )
    )
    (source / 'huge.gif').write_bytes(
        b'GIF89a'
        + struct.pack('<HHBBB', 65535, 65535, 0, 0, 0)
        + b','
        + struct.pack('<HHHHB', 0, 0, 65535, 65535, 0)
        + b'\2\2\x4c\1\0;'
    )
    (source / 'huge.ppm').write_bytes(b'P6 100000 100000 255\n')
    with (source / 'sparse.png').open('wb') as file:
        file.truncate(1 << 40)
    start = time.monotonic()
    files, err = survivors(source, tmp_path, capsys)
    assert time.monotonic() - start < 10 and files == ['good.png']
    assert {line.split(': ')[0].removeprefix('skipped ') for line in err} == {
        'huge.png',
        'huge.bmp',
        'huge.gif',
        'huge.ppm',
        'sparse.png',
    }
    assert sum('too large' in line for line in err) == 5


def test_a_png_whose_rows_end_early_is_damaged(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole file in every other way: Pillow fills it up with black."""
    (source / 'short.png').write_bytes(bomb_png(3, 200))
    (source / 'black.png').write_bytes(encode(Image.new('RGBA', (50, 50))))
    (source / 'dark-palette.png').write_bytes(encode(Image.new('P', (51, 50)), bits=2))
    files, err = survivors(source, tmp_path, capsys)
    assert files == ['black.png', 'dark-palette.png', 'good.png'] and err == [
        'skipped short.png: damaged: its pixels end early'
    ]


def test_bad_members_of_zips_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / 'all.zip'
    with (
        zipfile.ZipFile(source, 'w', zipfile.ZIP_DEFLATED) as file,
        pytest.warns(UserWarning, match='Duplicate'),
    ):
        file.writestr('../../evil.png', png(1))
        file.writestr('/abs.png', png(2))
        file.writestr('bomb.png', bytes(100 << 20))
        file.writestr('twice.png', png(3))
        file.writestr('twice.png', png(4))
        file.writestr('locked.png', png(5))
        file.writestr('torn.png', png(6))
        file.writestr('good.png', png(0))
    data = bytearray(source.read_bytes())
    # the flag that says encrypted, in both headers
    for signature, flags in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
        start = data.index(
            signature,
            data.index(b'locked.png' if signature == b'PK\3\4' else b'PK\1\2')
            - (30 if signature == b'PK\3\4' else 0),
        )
        while data[start + (30 if signature == b'PK\3\4' else 46) :][:10] != b'locked.png':
            start = data.index(signature, start + 1)
        data[start + flags] |= 1
    torn = data.index(b'torn.png') + 20
    data[torn : torn + 30] = bytes(30)
    source.write_bytes(data)
    files, err = survivors(source, tmp_path, capsys)
    assert files == ['../../evil.png', '/abs.png', 'good.png', 'twice.png', 'twice.png']
    pictures, _ = read(tmp_path / 'out/set.zip')
    np.testing.assert_array_equal(pictures[3:], [pixels(3), pixels(4)])
    said = '\n'.join(err)
    assert (
        'skipped bomb.png: too large' in said
        and 'zip bomb' in said
        and 'skipped locked.png: encrypted' in said
    )
    assert (
        'skipped torn.png: unreadable' in said
        and 'remark ../../evil.png: odd name: points outside' in said
    )


def test_a_zip_bomb_of_many_files_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each harmless by itself."""
    monkeypatch.setattr(containers, 'MAX_FILE', 1 << 20)
    source = tmp_path / 'all.zip'
    with zipfile.ZipFile(source, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('a.png', png())
        for i in range(12):
            file.writestr(f'b{i:02}.png', bytes(900_000))
    files, err = survivors(source, tmp_path, capsys)
    bombs = [line for line in err if 'a zip bomb' in line]
    assert files == ['a.png'] and 0 < len(bombs) < 12 == len(err) and bombs == err[-len(bombs) :]


def test_bad_members_of_tars_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / 'all.tar.gz'
    with tarfile.open(source, 'w:gz') as tar:
        for name, kind in {
            '../evil.png': tarfile.REGTYPE,
            'good.png': tarfile.REGTYPE,
            'link.png': tarfile.SYMTYPE,
            'dev.png': tarfile.CHRTYPE,
            'pipe.png': tarfile.FIFOTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, '/etc/passwd'
            info.size = len(png()) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(png()))
    files, err = survivors(source, tmp_path, capsys)
    assert files == ['../evil.png', 'good.png'] and len(err) == 4
    cut = tmp_path / 'cut.tar.gz'
    cut.write_bytes(source.read_bytes()[:-200])
    code = prepare(cut, tmp_path / 'cut.zip')
    assert 'breaks off' in capsys.readouterr().err and code in (0, 2)


def test_a_tar_bomb_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Members of 400 MB of nothing each: the second is one too many, and neither is looked for to
    its end.
    """
    source = tmp_path / 'bomb.tar.gz'
    with gzip.open(source, 'wb', compresslevel=1) as file:
        info = tarfile.TarInfo('a.png')
        info.size = len(png())
        file.write(info.tobuf() + png() + bytes(-len(png()) % 512))
        info = tarfile.TarInfo('b.png')
        info.size = 1 << 42
        file.write(info.tobuf())
        file.write(bytes(1 << 20))
    assert prepare(source, tmp_path / 'set.zip') == 0
    assert 'more than 200 times its size' in capsys.readouterr().err
    assert read(tmp_path / 'set.zip')[1]['files'] == ['a.png']


@pytest.mark.parametrize('kind', [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, 'sparse'])
def test_a_tar_whose_header_never_ends_is_refused(
    kind: bytes | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python would hold it in memory."""
    source = tmp_path / 'bomb.tar.gz'
    info = tarfile.TarInfo('x')
    info.type, info.size = (tarfile.GNUTYPE_SPARSE, 0) if isinstance(kind, str) else (kind, 1 << 34)
    header, more = bytearray(info.tobuf(tarfile.GNU_FORMAT)), bytes(1 << 20)
    if isinstance(kind, str):  # a map of the parts that goes on and on
        header[482] = 1
        header[148:156] = b'%06o\0 ' % (sum(header) - sum(header[148:156]) + 8 * ord(' '))
        more = (bytes(504) + b'\1' + bytes(7)) * 2048
    with gzip.open(source, 'wb', compresslevel=1) as file:
        good = tarfile.TarInfo('a.png')
        good.size = len(png())
        file.write(good.tobuf() + png() + bytes(-len(png()) % 512) + header)
        for _ in range(60):
            file.write(more)
    tracemalloc.start()
    try:
        assert prepare(source, tmp_path / 'set.zip') == 0
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert capsys.readouterr().err.endswith('(what follows has a header of more than 1 MB)\n')
    assert read(tmp_path / 'set.zip')[1]['files'] == ['a.png']


def test_names_of_zips_that_are_not_utf_8_or_do_not_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {
        b'1-caf\xc3\xa9.png': '1-café.png',
        b'2-\x93\xfa\x96\x7b.png': '2-\udc93\udcfa\udc96{.png',
    }
    source = tmp_path / 'all.zip'
    with zipfile.ZipFile(source, 'w') as file:
        for i, name in enumerate(names):
            file.writestr('x' * len(name), png(i))
    data = source.read_bytes()
    for name in names:
        data = data.replace(b'x' * len(name), name)
    source.write_bytes(data)
    files, err = survivors(source, tmp_path, capsys)
    assert files == list(names.values()) and err == [
        'remark 2-\\udc93\\udcfa\\udc96{.png: odd name: is not UTF-8'
    ]


def test_a_zip_with_a_file_without_a_name(tmp_path: Path) -> None:
    source = tmp_path / 'all.zip'
    with zipfile.ZipFile(source, 'w') as file:
        file.writestr('nameless', png())
        file.writestr('good.png', png())
    source.write_bytes(source.read_bytes().replace(b'nameless', b'\0ameless'))
    assert PictureArchive(source).picture_names == ['good.png']
    assert prepare(source, tmp_path / 'set.zip') == 0


def test_hidden_files_are_skipped(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copies that Jupyter keeps, and what a run that was killed has left."""
    for name in (
        '.ipynb_checkpoints/good-checkpoint.png',
        '.set.k3j2h1.tmp/00000/img00000000.png',
        '.good.png',
        '__MACOSX/._good.png',
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(png())
    assert prepare(source, tmp_path / 'set.zip') == 0
    assert (
        read(tmp_path / 'set.zip')[1]['files']
        == PictureArchive(source).picture_names
        == ['good.png']
    )
    assert 'passed over 4 files' in capsys.readouterr().out


def test_the_report_is_no_part_of_the_set(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for report in ('set', 'set/report'):
        assert prepare(source, tmp_path / 'set', '--report', str(tmp_path / report)) == 2
        assert 'lies in --dest' in error_line(capsys)
    assert list(tmp_path.iterdir()) == [source]


@unix
def test_links_that_lead_to_themselves_as_options(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'loop').symlink_to('loop')
    for options in (['--report', 'loop'], ['--report', 'loop/audit'], ['--source', 'loop']):
        assert prepare(source, tmp_path / 'set.zip', options[0], str(tmp_path / options[1])) == 2
        assert 'loop' in error_line(capsys)
    assert prepare(source, tmp_path / 'loop/set.zip') == prepare(source, tmp_path / 'loop') == 2


def test_damaged_mnist_and_cifar_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / 'train-images-idx3-ubyte'
    name.write_bytes(struct.pack('>4I', 0x803, 0xFFFFFFFF, 0xFFFF, 0xFFFF) + bytes(100))
    assert prepare(name, tmp_path / 'set.zip', resolution=32) == 2
    assert 'says that it holds' in error_line(capsys)
    cifar(tmp_path / 'c.tar.gz')
    with tarfile.open(tmp_path / 'c.tar.gz') as tar:
        tar.extractall(tmp_path / 'c', filter='data')
    batch = tmp_path / 'c/cifar-10-batches-py/data_batch_1'
    batch.write_bytes(batch.read_bytes()[:1000])
    assert prepare(tmp_path / 'c', tmp_path / 'set.zip', resolution=32) == 0
    assert 'skipped cifar-10-batches-py/data_batch_1: damaged' in capsys.readouterr().err
    assert read(tmp_path / 'set.zip')[1]['num_images'] == 3


def make_lmdb(path: Path) -> bytes:
    """Of 40 pictures; its file, which is longer than that."""
    lmdb = pytest.importorskip('lmdb')
    with lmdb.open(str(path)) as database, database.begin(write=True) as transaction:
        for i in range(40):
            transaction.put(f'{i:03}'.encode(), png(i, (40, 40, 3)))
    return (path / 'data.mdb').read_bytes()


def test_a_truncated_lmdb_gives_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever maps it into memory gets a bus error."""
    source = tmp_path / 'set'
    data = make_lmdb(source)
    (source / 'data.mdb').write_bytes(data[: len(data) * 2 // 3])
    assert prepare(source, tmp_path / 'set.zip') == 0
    files = read(tmp_path / 'set.zip')[1]['files']
    assert 5 < len(files) < 39 and files == [f'set/{i:03}' for i in range(len(files))]
    assert (
        f'skipped set: damaged: the LMDB breaks off after {len(files)} of 40 values'
        in capsys.readouterr().err
    )
    (source / 'data.mdb').write_bytes(data[:100])
    assert prepare(source, tmp_path / 'set.zip') == 2
    assert 'its LMDB cannot be read' in error_line(capsys)


@pytest.mark.parametrize(
    'claimed,words', [(5, 'more values than it says'), (1 << 40, 'for which it is too small')]
)
def test_an_lmdb_that_lies_about_its_size_is_refused(
    claimed: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages that are referred to again and again give values without end."""
    data = bytearray(make_lmdb(tmp_path / 'set'))
    for page in (0, 4096):
        # in the two descriptions of the whole
        data[page + 120 : page + 128] = struct.pack('<Q', claimed)
    (tmp_path / 'set/data.mdb').write_bytes(data)
    code = prepare(tmp_path / 'set', tmp_path / 'set.zip')
    assert words in capsys.readouterr().err
    assert code == (0 if claimed == 5 else 2)
    if code == 0:
        assert len(read(tmp_path / 'set.zip')[0]) == claimed


def test_video_frames_of_too_many_pixels_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read_few(count: int) -> bytes:
        asked.append(count)
        return header.read(count)

    header = io.BytesIO(b'P6\n14000 14000\n255\n')
    assert video_frames._read_ppm(read_few) is None and max(asked) == 1
    imageio_ffmpeg = pytest.importorskip('imageio_ffmpeg')
    writer = imageio_ffmpeg.write_frames(tmp_path / 'a.mp4', (64, 48))
    writer.send(None)
    writer.send(bytes(64 * 48 * 3))
    writer.close()
    monkeypatch.setattr(video_frames, 'MAX_PIXELS', 1000)
    assert prepare(tmp_path / 'a.mp4', tmp_path / 'set.zip') == 2
    assert 'a.mp4: after 0 frames ffmpeg says' in error_line(capsys)


def test_names_do_not_reach_the_terminal_or_a_spreadsheet(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ('\x1b[31mred', 'cat'):
        (source / name).mkdir()
        (source / name / '＝1+1.png').write_bytes(png())
    (source / 'good.png').unlink()
    assert (
        prepare(
            source, tmp_path / 'set.zip', '--labels', 'folder', '--report', str(tmp_path / 'audit')
        )
        == 0
    )
    said = capsys.readouterr()
    assert '\x1b' not in said.out + said.err and '\\x1b[31mred' in said.out
    with contextlib.suppress(OSError):
        for name in ('＝1+1.png', '=1+1.png'):
            (source / name).write_bytes(png())
        assert prepare(source, tmp_path / 'again.zip', '--report', str(tmp_path / 'audit')) == 0
        assert "\n'＝1+1.png," in (tmp_path / 'audit/report.csv').read_text(encoding='utf-8')
        assert "\n'=1+1.png," in (tmp_path / 'audit/report.csv').read_text(encoding='utf-8')


@unix
def test_a_full_disk_is_one_line(source: Path, tmp_path: Path) -> None:
    (source / 'big.png').write_bytes(png(0, (400, 400, 3)))
    script = Path(prepare_data.__file__)

    def limit() -> None:
        import resource  # Windows has none
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    for dest in ('set.zip', 'set'):
        done = subprocess.run(
            [
                sys.executable,
                str(script),
                '--source',
                str(source),
                '--dest',
                str(tmp_path / 'out' / dest),
                '--resolution',
                '256',
            ],
            preexec_fn=limit,
            capture_output=True,
            text=True,
        )
        assert (
            done.returncode == 2
            and done.stderr.count('\n') == 1
            and 'File too large' in done.stderr
        ), done.stderr
        assert list((tmp_path / 'out').iterdir()) == []


# ---- fuzzing ----------------------------------------------------------------

EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', '40'))  # a few thousand take minutes
NO_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
FUZZ = settings(max_examples=EXAMPLES, deadline=5000, suppress_health_check=NO_CHECKS)


PICTURES = [
    suffix
    for suffix in (
        'png',
        'jpg',
        'gif',
        'bmp',
        'tif',
        'webp',
        'tga',
        'ppm',
        'ico',
        'jp2',
        'pcx',
        'dds',
        'sgi',
        'avif',
        'qoi',
    )
    if Image.registered_extensions().get(f'.{suffix}') in Image.SAVE
]


def cifar_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        cifar(Path(folder, 'c.tar.gz'))
        with tarfile.open(Path(folder, 'c.tar.gz')) as tar:
            found = {
                kind: tar.extractfile(f'cifar-10-batches-py/{name}')
                for kind, name in {'cifar': 'data_batch_1', 'cifar meta': 'batches.meta'}.items()
            }
            return {kind: file.read() for kind, file in found.items() if file is not None}


def seeds() -> dict[str, bytes]:
    """One of each kind that can be mangled."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('a.png', png(0, (4, 4, 3)))
        file.writestr('dataset.json', json.dumps({'labels': [['a.png', 1]]}))
    tar_buffer = io.BytesIO()
    with tarfile.open(fileobj=tar_buffer, mode='w') as tar:
        info = tarfile.TarInfo('a.png')
        info.size = len(png(0, (4, 4, 3)))
        tar.addfile(info, io.BytesIO(png(0, (4, 4, 3))))
    return {
        'zip': buffer.getvalue(),
        'tar': tar_buffer.getvalue()[:2048],
        'gz': gzip.compress(tar_buffer.getvalue()),
        'bz2': bz2.compress(tar_buffer.getvalue()),
        'xz': lzma.compress(tar_buffer.getvalue()),
        'idx': struct.pack('>4I', 0x803, 2, 4, 4) + bytes(32),
        **cifar_files(),
        **{suffix: encode(Image.fromarray(pixels(0, (8, 8, 3))), suffix) for suffix in PICTURES},
    }


SEEDS = seeds()


@st.composite
def mangled(draw: st.DrawFn, kinds: list[str]) -> tuple[str, bytes]:
    """A file with some bytes changed, cut, or doubled."""
    kind = draw(st.sampled_from(kinds))
    data = bytearray(SEEDS[kind])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        data[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=6))
    return kind, bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(
        data
    )


@contextlib.contextmanager
def only_the_dest() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
        assert {path.name for path in folder.iterdir()} <= {'source', 'set.zip'}
    finally:
        shutil.rmtree(folder)


@FUZZ
@given(mangled(['zip', 'tar', 'gz', 'bz2', 'xz', 'idx']))
def test_mangled_archives(file: tuple[str, bytes]) -> None:
    with only_the_dest() as folder:
        (folder / 'source').write_bytes(file[1])
        code = prepare(folder / 'source', folder / 'set.zip', resolution=8)
        assert code == (0 if (folder / 'set.zip').exists() else 2)


@FUZZ
@given(mangled(PICTURES))
def test_mangled_pictures(file: tuple[str, bytes]) -> None:
    with only_the_dest() as folder:
        (folder / 'source').mkdir()
        (folder / f'source/a.{file[0]}').write_bytes(file[1])
        (folder / 'source/good.png').write_bytes(png())
        assert (
            prepare(folder / 'source', folder / 'set.zip', '--report', str(folder / 'source/audit'))
            == 0
        )
        assert 'good.png' in read(folder / 'set.zip')[1]['files']
        assert sorted(path.name for path in (folder / 'source/audit').iterdir()) == [
            'report.csv',
            'report.html',
        ]


@FUZZ
@given(mangled(['cifar', 'cifar meta']))
def test_mangled_cifar(file: tuple[str, bytes]) -> None:
    with only_the_dest() as folder:
        (folder / 'source').mkdir()
        for kind, name in {'cifar': 'data_batch_1', 'cifar meta': 'batches.meta'}.items():
            (folder / 'source' / name).write_bytes(file[1] if kind == file[0] else SEEDS[kind])
        code = prepare(folder / 'source', folder / 'set.zip', '--workers', '1', resolution=32)
        assert code == (0 if (folder / 'set.zip').exists() else 2)


@settings(FUZZ, max_examples=max(4, EXAMPLES // 20))  # each starts a process
@given(
    st.integers(0, 7),
    st.lists(st.tuples(st.integers(0, 4095), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(1, 10),
)
def test_mangled_lmdbs(page: int, changes: list[tuple[int, bytes]], part: int) -> None:
    with only_the_dest() as folder:
        data = bytearray(make_lmdb(folder / 'source'))
        for place, new in changes:
            data[4096 * page + place : 4096 * page + place + len(new)] = new
        (folder / 'source/data.mdb').write_bytes(data[: len(data) * part // 10])
        code = prepare(folder / 'source', folder / 'set.zip', '--workers', '1', resolution=8)
        assert code == (0 if (folder / 'set.zip').exists() else 2)


@FUZZ
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=5), x, max_size=4),
            max_leaves=8,
        ).map(lambda x: pickle.dumps({'data': x, 'labels': x, 'label_names': x}, 2)),
    )
)
def test_any_bytes_as_cifar(data: bytes) -> None:
    with contextlib.suppress(Unusable):
        list(read_cifar(data))


@FUZZ
@given(st.binary(max_size=60), st.sampled_from([b'', b'\0\0\x08\x03', b'\x1f\x8b\x08']))
def test_any_bytes_as_mnist(data: bytes, start: bytes) -> None:
    mnist.is_idx_images(start + data)
    with contextlib.suppress(Unusable):
        assert mnist.read_idx(start + data, 3).ndim == 3


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_as_labels(data: bytes) -> None:
    csv_labels([('a.csv', data), ('b.csv', b'x,1\n' + data)], 'x')
    with only_the_dest() as folder:
        (folder / 'source').mkdir()
        (folder / 'source/a.png').write_bytes(png(0, (4, 4, 3)))
        (folder / 'source/dataset.json').write_bytes(data)
        with contextlib.suppress(UserError):
            open_sources([folder / 'source'])


ODD_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(['a.png', 'b\\\\c.png', '', 'cat', 10**9, 10**30, 10**400, 1e300]),
    lambda x: (
        st.lists(x, max_size=4)
        | st.dictionaries(st.sampled_from(['a.png', 'b/c.png', 'labels']), x, max_size=3)
    ),
    max_leaves=8,
)
LABEL_LISTS = st.tuples(ODD_JSON, ODD_JSON).map(
    lambda both: [['a.png', both[0]], ['b/c.png', both[1]]]
)


@FUZZ
@given(ODD_JSON | LABEL_LISTS, ODD_JSON)
def test_any_json_as_labels(labels: Any, names: Any) -> None:
    """For making a set, and for training on one."""
    with only_the_dest() as folder:
        source = folder / 'source'
        (source / 'b').mkdir(parents=True)
        for name in ('a.png', 'b/c.png'):
            (source / name).write_bytes(png(0, (8, 8, 3)))
        (source / 'dataset.json').write_text(json.dumps({'labels': labels, 'class_names': names}))
        code = prepare(source, folder / 'set.zip', resolution=8)
        assert code == (0 if (folder / 'set.zip').exists() else 2)
        for path in [source] + [folder / 'set.zip'] * (code == 0):
            with contextlib.suppress(UserError):
                data = ImageFolderDataset(path, use_labels=True)
                assert data.stored_labels.isfinite().all() and len(data.stored_labels) == 2


ODD_NAMES = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.lists(
            st.sampled_from(
                ['..', '.', '', 'a', 'A', 'ß', 'C:', '\\', '\0', 'nul', '\x1b[2J', '=1']
            ),
            max_size=5,
        ).map('/'.join),
    ),
    min_size=1,
    max_size=5,
)


@FUZZ
@given(ODD_NAMES, st.sampled_from(['zip', 'tar']), st.sampled_from(['none', 'folder', 'csv:a']))
def test_any_names(names: list[str], kind: str, labels: str) -> None:
    with only_the_dest() as folder:
        source = folder / 'source'
        with (
            warnings.catch_warnings(),
            zipfile.ZipFile(source, 'w') if kind == 'zip' else tarfile.open(source, 'w') as archive,
        ):
            warnings.simplefilter('ignore')  # of names that come twice
            for name in [f'{stem}.{suffix}' for stem in names for suffix in ('png', 'csv')]:
                data = png(0, (8, 8, 3)) if name.endswith('png') else b'a, 3\n'
                try:
                    if isinstance(archive, zipfile.ZipFile):
                        archive.writestr(name, data)
                    else:
                        info = tarfile.TarInfo(name)
                        info.size = len(data)
                        archive.addfile(info, io.BytesIO(data))
                except (UnicodeEncodeError, IndexError):  # the latter of an empty name
                    continue
        code = prepare(source, folder / 'set.zip', '--labels', labels, '--strict', resolution=8)
        assert code == (0 if (folder / 'set.zip').exists() else 2)


def test_a_pickle_cannot_ask_for_gigabytes() -> None:
    tower = b'\x80\x02' + b'N' * 1_500_000
    for data in (
        b'\x80\x02]r\xff\xff\xff\xff.',
        b'\x80\x04\x95' + struct.pack('<Q', 10) + b'}.' * 5,
        tower,
    ):
        with pytest.raises(Unusable):
            list(read_cifar(data))


def test_a_folder_that_vanishes_while_it_is_read(source: Path) -> None:
    container = FolderContainer(source, foreign=True)
    (source / 'good.png').unlink()
    with pytest.raises(Unusable, match='No such file'):
        container.read(container.entries[0])
