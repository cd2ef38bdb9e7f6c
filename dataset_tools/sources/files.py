"""Picture files of a folder, zip or tar, with labels by folder, by `dataset.json` or by CSV."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dnnlib import UserError
from dnnlib.containers import Container, Entry, Skipped, Unusable
from dnnlib.image_archive import check_labels

from ..label_sources import Label, csv_columns, csv_labels, folder_labels, stem
from .base import PictureSource, SourcePicture


class FileSource(PictureSource):
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
        self._labels: Mapping[str, Label | None] = {}
        self._read_labels(mode, others)

    def _read_labels(self, mode: str | None, others: list[Entry]) -> None:
        self.labelled = mode not in (None, 'none')
        if mode == 'folder':
            found_folders = folder_labels(self.picture_names or [])
            if self._class_name is None and not any(found_folders.values()):
                raise UserError(f'--labels folder: all pictures of {self.path} lie in one folder')
            self._labels = {
                name: folder or self._class_name for name, folder in found_folders.items()
            }
            self.keep_numbers = False
        elif mode is not None and mode.startswith('csv:'):
            tables = [entry for entry in others if entry.name.lower().endswith('.csv')]
            found = csv_labels(_all_readable(self._container, tables), mode[4:].strip())
            self._labels = {
                name: found.get(name, found.get(stem(name))) for name in self.picture_names or []
            }
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
            data = self._container.read_json()
            if data is None and mode == 'json':
                raise UserError(f'--labels json: {self.path} has no dataset.json')
            labels = check_labels(
                data, self.picture_names, f'--source {self.path}', ', or give --labels none'
            )
            if labels is None and mode == 'json':
                raise UserError(f'--labels json: dataset.json of {self.path} has no labels')
            if labels is not None:
                self._labels, self.labelled = labels, True
                self.class_names = _class_names(data, labels.values())

    def _what_there_is(self, tables: list[Entry]) -> str:
        for name, data in _all_readable(self._container, tables[:1]):
            own = any(stem(picture) == stem(name) for picture in self.picture_names or [])
            columns = csv_columns(data, of_one_picture=own)
            return f': {name} has {", ".join(columns[:20]) or "nothing"}'
        return '; there is none that can be read'

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for entry in self._entries:
            label = self._labels.get(entry.name)
            if self.labelled and label is None:
                yield Skipped(entry.name, 'without a label', '--labels finds none for it')
                continue
            try:
                yield SourcePicture(entry.name, self._container.read(entry), label)
            except Unusable as error:
                yield Skipped(entry.name, error.kind, error.reason)


def _class_names(data: dict[str, Any] | None, labels: Iterable[Label]) -> list[str] | None:
    """The names of the classes by a `dataset.json`, if each class has one."""
    names = (data or {}).get('class_names')
    highest = max((label for label in labels if isinstance(label, int)), default=-1)
    if not isinstance(names, list) or len(names) <= highest:
        return None
    return names if all(isinstance(name, str) for name in names) else None


def _all_readable(container: Container, entries: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of those that can be read."""
    for entry in entries:
        try:
            yield entry.name, container.read(entry)
        except Unusable:
            continue
