"""List and read the files of folders and zips, without unpacking anything.

This is the only place that does: `image_archive` reads our own sets with it, and `dataset_tools`
those of strangers, with a further container for tars.
"""

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from .reading import (
    MAX_FILE,
    MAX_RATIO,
    open_file,
    read_json,
    read_member,
    regular_file,
    size_problem,
)
from .util import UserError, printable, starts_as_zip

MAX_LABELS = 1 << 27  # bytes of a dataset.json; a million pictures need half of that


@dataclass(frozen=True)
class Skipped:
    """A file that was skipped, or has a remark.

    Args:
        name: its path inside the source.
        kind: a word or two that a summary counts by, such as 'damaged'.
        reason: what exactly is wrong.
    """

    name: str
    kind: str
    reason: str


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


class Entry(NamedTuple):
    """A file of a container.

    Args:
        name: its path inside, with `/`.
        key: how the container finds it.
    """

    name: str
    key: Any


class Container:
    """Files that lie together: a folder, a zip, or a tar of `dataset_tools.sources`.

    Attributes:
        path: where it is.
        entries: what can be read, in the order of reading.
        problems: what can't be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.problems: list[Skipped] = []

    def read(self, entry: Entry, count: int | None = None) -> bytes:
        """Return the bytes of a file. Read in the order of `entries`: a compressed tar begins anew
        for each that comes before the last.

        Args:
            count: no more than the first `count` bytes; None for all.

        Raises:
            Unusable: it can't be read.
        """
        try:
            return self._read(entry, count)
        except (Unusable, MemoryError):
            raise
        except OSError as error:
            raise Unusable('unreadable', f'cannot be read: {error.strerror or error}') from error
        except Exception as error:  # damaged archives make Python's readers raise nearly anything
            raise Unusable(
                'unreadable', f'cannot be read: {printable(error) or type(error).__name__}'
            ) from error

    def read_json(self, name: str = 'dataset.json') -> dict[str, Any] | None:
        """Read a JSON object at the container's top level, or None where there is no such file.

        Raises:
            UserError: it can't be read, or is no JSON object.
        """
        entry = next((entry for entry in self.entries if entry.name == name), None)
        if entry is None:
            return None
        try:
            data = self.read(entry)
        except Unusable as error:
            raise UserError(f'{self.path}: {name}: {error.reason}') from error
        found: dict[str, Any] = read_json(data, f'{self.path}: {name}', max_bytes=MAX_LABELS)
        return found

    def remarks(self) -> Iterator[Skipped]:
        """Describe odd names; such files are read all the same, for nothing is ever
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

    def close(self) -> None:
        """Close what is open; reading opens it again."""

    def _read(self, entry: Entry, count: int | None) -> bytes:
        raise NotImplementedError


