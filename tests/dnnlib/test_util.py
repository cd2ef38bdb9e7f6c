"""Files that scripts read and write: what is refused, and what is left as it was."""

import errno
import os
import socket
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_tools.faces.targets import find_targets
from dnnlib import (
    UserError,
    atomic_path,
    make_output_folder,
    printable,
    require_other_file,
)
from dnnlib.reading import regular_file
from dnnlib.util import is_out_of_memory
from metrics.feature_cache import load_statistics
from synthesis.latents import read_ws
from torch_utils.lpips import vgg_weights
from training.snapshots import load_networks


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / 'pipe.pkl')
    return tmp_path / 'pipe.pkl'


@pytest.mark.parametrize(
    'read',
    [
        load_networks,
        lambda path: read_ws(path, None),
        load_statistics,
        lambda path: find_targets([path]),
        vgg_weights,
    ],
    ids=['networks', 'ws', 'statistics', 'pictures', 'weights'],
)
def test_a_pipe_as_input_is_refused(read, pipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='a pipe, not a regular file; copy what it gives'):
        read(pipe)
    link = tmp_path / 'link.pkl'
    link.symlink_to(pipe)
    with pytest.raises(UserError, match='a pipe, not a regular file; copy what it gives'):
        read(link)


def test_devices_and_sockets_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match='/dev/zero: .* a device, not a'):
        load_networks('/dev/zero')
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind('socket')
        with pytest.raises(UserError, match='socket: .* a socket, not a'):
            regular_file('socket')


def test_regular_file_names_what_is_none(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    assert regular_file(tmp_path / 'file') == tmp_path / 'file'
    for name, words in {
        'nothing': 'no such file',
        '.': 'a folder',
        'a\0': 'cannot be read',
    }.items():
        with pytest.raises(UserError, match=words):
            regular_file(tmp_path / name)


def test_an_output_that_is_a_pipe_or_device_is_refused(pipe: Path) -> None:
    for path, kind in [(pipe, 'a pipe'), (Path('/dev/null'), 'a device')]:
        with (
            pytest.raises(UserError, match=f'cannot write {path}: it is {kind}'),
            atomic_path(path),
        ):
            pass
    assert pipe.is_fifo() and Path('/dev/null').is_char_device()


def test_a_private_output_stays_private(tmp_path: Path) -> None:
    path = tmp_path / 'private.npz'
    path.touch(mode=0o600)
    with atomic_path(path) as temp:
        temp.write_text('new')
    assert path.read_text() == 'new' and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_output_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / 'new.npz'):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'new.npz').stat().st_mode) == 0o640


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    for path in (tmp_path / 'file', tmp_path / 'file' / 'inner'):
        with pytest.raises(UserError, match=f'--outdir={path}: .*file is a file, not a folder'):
            make_output_folder(path)
        with (
            pytest.raises(UserError, match='file is a file, not a folder'),
            atomic_path(path / 'a.png'),
        ):
            pass


def test_an_output_folder_leaves_no_probe(tmp_path: Path) -> None:
    make_output_folder(tmp_path / 'new' / 'out')
    assert list((tmp_path / 'new' / 'out').iterdir()) == []


def test_a_picture_called_only_dots_is_given_a_name(tmp_path: Path) -> None:
    (tmp_path / '...png').touch()
    (tmp_path / '....png').touch()
    names = list(find_targets([tmp_path / '...png', tmp_path / '....png']))
    assert names == ['picture', 'picture-2']


def test_printable_escapes_what_would_move_the_cursor() -> None:
    assert printable('a\x1b[2Jb\n c') == 'a\\x1b[2Jb c'
    assert printable('x' * 300, 10) == 'x' * 9 + '…'


def test_an_input_is_not_written_over(tmp_path: Path) -> None:
    source = tmp_path / 'net.pkl'
    source.touch()
    (tmp_path / 'soft.pkl').symlink_to(source)
    (tmp_path / 'hard.pkl').hardlink_to(source)
    for name in ('net.pkl', 'soft.pkl', 'hard.pkl', 'sub/../net.pkl'):
        (tmp_path / 'sub').mkdir(exist_ok=True)
        with pytest.raises(
            UserError, match=f'--output={tmp_path / name}: that is the input {source}'
        ):
            require_other_file('--output', tmp_path / name, 'ffhq256', source)
    require_other_file('--output', tmp_path / 'new.pkl', source)


@pytest.mark.parametrize(
    'error,expected',
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError(), True),
        (OSError(errno.ENOMEM, 'x'), True),
        (RuntimeError('CUDA error: out of memory'), True),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"
            ),
            True,
        ),
        (RuntimeError('CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate'), True),
        (RuntimeError('shapes differ'), False),
        (OSError(errno.ENOSPC, 'x'), False),
        (ValueError('out of memory'), False),
    ],
)
def test_errors_that_mean_out_of_memory_are_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    'read', [lambda path: read_ws(path, None), load_statistics], ids=['ws', 'statistics']
)
def test_a_truncated_npz_is_said_to_be_cut_short(read, tmp_path: Path) -> None:
    np.savez(tmp_path / 'whole.npz', w=np.zeros(1000))
    (tmp_path / 'part.npz').write_bytes((tmp_path / 'whole.npz').read_bytes()[:500])
    with pytest.raises(UserError, match='part.npz: .*cut short'):
        read(tmp_path / 'part.npz')
    (tmp_path / 'text.npz').write_text('hello')
    with pytest.raises(UserError, match='no zip archive'):
        read(tmp_path / 'text.npz')
