"""Folders, zips and tars that strangers made: what is in them and the bytes of each file, without
anything being unpacked.
"""

import bz2
import gzip
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dnnlib import UserError, reading
from dnnlib.image_archive import MAX_LABELS

MAX_FILE = reading.MAX_FILE
_MAX_RATIO = reading.MAX_RATIO
# bytes that a file of a tar counts as besides its own: headers shrink to nothing, and each is held
# in memory
_MEMBER = 16384
# of an extended header; finding the end of a number takes tarfile the square of its length
_DIGITS = re.compile(rb'[0-9]{100}')
_MAX_HEADER = 1 << 20  # bytes of a tar's extended header: a long name, a few attributes


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, or that something is to be said of.

    Args:
        name: its path inside the source.
        kind: a word or two that a summary counts by, such as 'damaged'.
        reason: what exactly is wrong.
        thumbnail: as much of the picture as can be shown, a JPEG, where that was asked for.
    """

    name: str
    kind: str
    reason: str
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class Entry:
    """A file of a container.

    Args:
        name: its path inside, with `/`.
        key: how the container finds it.
    """

    name: str
    key: Any


class Unusable(Exception):
    """A file can't be read.

    Args:
        kind: see `Skipped`.
        reason: likewise.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason


class Container:
    """The files of a folder, zip or tar.

    Attributes:
        path: where it is.
        entries: what can be read, in the order of reading.
        problems: what can't be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.problems: list[Skipped] = []

    def read(self, entry: Entry) -> bytes:
        """The bytes of a file. Read in the order of `entries`: a compressed tar begins anew for
        each that comes before the last.

        Raises:
            Unusable: it can't be read.
        """
        try:
            return self._read(entry)
        except Unusable:
            raise
        except OSError as error:
            raise Unusable('unreadable', f'cannot be read: {error.strerror or error}') from error
        except Exception as error:  # damaged archives make Python's readers raise nearly anything
            raise Unusable(
                'unreadable', f'cannot be read: {str(error) or type(error).__name__}'
            ) from error

    def remarks(self) -> Iterator[Skipped]:
        """What the names give cause to say; such files are read all the same, for nothing is ever
        written under these names.
        """
        seen: dict[str, str] = {}
        for name in (entry.name for entry in self.entries):
            other = seen.setdefault(name.casefold(), name)
            if other != name:
                yield Skipped(name, 'odd name', f'differs from {other} only by case')
            if name.startswith('/') or '..' in name.split('/') or name[1:3] == ':/':
                yield Skipped(name, 'odd name', 'points outside the archive')
            if any('\ud800' <= letter <= '\udfff' for letter in name):
                yield Skipped(name, 'odd name', 'is not UTF-8')

    def _read(self, entry: Entry) -> bytes:
        raise NotImplementedError


class FolderContainer(Container):
    """A folder with all below it, sorted. Links to folders are followed; each folder is read once.

    Args:
        path: the folder.
        names: only these files of it, without looking.
    """

    def __init__(self, path: Path, names: Sequence[str] | None = None) -> None:
        super().__init__(path)
        if names is not None:
            self.entries = [Entry(name, name) for name in names]
            return
        self._seen: set[tuple[int, int]] = set()
        links: list[str] = []
        self._list('', links)
        while links:
            self._list(links.pop(0), links)
        self.entries.sort(key=lambda entry: entry.name)

    def _list(self, folder: str, links: list[str]) -> None:
        """Files to `entries`, real folders at once, linked ones to `links`, for a file's own path
        is the one to name it by.
        """
        pending = [folder]
        while pending:
            folder = pending.pop()
            try:
                status = (self.path / folder).stat()
                if (status.st_dev, status.st_ino) in self._seen:
                    self.problems.append(
                        Skipped(folder, 'link', 'leads to a folder that is read already')
                    )
                    continue
                self._seen.add((status.st_dev, status.st_ino))
                with os.scandir(self.path / folder) as found:
                    items = sorted(found, key=lambda item: item.name)
            except OSError as error:
                if not folder:
                    raise UserError(
                        f'{self.path}: cannot be read: {error.strerror or error}'
                    ) from error
                self.problems.append(
                    Skipped(
                        folder,
                        'unreadable',
                        f'the folder cannot be listed: {error.strerror or error}',
                    )
                )
                continue
            for item in items:
                name = f'{folder}/{item.name}' if folder else item.name
                if item.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif _is_folder(item):
                    links.append(name)
                # whatever its name is: a folder of pictures may be meant
                elif _leads_nowhere(item):
                    self.problems.append(Skipped(name, 'link', 'leads to nothing that can be read'))
                else:
                    self.entries.append(Entry(name, name))

    def _read(self, entry: Entry) -> bytes:
        path = self.path / entry.key
        with reading.open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(size)
            return file.read(size)


class ZipContainer(Container):
    """A zip, sorted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._zip = zipfile.ZipFile(path)
            # of all that is read: entries may share their bytes
            self._allowed = max(MAX_FILE, _MAX_RATIO * path.stat().st_size)
            # is_dir fails where the name is empty
            members = [info for info in self._zip.infolist() if not info.filename.endswith('/')]
        except OSError as error:
            raise UserError(f'{path}: cannot be read: {error.strerror or error}') from error
        except Exception as error:
            if _starts_as_zip(path):
                raise UserError(
                    f'{path}: is a zip, but a damaged one, most likely cut short '
                    f'({error}); get it anew, or mend it with '
                    'zip -FF'
                ) from error
            raise UserError(
                f'{path}: neither a folder nor a zip, tar, video or MNIST file ({error})'
            ) from error
        self.entries = sorted(
            (Entry(_zip_name(info).replace('\\', '/'), info) for info in members),
            key=lambda entry: entry.name,
        )

    def _read(self, entry: Entry) -> bytes:
        info: zipfile.ZipInfo = entry.key
        if info.flag_bits & 1:
            raise Unusable(
                'encrypted',
                'is locked with a password; unpack the zip with it, and give the folder',
            )
        _check_size(info.file_size, info.compress_size)
        self._allowed -= info.file_size
        if self._allowed < 0:
            raise Unusable(
                'too large',
                f'the files before it unpack to more than {_MAX_RATIO} '
                f'times the size of the zip: a zip bomb',
            )
        return reading.read_member(self._zip, info)


