"""Where pictures come from: each source tells what it has and gives its pictures one after the
other.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dnnlib import UserError

from ..image.decode import is_picture_name
from ..label_sources import (
    Label,
    check_mode,
    csv_columns,
    csv_labels,
    folder_labels,
    read_labels,
    stem,
)
from . import known_sets, streams
from .containers import (
    Container,
    Entry,
    FolderContainer,
    Skipped,
    Unusable,
    all_readable,
    open_container,
    read_json,
)

__all__ = ['PictureSource', 'Skipped', 'SourcePicture', 'open_sources']


@dataclass(frozen=True)
class SourcePicture:
    """A picture as it was found.

    Args:
        name: its path inside the source, with `/`.
        data: the bytes of the file.
        label: a class number, the name of a class, a vector, or None.
    """

    name: str
    data: bytes
    label: Label | None = None


class PictureSource:
    """Pictures, one after the other; see `open_sources`.

    Attributes:
        path: where they come from.
        title: the same, without the folders above.
        picture_names: what they are called; None where that isn't known before the last was read.
        total: how many there are, if that is known.
        other_names: files that are no pictures.
        problems: what can't be read, as far as that is known before reading.
        remarks: what is to be said of files that are read all the same.
        class_names: what the classes' numbers mean, if that is known.
        labelled: whether every picture has a label.
        keep_numbers: whether class names that are numbers are the classes' numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title: str | list[str] = path.resolve().name
        self.picture_names: list[str] | None = None
        self.total: int | None = None
        self.other_names: list[str] = []
        self.problems: list[Skipped] = []
        self.remarks: list[Skipped] = []
        self.class_names: list[str] | None = None
        self.labelled = False
        self.keep_numbers = True

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        raise NotImplementedError


class _Files(PictureSource):
    """Picture files of a container."""

    def __init__(
        self, container: Container, mode: str | None, entries: list[Entry], class_name: str | None
    ) -> None:
        super().__init__(container.path)
        self._container, self._entries, self._class_name = container, entries, class_name
        self.picture_names = [entry.name for entry in entries]
        self.total = len(entries)
        pictures = set(self.picture_names)
        others = [entry for entry in container.entries if entry.name not in pictures]
        self.problems, self.remarks = container.problems, list(container.remarks())
        self.other_names = [entry.name for entry in others if entry.name != 'dataset.json']
        self._label_of: Callable[[str], Label | None] = lambda name: None
        self._read_labels(mode, others)

    def _read_labels(self, mode: str | None, others: list[Entry]) -> None:
        where = f'--source {self.path}'
        self.labelled = mode not in (None, 'none')
        if mode == 'folder':
            found_folders = folder_labels(self.picture_names or [])
            if self._class_name is None and not any(found_folders.values()):
                raise UserError(f'--labels folder: all pictures of {self.path} lie in one folder')
            self._label_of, self.keep_numbers = (
                (lambda name: found_folders[name] or self._class_name),
                False,
            )
        elif mode is not None and mode.startswith('csv:'):
            tables = [entry for entry in others if entry.name.lower().endswith('.csv')]
            found = csv_labels(all_readable(self._container, tables), mode[4:].strip())
            self._label_of = lambda name: found.get(name, found.get(stem(name)))
            if not found:
                raise UserError(
                    f'--labels {mode}: no CSV of {self.path} has a column or a line '
                    f'{mode[4:]}{self._what_there_is(tables)}'
                )
            self.other_names = [
                name for name in self.other_names if not name.lower().endswith('.csv')
            ]
        elif mode != 'none':
            assert self.picture_names is not None
            data = read_json(self._container)
            if data is None and mode == 'json':
                raise UserError(f'--labels json: {self.path} has no dataset.json')
            labels = read_labels(data, self.picture_names, where)
            if labels is None and mode == 'json':
                raise UserError(f'--labels json: dataset.json of {self.path} has no labels')
            if labels is not None:
                self._label_of, self.labelled = labels.__getitem__, True
                self.class_names = _class_names(data, labels.values())

    def _what_there_is(self, tables: list[Entry]) -> str:
        for name, data in all_readable(self._container, tables[:1]):
            columns = csv_columns(
                data, any(stem(picture) == stem(name) for picture in self.picture_names or [])
            )
            return f': {name} has {", ".join(columns[:20]) or "nothing"}'
        return '; there is none that can be read'

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for entry in self._entries:
            label = self._label_of(entry.name)
            if self.labelled and label is None:
                yield Skipped(entry.name, 'without a label', '--labels finds none for it')
                continue
            try:
                yield SourcePicture(entry.name, self._container.read(entry), label)
            except Unusable as error:
                yield Skipped(entry.name, error.kind, error.reason)


