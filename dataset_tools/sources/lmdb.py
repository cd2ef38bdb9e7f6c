"""The values of an LMDB, such as LSUN's."""

import importlib.util
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from dnnlib import UserError
from dnnlib.containers import Skipped
from dnnlib.reading import MAX_FILE

_ENTRY = 8  # bytes of an entry besides its key and value
_PATIENCE = 60  # seconds for one value


def is_lmdb(path: Path) -> bool:
    """Whether a path is an LMDB, as LSUN's are: a folder with `data.mdb`."""
    return (path / 'data.mdb').is_file()


def open_lmdb(path: Path) -> tuple[int, Iterator[tuple[str, bytes] | Skipped]]:
    """Return how many values there are, and an iterator of their keys, as text, with the values.

    Another process reads, for a file that is damaged or cut short, as downloads are, ends a process
    that maps it into memory.

    Raises:
        UserError: it can't be read, or the package is missing.
    """
    if importlib.util.find_spec('lmdb') is None:
        raise UserError(f'--source {path}: an LMDB needs the package lmdb: pip install lmdb')
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_lmdb, args=(path, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        total = ours.recv() if ours.poll(_PATIENCE) else f'no answer in {_PATIENCE} seconds'
    except (EOFError, OSError):
        total = 'it is damaged'
    if isinstance(total, str):
        process.kill()
        raise UserError(f'--source {path}: its LMDB cannot be read: {total}')
    return total, _receive_lmdb(path, total, ours, process)


def _receive_lmdb(
    path: Path, total: int, connection: Connection, process: SpawnProcess
) -> Iterator[tuple[str, bytes] | Skipped]:
    count = 0
    try:
        while not isinstance(
            item := connection.recv() if connection.poll(_PATIENCE) else 'it takes too long',
            str | None,
        ):
            yield item
            count += 1
        if item is not None:
            yield Skipped(
                path.name, 'damaged', f'the LMDB breaks off after {count} of {total} values: {item}'
            )
    except (EOFError, OSError):  # the latter in the middle of a value
        yield Skipped(
            path.name,
            'damaged',
            f'the LMDB breaks off after {count} of {total} values: it is damaged, or cut short',
        )
    finally:
        connection.close()
        process.kill()
        process.join()


def _send_lmdb(path: Path, connection: Connection) -> None:
    """Send the number of values, or what is wrong; each key and value; None at the end."""
    # Ctrl-C reaches every process of a terminal; the parent deals with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import lmdb

    try:
        with (
            lmdb.open(str(path), readonly=True, lock=False, readahead=False) as database,
            database.begin(buffers=True) as transaction,
        ):
            total, left = int(database.stat()['entries']), (path / 'data.mdb').stat().st_size
            if total * _ENTRY > left:
                raise ValueError(f'it says that it has {total} values, for which it is too small')
            connection.send(total)
            for count, (key, value) in enumerate(transaction.cursor()):
                left -= len(key) + len(value) + _ENTRY
                if count >= total or left < 0:
                    raise ValueError('it has more values than it says, or gives some of them twice')
                name = bytes(key).decode('utf-8', 'surrogateescape')
                too_large = Skipped(
                    f'{path.name}/{name}', 'too large', f'{len(value) / 1e6:.0f} MB'
                )
                connection.send((name, bytes(value)) if len(value) <= MAX_FILE else too_large)
            connection.send(None)
    except BrokenPipeError:  # no more are wanted
        pass
    except Exception as error:  # damaged files make it raise more than its own errors
        connection.send(str(error) or type(error).__name__)
