"""Small things that everything else uses."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

MAX_TEXT = 200  # characters of a file's text in a message


class UserError(Exception):
    """A mistake that the user can mend: the message names what was wrong, with which value, and what to do.

    Scripts print it as one line and exit with 2.
    """


class EasyDict(dict):
    """A dict whose keys are also attributes. Snapshots in NVIDIA's format contain it under this name."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


class Logger:
    """Copies stdout and stderr to a file while the `with` block runs; every line is flushed.

    Args:
        path: the log file, appended to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> 'Logger':
        self._file = self._path.open('a', encoding='utf-8')
        self._streams = sys.stdout, sys.stderr
        sys.stdout = _Tee(sys.stdout, self._file)
        sys.stderr = _Tee(sys.stderr, self._file)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout, sys.stderr = self._streams
        if error is not None:
            self._file.write(f'{type(error).__name__}: {error}\n')
        self._file.close()


class _Tee:
    def __init__(self, stream: IO[str], file: IO[str]) -> None:
        self._stream = stream
        self._file = file

    def write(self, text: str) -> int:
        self._stream.write(text)
        if '\r' not in text:  # a progress bar redraws itself: no use in a log
            self._file.write(text)
        if '\n' in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
        self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def printable(text: Any, limit: int = MAX_TEXT) -> str:
    """Text from a file, or an error about one, as it may be shown: one line, nothing invisible, no more than `limit` characters."""
    words = ' '.join(str(text)[:4 * limit].split())
    escaped = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in words[:limit + 1])
    return escaped if len(escaped) <= limit else escaped[:limit - 1] + '…'


def format_time(seconds: float) -> str:
    """`75.2` becomes `1m 15s`; days, hours and minutes appear when they are needed."""
    s = int(round(seconds))
    if s < 60:
        return f'{s}s'
    if s < 60 * 60:
        return f'{s // 60}m {s % 60:02}s'
    if s < 24 * 60 * 60:
        return f'{s // 3600}h {s // 60 % 60:02}m {s % 60:02}s'
    return f'{s // 86400}d {s // 3600 % 24:02}h {s // 60 % 60:02}m'


def make_cache_dir_path(*parts: str) -> Path:
    """Where downloads and statistics are kept: `DNNLIB_CACHE_DIR`, else the user's cache directory."""
    if 'DNNLIB_CACHE_DIR' in os.environ:
        return Path(os.environ['DNNLIB_CACHE_DIR'], *parts)
    base = os.environ.get('XDG_CACHE_HOME') or (os.environ.get('LOCALAPPDATA') if os.name == 'nt' else None)
    return Path(base or Path.home() / '.cache', 'dnnlib', *parts)


@contextlib.contextmanager
def atomic_path(dest: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to a temporary file beside `dest`, which takes the final name only when the block ends well.

    The temporary file has the suffix of `dest`, so writers that choose a format by suffix work. It is fsynced
    before the rename; after an error it is removed and whatever stood at `dest` is untouched.

    Raises:
        UserError: the folder of `dest` can't be written, or `dest` is a folder.
    """
    dest = Path(dest)
    try:
        if dest.is_dir():
            raise UserError(f'cannot write {dest}: it is a folder; give the name of a file')
        dest.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=dest.parent, prefix=f'.{dest.stem}.', suffix=f'.tmp{dest.suffix}')
    except OSError as error:
        raise UserError(f'cannot write {dest}: {error.strerror or error}') from error
    os.close(handle)
    temp = Path(name)
    try:
        yield temp
        with temp.open('rb+') as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temp.chmod(0o666 & ~umask)  # mkstemp's 0600 is not what a shared file should have
        temp.replace(dest)
    except OSError as error:
        raise UserError(f'cannot write {dest}: {error.strerror or error}') from error
    finally:
        temp.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(dest: str | os.PathLike[str]) -> Iterator[Path]:
    """`atomic_path` for a folder, which must not be there yet, or be empty. Files in it are not fsynced.

    Raises:
        UserError: something is there, or it can't be written.
    """
    dest = Path(dest)
    try:
        if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
            raise UserError(f'cannot write {dest}: it is there already; choose a new name, or remove it')
        dest.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(dir=dest.parent, prefix=f'.{dest.name}.', suffix='.tmp'))
    except OSError as error:
        raise UserError(f'cannot write {dest}: {error.strerror or error}') from error
    try:
        yield temp
        umask = os.umask(0)
        os.umask(umask)
        temp.chmod(0o777 & ~umask)
        if dest.exists():
            dest.rmdir()  # Windows renames onto nothing, not even an empty folder
        temp.rename(dest)
    except OSError as error:
        raise UserError(f'cannot write {dest}: {error.strerror or error}') from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