class _Cifar(PictureSource):
    """The training pictures of CIFAR-10 or CIFAR-100, from its tar or an unpacked folder."""

    def __init__(self, container: Container, mode: str | None, batches: list[Entry]) -> None:
        super().__init__(container.path)
        _refuse_modes(self.path, mode)
        self._container, self._batches = container, batches
        self.other_names = [entry.name for entry in container.entries if entry not in batches]
        self.problems = container.problems
        self.labelled = mode != 'none'
        try:
            self.class_names = known_sets.cifar_class_names(container) if self.labelled else None
        except Unusable as error:
            self.problems = [*self.problems, Skipped('batches.meta', error.kind, error.reason)]

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for entry in self._batches:
            try:
                for index, (data, label) in enumerate(
                    known_sets.read_cifar(self._container.read(entry))
                ):
                    yield SourcePicture(
                        f'{entry.name}/{index:05d}', data, label if self.labelled else None
                    )
            except Unusable as error:
                yield Skipped(entry.name, error.kind, error.reason)


class _Mnist(PictureSource):
    """Pictures of MNIST's format, with their labels if these lie beside them."""

    def __init__(self, path: Path, container: Container, mode: str | None, entry: Entry) -> None:
        super().__init__(path)
        _refuse_modes(self.path, mode)
        wanted = known_sets.labels_name(entry.name)
        beside = next(
            (other for other in container.entries if other.name in (wanted, f'{wanted}.gz')), None
        )
        self.other_names = [
            other.name for other in container.entries if other not in (entry, beside)
        ]
        self.problems = container.problems
        try:
            self._pixels = known_sets.read_idx(container.read(entry), 3)
            self._labels = (
                known_sets.read_idx(container.read(beside), 1)
                if beside is not None and mode != 'none'
                else None
            )
        except Unusable as error:
            raise UserError(
                f'--source {self.path}: {entry.name} or its labels: {error.reason}'
            ) from error
        if self._labels is not None and len(self._labels) != len(self._pixels):
            raise UserError(
                f'--source {self.path}: {len(self._pixels)} pictures, but '
                f'{len(self._labels)} labels'
            )
        self.labelled = self._labels is not None
        self.total = len(self._pixels)
        self._name = entry.name

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for index, pixels in enumerate(self._pixels):
            label = int(self._labels[index]) if self._labels is not None else None
            yield SourcePicture(f'{self._name}/{index:05d}', known_sets.netpbm(pixels), label)


class _Stream(PictureSource):
    """A video or an LMDB."""

    def __init__(
        self,
        path: Path,
        mode: str | None,
        class_name: str | None,
        pictures: Iterator[tuple[str, bytes] | Skipped],
        total: int | None,
    ) -> None:
        super().__init__(path)
        if class_name is None and mode not in (None, 'none'):
            raise UserError(f'--labels {mode}: {path} has none')
        self._pictures, self._class_name, self.total = pictures, class_name, total
        self.labelled, self.keep_numbers = class_name is not None, False

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for item in self._pictures:
            yield (
                item
                if isinstance(item, Skipped)
                else SourcePicture(f'{self.path.name}/{item[0]}', item[1], self._class_name)
            )


class _Merged(PictureSource):
    """Several sources, one after the other; names begin with those of the sources."""

    def __init__(self, sources: Sequence[PictureSource]) -> None:
        super().__init__(sources[0].path)
        self._sources = sources
        used: Counter[str] = Counter()
        self._prefixes: list[str] = []
        for source in sources:
            name = source.path.resolve().name
            used[name] += 1
            self._prefixes.append(name if used[name] == 1 else f'{name}-{used[name]}')
        self.title = [source.path.resolve().name for source in sources]
        names = [source.picture_names for source in sources]
        if all(found is not None for found in names):
            self.picture_names = [
                f'{prefix}/{name}'
                for prefix, found in zip(self._prefixes, names)
                for name in found or []
            ]
        totals = [source.total for source in sources]
        self.total = None if None in totals else sum(total or 0 for total in totals)
        for prefix, source in zip(self._prefixes, sources):
            self.other_names += [f'{prefix}/{name}' for name in source.other_names]
            self.problems += [
                replace(item, name=f'{prefix}/{item.name}') for item in source.problems
            ]
            self.remarks += [replace(item, name=f'{prefix}/{item.name}') for item in source.remarks]
        self._merge_labels()

    def _merge_labels(self) -> None:
        bare = [source.path for source in self._sources if not source.labelled]
        if bare and len(bare) < len(self._sources):
            labelled = next(source.path for source in self._sources if source.labelled)
            raise UserError(
                f'--source {bare[0]} has no labels, {labelled} has; label both, or '
                f'give --labels none'
            )
        self.labelled = not bare
        self.keep_numbers = self._sources[0].keep_numbers
        lists = [source.class_names for source in self._sources]
        if any(lists):
            if not all(lists):
                raise UserError(
                    f'--source {self._sources[lists.index(None)].path} has classes '
                    f'without names, another source has named '
                    'ones; give --labels none, or the same class_names in both'
                )
            self.class_names = list(dict.fromkeys(name for names in lists for name in names or []))

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for prefix, source in zip(self._prefixes, self._sources):
            numbers = (
                {
                    old: self.class_names.index(name)
                    for old, name in enumerate(source.class_names or [])
                }
                if self.class_names
                else {}
            )
            for item in source:
                name = f'{prefix}/{item.name}'
                if isinstance(item, Skipped):
                    yield replace(item, name=name)
                else:
                    label = (
                        numbers.get(item.label, item.label)
                        if isinstance(item.label, int)
                        else item.label
                    )
                    yield replace(item, name=name, label=label)


