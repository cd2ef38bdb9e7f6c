"""Errors, text, paths and atomic output, for all other modules."""

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

MAX_TEXT = 200  # characters of foreign text in a message


class UserError(Exception):
    """A mistake that the user can mend: the message names what was wrong, with which value, and
    what to do.

    Scripts print it as one line and exit with 2.
    """


def escaped(text: str) -> str:
    """Return text as one line, in characters that any file and terminal take."""
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def printable(text: Any, limit: int = MAX_TEXT) -> str:
    """Return foreign text, or an error about it, short and in a form that a terminal may show.

    Args:
        text: from a file, a server or an exception.
        limit: the most characters that are returned.

    Returns:
        One line, in which control characters and other invisible ones are escaped.
    """
    words = ' '.join(str(text)[: 4 * limit].split())
    line = escaped(words[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + '…'


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of Python, numpy or PyTorch means that memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    if type(error).__name__ == 'OutOfMemoryError':  # PyTorch's, which is not imported here
        return True
    text = str(error)
    words = ('out of memory', 'not enough memory', 'DefaultCPUAllocator', 'ALLOC_FAILED')
    return any(word in text for word in words)


def starts_as_zip(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a zip does, which `zipfile` looks for at its end."""
    with Path(path).open('rb') as file:
        return file.read(4) == b'PK\3\4'


def special_kind(mode: int) -> str:
    """Name what is neither a file nor a folder, by its `st_mode`: `a pipe`."""
    kinds = {
        stat.S_IFIFO: 'a pipe',
        stat.S_IFCHR: 'a device',
        stat.S_IFBLK: 'a device',
        stat.S_IFSOCK: 'a socket',
    }
    return kinds.get(stat.S_IFMT(mode), 'a special file')


class EasyDict(dict):
    """A dict whose keys are also attributes. Snapshots in NVIDIA's format contain it under this
    name.
    """

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        self._file.flush()  # first: the terminal may be gone
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def format_time(seconds: float) -> str:
    """Format seconds: `75.2` becomes `1m 15s`; hours and days appear when they are needed."""
    s = int(round(seconds))
    if s < 60:
        return f'{s}s'
    if s < 60 * 60:
        return f'{s // 60}m {s % 60:02}s'
    if s < 24 * 60 * 60:
        return f'{s // 3600}h {s // 60 % 60:02}m {s % 60:02}s'
    return f'{s // 86400}d {s // 3600 % 24:02}h {s // 60 % 60:02}m'


def make_cache_dir_path(*parts: str) -> Path:
    """Return where downloads and statistics are kept: `DNNLIB_CACHE_DIR` or the user's cache."""
    if 'DNNLIB_CACHE_DIR' in os.environ:
        return Path(os.environ['DNNLIB_CACHE_DIR'], *parts)
    base = os.environ.get('XDG_CACHE_HOME') or (
        os.environ.get('LOCALAPPDATA') if os.name == 'nt' else None
    )
    return Path(base or Path.home() / '.cache', 'dnnlib', *parts)


@contextlib.contextmanager
def atomic_path(dest: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to a temporary file beside `dest`, which takes the final name only when the block ends
    well.

    The temporary file has the suffix of `dest`, so writers that choose a format by suffix work. It
    is fsynced before the rename; after an error it is removed and whatever stood at `dest` is
    untouched.

    Raises:
        UserError: the folder of `dest` can't be written, or `dest` is a folder.
    """
    dest = Path(dest)
    try:
        mode = _mode_of_output(dest)
        dest.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=dest.parent, prefix=f'.{dest.stem}.', suffix=f'.tmp{dest.suffix}'
        )
    except OSError as error:
        raise UserError(f'cannot write {dest}: {_reason(error)}') from error
    os.close(handle)
    temp = Path(name)
    try:
        yield temp
        with temp.open('rb+') as file:
            os.fsync(file.fileno())
        temp.chmod(mode)  # mkstemp's 0600 is not what a shared file should have
        temp.replace(dest)
    except OSError as error:
        raise UserError(f'cannot write {dest}: {_reason(error)}') from error
    finally:
        temp.unlink(missing_ok=True)


def _mode_of_output(dest: Path) -> int:
    """Permissions for a file at `dest`: those of the file that it replaces, else the usual ones.

    Raises:
        UserError: what is there must not be replaced by a file.
    """
    try:
        mode = dest.stat().st_mode
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
    if stat.S_ISDIR(mode):
        raise UserError(f'cannot write {dest}: it is a folder; give the name of a file')
    if not stat.S_ISREG(mode):
        raise UserError(f'cannot write {dest}: it is {special_kind(mode)}; give the name of a file')
    return mode & 0o777


def make_output_folder(path: str | os.PathLike[str], option: str = '--outdir') -> None:
    """Make a folder and check, before long work, that files can be written into it.

    Raises:
        UserError: they can't, or there is a file at the path.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b'0')
    except OSError as error:
        raise UserError(f'{option}={path}: cannot be written: {_reason(error)}') from error


def require_other_file(
    option: str, dest: str | os.PathLike[str], *inputs: str | os.PathLike[str]
) -> None:
    """Refuse to write over an input, under whatever name or link.

    Args:
        option: what `dest` was given with: `--output`.
        inputs: paths; those where nothing is, such as names of networks, are skipped.

    Raises:
        UserError: `dest` is one of them.
    """
    for path in inputs:
        try:
            same = Path(dest).samefile(path)
        except (OSError, ValueError):
            continue
        if same:
            raise UserError(
                f'{option}={dest}: that is the input {path}, which would be lost; give another name'
            )


def require_outputs_beside_inputs(
    outputs: Iterable[Path], inputs: Iterable[Path], option: str = '--outdir'
) -> None:
    """Refuse a folder in which an output would replace an input.

    Raises:
        UserError: naming the input.
    """
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in taken:
            raise UserError(
                f'{option}={path.parent}: {path.name} there is an input, which would be lost; '
                'choose another folder'
            )


def _reason(error: OSError) -> str:
    """Why a file or folder can't be written; for a file where a folder should be, which file."""
    if isinstance(error, (FileExistsError, NotADirectoryError)) and error.filename:
        return f'{_first_file(Path(error.filename))} is a file, not a folder'
    return error.strerror or str(error)


def _first_file(path: Path) -> Path:
    """The part of a path, from its root, that is no folder."""
    parts = [*reversed(path.parents), path]
    return next((part for part in parts if part.exists() and not part.is_dir()), path)


@contextlib.contextmanager
def atomic_folder(dest: str | os.PathLike[str]) -> Iterator[Path]:
    """`atomic_path` for a folder, which must not be there yet, or be empty. Files in it are not
    fsynced.

    Raises:
        UserError: something is there, or it can't be written.
    """
    dest = Path(dest)
    try:
        if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
            raise UserError(
                f'cannot write {dest}: it is there already; choose a new name, or remove it'
            )
        dest.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(dir=dest.parent, prefix=f'.{dest.name}.', suffix='.tmp'))
    except OSError as error:
        raise UserError(f'cannot write {dest}: {_reason(error)}') from error
    try:
        yield temp
        umask = os.umask(0)
        os.umask(umask)
        temp.chmod(0o777 & ~umask)
        if dest.exists():
            dest.rmdir()  # Windows renames onto nothing, not even an empty folder
        temp.rename(dest)
    except OSError as error:
        raise UserError(f'cannot write {dest}: {_reason(error)}') from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
