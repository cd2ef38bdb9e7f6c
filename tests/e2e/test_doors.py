"""Hostile files of every kind but snapshots: nothing is executed, hangs, crashes or takes much
memory; each gives one line.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_doors import (
    array_files,
    cifar_files,
    json_files,
    pictures,
    plain_files,
    png,
    sets,
    tars,
)
from PIL import Image

from dataset_tools.faces.targets import load_target
from dnnlib import UserError, cli
from dnnlib.image_archive import PictureArchive
from dnnlib.image_decoding import TooLarge, open_picture
from dnnlib.interpreter import Forbidden, Unpickler, load_checked
from dnnlib.reading import read_file, read_json
from torch_utils.torch_file import load_plain
from training.snapshots import load_networks

MEMORY = 64 << 20  # bytes over four times the file
SECONDS = 20

unix = pytest.mark.skipif(os.name == 'nt', reason='Windows has no such files')


def report_of(folder: Path, report: Path) -> dict[str, dict]:
    """What came of reading each file of a folder, by its name."""
    subprocess.run(
        [
            sys.executable,
            str(Path(__file__).parents[1] / 'helpers' / 'load_each.py'),
            str(folder),
            str(report),
            str(SECONDS),
        ],
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=600,
    )
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(rows) == len(list(folder.iterdir()))
    for row in rows:
        assert row['outcome'] in ('loaded', 'refused'), row
        assert (
            row['lines'] <= 1
            and len(row['message']) <= 700
            and (row['message'].isprintable() or not row['message'])
        ), row
    return {Path(row['path']).name: row for row in rows}


def write(folder: Path, kind: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / f'{kind}--{name}').write_bytes(data)


def assert_little_memory(rows: dict[str, dict], allowance: int = MEMORY) -> None:
    for row in rows.values():
        if row['memory'] is not None:
            size = Path(row['path']).stat().st_size if Path(row['path']).is_file() else 0
            assert row['memory'] <= 4 * size + allowance, row


@unix
def test_weights_and_arrays_and_json(tmp_path: Path) -> None:
    folder = tmp_path / 'files'
    folder.mkdir()
    write(folder, 'plain', plain_files(tmp_path / 'executed'))
    write(folder, 'arrays', array_files('w', 'noise.b8.conv0'))
    write(folder, 'statistics', array_files('mu', 'sigma'))
    write(folder, 'json', json_files())
    (folder / 'json--device').symlink_to('/dev/zero')
    os.mkfifo(folder / 'plain--pipe')
    rows = report_of(folder, tmp_path / 'report')
    assert_little_memory(rows)
    assert not (tmp_path / 'executed').exists()
    assert {name for name, row in rows.items() if row['outcome'] == 'loaded'} == set()


@unix
def test_data_sets(tmp_path: Path) -> None:
    folder = tmp_path / 'sets'
    folder.mkdir()
    sets(folder)
    rows = report_of(folder, tmp_path / 'report')
    assert_little_memory(rows)
    loaded = {name for name, row in rows.items() if row['outcome'] == 'loaded'}
    # links to folders are not followed
    assert loaded == {'set--folder', 'pictures--folder'}, loaded
    for name in (
        'set--pipe',
        'set--device',
        'pictures--device',
        'set--large',
        'set--huge',
        'pictures--huge',
        'pictures--bomb',
    ):
        assert 'c.png' in rows[name]['message'], rows[name]


@unix
def test_pictures_and_archives(tmp_path: Path) -> None:
    folder = tmp_path / 'files'
    folder.mkdir()
    write(folder, 'picture', pictures())
    write(folder, 'prepare', tars())
    for name, files in cifar_files().items():
        place = folder / f'prepare--cifar {name}'
        place.mkdir()
        for file, data in files.items():
            (place / file).write_bytes(data)
    rows = report_of(folder, tmp_path / 'report')
    assert_little_memory(rows, 4 * MEMORY)
    assert all(row['outcome'] == 'refused' for row in rows.values()), rows
    assert (
        'negative size'
        in rows['prepare--negative size.tar']['message']
        + rows['prepare--negative pax.tar']['message']
    )


def test_training_states_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    adam.step()
    state = {
        'optimizer': adam.state_dict(),
        'rng': torch.get_rng_state(),
        'text': 'x',
        'pair': (1, 2.5, None, True),
        'rows': [torch.zeros(2, 3).half()],
        'large': 1 << 40,
        'net': net.state_dict(),
    }
    torch.save(state, tmp_path / 'a.pt')
    ours, theirs = load_plain(tmp_path / 'a.pt'), torch.load(tmp_path / 'a.pt', weights_only=True)
    assert repr(ours) == repr(theirs)
    assert ours['optimizer']['state'].keys() == {0, 1}
    assert all(tensor.untyped_storage().data_ptr() % 64 == 0 for tensor in ours['net'].values())


def test_numbers_as_keys() -> None:
    def of(key: int) -> bytes:
        return b'\x80\x02}\x8a\x08' + key.to_bytes(8, 'little', signed=True) + b'Ns.'

    assert load_checked(Unpickler, of(300)) == {300: None}
    for key in (-1, 10_001, 1 << 40):
        with pytest.raises(Forbidden, match='a number as a key'):
            load_checked(Unpickler, of(key))


def test_memos_with_gaps() -> None:
    """As `pickletools.optimize` leaves them."""
    assert load_checked(Unpickler, b'\x80\x02(]q\x05h\x05l.') == [[], []]
    for nothing in (b'\x80\x02(]q\x05h\x04l.', b'\x80\x02(]q\x05h\x06l.'):
        with pytest.raises(Exception, match='a reference to nothing'):
            load_checked(Unpickler, nothing)


@unix
def test_links_to_regular_files_work(tmp_path: Path) -> None:
    (tmp_path / 'elsewhere.png').write_bytes(png())
    folder = tmp_path / 'set'
    folder.mkdir()
    (folder / 'a.png').symlink_to(tmp_path / 'elsewhere.png')
    (folder / 'b.png').symlink_to('a.png')
    archive = PictureArchive(folder)
    assert archive.read('a.png') == archive.read('b.png') == png()
    (tmp_path / 'set-link').symlink_to(folder)
    assert PictureArchive(tmp_path / 'set-link').picture_names == ['a.png', 'b.png']


@pytest.mark.parametrize(
    'kind,options',
    [
        ('png', {}),
        ('jpg', {}),
        ('webp', {}),
        ('webp', {'lossless': True}),
        ('jpg', {'exif': b'Exif\0\0' + bytes(60_000)}),
    ],
)
def test_opening_a_set_reads_only_the_beginnings(
    kind: str, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, [256, 256, 3], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f'a.{kind}', **options)
    monkeypatch.setattr(PictureArchive, 'read', lambda *_: pytest.fail('read to its end'))
    assert PictureArchive(tmp_path).shape(f'a.{kind}') == (3, 256, 256)


@unix
def test_pipes_and_devices_are_no_snapshots_or_photographs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'zero.png').symlink_to('/dev/zero')
    for name in ('pipe.png', 'zero.png'):
        for read in (load_networks, lambda path: load_target(path, 8)):
            with pytest.raises(UserError, match='no regular file|not a regular file'):
                read(tmp_path / name)


def test_errors_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.command(name='x')
    def fail() -> None:
        cli.echo('a\n\x1b[2Jb\ud800')
        raise UserError('\x1b]0;title\x07 a\nb \ud800' + 'y' * 10_000)

    assert cli.run(fail, []) == 2
    said = capsys.readouterr()
    assert said.out == 'a\n\\x1b[2Jb\\ud800\n'
    assert (
        said.err.rstrip('\n').isprintable()
        and len(said.err) < cli.MAX_LINE + 100
        and '\\x1b]0;title\\x07 a b' in said.err
    )


@unix
def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(UserError, match='pipe: cannot be read: it is a pipe, not a regular file'):
        read_file(tmp_path / 'pipe')
    with pytest.raises(UserError, match='folder'):
        read_file(tmp_path)
    (tmp_path / 'a').write_bytes(bytes(2_000_000))
    with pytest.raises(UserError, match='2 MB; no more than 1 MB'):
        read_file(tmp_path / 'a', 1_000_000)
    with pytest.raises(UserError, match='x: should hold an object, not list'):
        read_json(b'[]', 'x')
    assert read_json('{"a": 1}'.encode('utf-8-sig'), 'x') == {'a': 1}


def test_large_jpeg2000_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new('RGB', (64, 64)).save(file, 'JPEG2000')
    monkeypatch.setattr('dnnlib.image_decoding._JPEG2000_PIXELS', 1000)
    with pytest.raises(TooLarge, match='of JPEG2000 would take minutes'):
        open_picture(file.getvalue(), ['JPEG2000'])