def open_sources(
    paths: Sequence[str | os.PathLike[str]], labels: str | None = None, every: int | None = None
) -> PictureSource:
    """Find out what each path holds, and join them.

    Folders (recursive), zips, tars (packed or not, in their own order, the others sorted), CIFAR's
    and MNIST's archives, unpacked or not, LMDBs, videos.

    Args:
        paths: one or more.
        labels: 'none', 'folder', 'json', 'csv:COLUMN', or None for those that a source brings
            along.
        every: of a video, every so many frames.

    Raises:
        UserError: there is nothing at a path, it can't be read, it holds no pictures, its labels
            are unusable, or an option would do nothing.
    """
    check_mode(labels)
    if any(not os.fspath(path) for path in paths):  # Path('') would be the current folder
        raise UserError('--source is empty; give a folder, an archive or a video')
    if every is not None and not any(
        Path(path).suffix.lower() in streams.VIDEO_SUFFIXES for path in paths
    ):
        raise UserError(f'--every {every} does nothing: no --source is a video')
    sources = [_open(Path(path), labels, every or 1, alone=len(paths) == 1) for path in paths]
    return sources[0] if len(sources) == 1 else _Merged(sources)


def _open(path: Path, mode: str | None, every: int, alone: bool) -> PictureSource:
    try:
        # one folder a class is as common as a folder of them
        class_name = path.resolve().name if mode == 'folder' and not alone else None
        if path.suffix.lower() in streams.VIDEO_SUFFIXES and path.is_file():
            return _Stream(path, mode, class_name, streams.read_video(path, every), None)
        if streams.is_lmdb(path):
            total, pictures = streams.open_lmdb(path)
            return _Stream(path, mode, class_name, pictures, total)
        idx_file = _one_idx_file(path)
        container = idx_file or _one_picture(path) or open_container(path)
    # the latter of links that lead to themselves, before Python 3.13
    except (OSError, RuntimeError) as error:
        raise UserError(
            f'--source {path}: cannot be read: {getattr(error, "strerror", None) or error}'
        ) from error
    batches = known_sets.find_cifar(container)
    if batches:
        return _Cifar(container, mode, batches)
    names = [entry.name for entry in container.entries]
    idx = [path.name] if idx_file is not None else known_sets.find_idx_images(names)
    if idx:
        return _Mnist(path, container, mode, container.entries[names.index(idx[0])])
    entries = [entry for entry in container.entries if is_picture_name(entry.name)]
    if not entries:
        found = (
            f'none of its {len(container.entries)} files is one'
            if container.entries
            else 'it is empty'
        )
        problem = (
            f'; {container.problems[0].name}: {container.problems[0].reason}'
            if container.problems
            else ''
        )
        raise UserError(f'--source {path}: there are no pictures in it ({found}){problem}')
    return _Files(container, mode, entries, class_name)


def _one_idx_file(path: Path) -> Container | None:
    """The folder of a file of MNIST's pictures, with only this file and that of its labels."""
    if not path.is_file():
        return None
    with path.open('rb') as file:
        if not known_sets.is_idx_images(file.read(4096)):
            return None
    wanted = known_sets.labels_name(path.name)
    beside = [
        name
        for name in (wanted, f'{wanted}.gz')
        if name != path.name and (path.parent / name).is_file()
    ]
    return FolderContainer(path.parent, [path.name, *beside])


def _one_picture(path: Path) -> Container | None:
    """The folder of a picture file, with only this file."""
    if is_picture_name(path.name) and path.is_file():
        return FolderContainer(path.parent, [path.name])
    return None


def _class_names(data: dict[str, Any] | None, labels: Iterable[Label]) -> list[str] | None:
    """The names of the classes by a `dataset.json`, if each class has one."""
    names, highest = (
        (data or {}).get('class_names'),
        max((label for label in labels if isinstance(label, int)), default=-1),
    )
    return (
        names
        if isinstance(names, list)
        and len(names) > highest
        and all(isinstance(name, str) for name in names)
        else None
    )


def _refuse_modes(path: Path, mode: str | None) -> None:
    if mode == 'folder' or (mode or '').startswith('csv:'):
        raise UserError(f'--labels {mode}: {path} has no such labels; leave it out, or give none')