class FolderContainer(Container):
    """A folder with all below it, sorted.

    Links to files are followed, wherever they lead. Devices, pipes and files of more than half a
    gigabyte are never read.

    Args:
        path: the folder.
        names: only these files of it, without looking.
        foreign: follow links to folders, too, each folder being read once; and list folders that
            can't be read, and links that lead nowhere, as `problems`.

    Raises:
        UserError: it, or a folder below it, can't be listed.
    """

    def __init__(
        self, path: Path, names: Sequence[str] | None = None, *, foreign: bool = False
    ) -> None:
        super().__init__(path)
        self._foreign = foreign
        if names is not None:
            self.entries = [Entry(name, name) for name in names]
            return
        self._list()
        self.entries.sort(key=attrgetter('name'))

    def _list(self) -> None:
        """Real folders come before linked ones, for a file's own path is the one to name it by."""
        seen: set[tuple[int, int]] = set()
        pending, links = [''], list[str]()
        while pending or links:
            folder = pending.pop() if pending else links.pop(0)
            for item in self._scan(folder, seen):
                name = f'{folder}/{item.name}' if folder else item.name
                if item.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif _is_folder(item):
                    if self._foreign:
                        links.append(name)
                # whatever its name is: a folder of pictures may be meant
                elif self._foreign and _leads_nowhere(item):
                    self.problems.append(Skipped(name, 'link', 'leads to nothing that can be read'))
                else:
                    self.entries.append(Entry(name, name))

    def _scan(self, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
        try:
            if self._foreign:
                status = (self.path / folder).stat()
                if (status.st_dev, status.st_ino) in seen:
                    reason = 'leads to a folder that is read already'
                    self.problems.append(Skipped(folder, 'link', reason))
                    return []
                seen.add((status.st_dev, status.st_ino))
            with os.scandir(self.path / folder) as found:
                return sorted(found, key=attrgetter('name'))
        except OSError as error:
            reason = error.strerror or str(error)
            if not folder:
                raise UserError(f'{self.path}: cannot be read: {reason}') from error
            if not self._foreign:
                raise UserError(f'{self.path}: cannot list {folder}: {reason}') from error
            self.problems.append(
                Skipped(folder, 'unreadable', f'the folder cannot be listed: {reason}')
            )
            return []

    def _read(self, entry: Entry, count: int | None) -> bytes:
        with open_file(os.path.join(self.path, entry.key), buffered=count is None) as file:  # noqa: PTH118 (Path takes a third of the time)
            if count is not None:
                return file.read(count)
            size = os.fstat(file.fileno()).st_size
            _check_size(size)
            return file.read(size)


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


class ZipContainer(Container):
    """A zip, sorted. It may be sent to worker processes: each opens the zip for itself.

    Args:
        path: the zip.
        foreign: mend names whose encoding isn't declared or that have backslashes, tell files of
            one name apart, and refuse to read more in all than the zip can honestly hold.

    Raises:
        UserError: it can't be read, or is no zip.
    """

    def __init__(self, path: Path, *, foreign: bool = False) -> None:
        super().__init__(path)
        self._zip: zipfile.ZipFile | None = None
        self._pid = -1
        self._left: int | None = None  # bytes of all that may still be read
        try:
            # is_dir fails where the name is empty
            members = [info for info in self._open().infolist() if not info.filename.endswith('/')]
            if foreign:  # entries may share their bytes
                self._left = max(MAX_FILE, MAX_RATIO * path.stat().st_size)
        except UserError:
            raise
        except OSError as error:
            raise UserError(f'{path}: cannot be read: {error.strerror or error}') from error
        except Exception as error:  # damaged zips make zipfile raise nearly anything
            if starts_as_zip(path):
                raise UserError(
                    f'{path}: is a zip, but a damaged one, most likely cut short '
                    f'({printable(error)}); get it anew, or mend it with zip -FF'
                ) from error
            raise UserError(
                f'{path}: neither a folder nor a zip file ({printable(error)})'
            ) from error
        if foreign:
            self.entries = [Entry(_mended_name(info).replace('\\', '/'), info) for info in members]
        else:  # names find them, for worker processes are sent no more than that
            self.entries = [Entry(info.filename, info.filename) for info in members]
        self.entries.sort(key=attrgetter('name'))

    def close(self) -> None:
        if self._zip is not None and self._pid == os.getpid():
            self._zip.close()
        self._zip = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_zip': None, '_pid': -1}

    def _open(self) -> zipfile.ZipFile:
        # a forked child must not share its parent's file position
        if self._zip is None or self._pid != os.getpid():
            self._zip, self._pid = zipfile.ZipFile(regular_file(self.path)), os.getpid()
        return self._zip

    def _read(self, entry: Entry, count: int | None) -> bytes:
        archive = self._open()
        known = isinstance(entry.key, zipfile.ZipInfo)
        info: zipfile.ZipInfo = entry.key if known else archive.getinfo(entry.key)
        if info.flag_bits & 1:
            raise Unusable(
                'encrypted',
                'is locked with a password; unpack the zip with it, and give the folder',
            )
        _check_size(info.file_size, info.compress_size)
        if self._left is not None:
            self._left -= info.file_size
            if self._left < 0:
                raise Unusable(
                    'too large',
                    f'the files before it unpack to more than {MAX_RATIO} '
                    f'times the size of the zip: a zip bomb',
                )
        return read_member(archive, info, count)


def _mended_name(info: zipfile.ZipInfo) -> str:
    """Many programs write UTF-8 and don't say so, which `zipfile` takes for the code page 437 of
    DOS, as it takes anything else.
    """
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode('cp437').decode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:  # of an extra field with the name in Unicode
        return info.filename


def _check_size(size: int, packed: int | None = None) -> None:
    problem = size_problem(size, packed)
    if problem is not None:
        raise Unusable('too large', problem)


def open_container(path: Path, *, foreign: bool = False) -> Container:
    """Open a folder or a zip.

    Args:
        foreign: see `FolderContainer` and `ZipContainer`.

    Raises:
        UserError: there is nothing, it can't be read, or it is neither.
    """
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            raise UserError(f'{path}: no such file or folder')
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror or error}') from error
    return (FolderContainer if is_folder else ZipContainer)(path, foreign=foreign)
