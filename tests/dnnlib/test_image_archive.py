"""Folders and zips of pictures: sets of our own, which training reads, and those of strangers."""

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dataset_tools import open_sources
from dnnlib import UserError
from dnnlib.containers import FolderContainer, ZipContainer, open_container
from dnnlib.image_archive import PictureArchive, is_picture_name, read_labels

unix = pytest.mark.skipif(os.name == 'nt', reason='links need a permission there')


@pytest.mark.parametrize(
    'name,expected',
    [
        ('a/b.PNG', True),
        ('./a.jpeg', True),
        ('../a.jpg', True),
        ('a.txt', False),
        ('png', False),
        ('.a.png', False),
        ('.cache/a.png', False),
        ('__MACOSX/a.png', False),
    ],
)
def test_pictures_are_told_by_their_names(name: str, expected: bool) -> None:
    assert is_picture_name(name) is expected
    assert not is_picture_name(name, {'.psd'})


def test_an_archive_that_is_sent_to_another_process_opens_its_zip_there(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as file:
        file.writestr('b.png', b'picture')
        file.writestr('a.png', b'other')
    archive = PictureArchive(tmp_path / 'set.zip')
    assert archive.read('b.png') == b'picture'
    again = pickle.loads(pickle.dumps(archive))
    archive.close()
    assert again.picture_names == ['a.png', 'b.png'] and again.read('b.png') == b'picture'
    assert again.read_start('b.png', 3) == b'pic'


def test_files_of_one_name_are_told_apart_in_foreign_zips(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as file:
        file.writestr('a.png', b'first')
        with pytest.warns(UserWarning, match='Duplicate name'):
            file.writestr('a.png', b'second')
    foreign = ZipContainer(tmp_path / 'set.zip', foreign=True)
    assert [foreign.read(entry) for entry in foreign.entries] == [b'first', b'second']
    assert PictureArchive(tmp_path / 'set.zip').read('a.png') == b'second'


@unix
def test_linked_folders_are_read_in_foreign_folders_only(tmp_path: Path) -> None:
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'a.png').touch()
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set' / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'set' / 'again').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'set' / 'dead.png').symlink_to('nowhere')
    foreign = FolderContainer(tmp_path / 'set', foreign=True)
    assert [entry.name for entry in foreign.entries] == ['again/a.png']
    assert [(item.name, item.kind) for item in foreign.problems] == [
        ('dead.png', 'link'),
        ('linked', 'link'),
    ]
    archive = PictureArchive(tmp_path / 'set')
    assert archive.picture_names == ['dead.png']
    with pytest.raises(UserError, match='dead.png cannot be read: No such file'):
        archive.read('dead.png')


@pytest.mark.parametrize('foreign', [False, True])
def test_a_zip_that_was_cut_short_is_said_to_be_one(foreign: bool, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'whole.zip', 'w') as file:
        file.writestr('a.png', bytes(1000))
    (tmp_path / 'cut.zip').write_bytes((tmp_path / 'whole.zip').read_bytes()[:900])
    with pytest.raises(UserError, match='cut.zip: is a zip, but a damaged one, most likely cut'):
        open_container(tmp_path / 'cut.zip', foreign=foreign)


@pytest.mark.parametrize(
    'labels,words',
    [
        ([['a.png', 1]], 'none for 1 of 2 pictures, such as b.png'),
        ([['a.png', 1], ['b.png', True]], 'should all be class numbers'),
        ([['a.png', [1, 2]], ['b.png', [1]]], 'vectors of one length'),
        ([['a.png', []], ['b.png', []]], 'should all be class numbers'),
        ([['a.png', 1, 2]], 'a list of .file name, label. pairs'),
    ],
)
def test_bad_labels_are_refused_alike_by_training_and_preparing(
    labels: Any, words: str, tmp_path: Path
) -> None:
    for name in ('a.png', 'b.png'):
        (tmp_path / name).touch()
    (tmp_path / 'dataset.json').write_text(json.dumps({'labels': labels}))
    with pytest.raises(UserError, match=words):
        open_sources([tmp_path])
    with pytest.raises(UserError, match=words):
        read_labels(PictureArchive(tmp_path), '--cond')