def _starts_as_zip(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(4) == b'PK\3\4'


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Many programs write UTF-8 and don't say so, which `zipfile` takes for the code page 437 of
    DOS, as it takes anything else.
    """
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode('cp437').decode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:  # of an extra field with the name in Unicode
        return info.filename


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
        allowed = max(MAX_FILE, _MAX_RATIO * self.path.stat().st_size)
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

    def _read(self, entry: Entry) -> bytes:
        _check_size(entry.key.size)
        file: IO[bytes] | None = self._tar.extractfile(entry.key)
        assert file is not None  # only regular files are listed
        data = file.read()
        if len(data) < entry.key.size:
            raise Unusable(
                'damaged', f'the tar ends after {len(data)} of its {entry.key.size} bytes'
            )
        return data


def open_container(path: Path) -> Container:
    """Open whatever is there.

    Raises:
        UserError: there is nothing, it can't be read, or it is none of the three.
    """
    try:
        if path.is_dir():
            return FolderContainer(path)
        if not path.exists():
            raise UserError(f'{path}: no such file or folder')
        if not path.is_file():
            raise UserError(f'{path}: neither a folder nor a regular file')
        with path.open('rb') as file:
            start = file.read(4)
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror or error}') from error
    if start[:2] == b'PK' or path.suffix.lower() == '.zip':
        return ZipContainer(path)
    return TarContainer(path)


def all_readable(container: Container, entries: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of those that can be read."""
    for entry in entries:
        try:
            yield entry.name, container.read(entry)
        except Unusable:
            continue


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # of a link that leads to itself: reading it will say so
        return False


def _leads_nowhere(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_symlink() and not item.name.startswith('.') and not Path(item.path).exists()
    except OSError:
        return True


def _check_size(size: int, packed: int | None = None) -> None:
    problem = reading.size_problem(size, packed, MAX_FILE)
    if problem is not None:
        raise Unusable('too large', problem)


def read_json(container: Container, name: str = 'dataset.json') -> dict[str, Any] | None:
    """A JSON object at the container's top level, or None where there is no such file.

    Raises:
        UserError: it can't be read, or is no JSON object.
    """
    entry = next((entry for entry in container.entries if entry.name == name), None)
    if entry is None:
        return None
    try:
        data: dict[str, Any] = reading.read_json(
            container.read(entry), f'{container.path}: {name}', max_bytes=MAX_LABELS
        )
    except Unusable as error:
        raise UserError(f'{container.path}: {name}: {error.reason}') from error
    return data
