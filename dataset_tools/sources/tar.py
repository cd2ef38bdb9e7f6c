"""Read tars that strangers made, plain or compressed, without unpacking them."""

import bz2
import gzip
import lzma
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from dnnlib import UserError
from dnnlib.containers import Container, Entry, Skipped, Unusable
from dnnlib.reading import MAX_FILE, MAX_RATIO, size_problem

# bytes that a file of a tar counts as besides its own: headers shrink to nothing, and each is held
# in memory
_MEMBER = 16384
# of an extended header; finding the end of a number takes tarfile the square of its length
_DIGITS = re.compile(rb'[0-9]{100}')
_MAX_HEADER = 1 << 20  # bytes of a tar's extended header: a long name, a few attributes


class _Headers:
    """A tar's bytes; while headers are looked for, only so much is read of each, for `tarfile`
    holds long ones in memory.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.left: int | None = _MAX_HEADER

    def read(self, size: int) -> bytes:
        if size < 0:
            raise ValueError('what follows has a negative size')
        data = None
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise ValueError(
                    f'what follows has a header of more than {_MAX_HEADER / 1e6:.0f} MB'
                )
            data = self._file.read(size)
            if _DIGITS.search(data):
                raise ValueError('what follows has a header with an endless number')
        return self._file.read(size) if data is None else data


def _unpacked(path: Path) -> IO[bytes]:
    with path.open('rb') as file:
        start = file.read(6)
    openers: dict[bytes, Callable[[Path], Any]] = {
        b'\x1f\x8b': gzip.open,
        b'BZh': bz2.open,
        b'\xfd7zXZ\0': lzma.open,
        b']\0\0': lzma.open,
    }
    opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), None)
    return opener(path) if opener is not None else path.open('rb')


class TarContainer(Container):
    """A tar, plain or compressed, in its own order."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._file = _Headers(_unpacked(path))
            self._tar = tarfile.open(fileobj=self._file, mode='r:')  # type: ignore[call-overload]  # noqa: SIM115 (as long as the object)
        except OSError as error:
            raise UserError(f'{path}: cannot be read: {error.strerror or error}') from error
        except Exception as error:
            raise UserError(
                f'{path}: neither a folder nor a zip, tar, video or MNIST file ({error})'
            ) from error
        try:
            self._list()
        except Exception as error:
            self.problems.append(
                Skipped(
                    path.name,
                    'damaged',
                    f'the tar breaks off after {len(self.entries)} files ({error})',
                )
            )
        self._file.left = None

    def _list(self) -> None:
        allowed = max(MAX_FILE, MAX_RATIO * self.path.stat().st_size)
        for member in self._tar:
            self._file.left = _MAX_HEADER
            if member.size < 0:
                raise ValueError('what follows has a negative size')
            allowed -= member.size + _MEMBER
            if allowed < 0:  # a compressed tar has to be read through to find the next file
                raise ValueError('what follows would unpack to more than 200 times its size')
            if member.isreg():
                self.entries.append(Entry(member.name.removeprefix('./'), member))
            elif not member.isdir():
                self.problems.append(Skipped(member.name, 'link', 'is a link or a device, no file'))

    def _read(self, entry: Entry, count: int | None) -> bytes:
        problem = size_problem(entry.key.size)
        if problem is not None:
            raise Unusable('too large', problem)
        file: IO[bytes] | None = self._tar.extractfile(entry.key)
        assert file is not None  # only regular files are listed
        data = file.read() if count is None else file.read(count)
        if count is None and len(data) < entry.key.size:
            raise Unusable(
                'damaged', f'the tar ends after {len(data)} of its {entry.key.size} bytes'
            )
        return data
