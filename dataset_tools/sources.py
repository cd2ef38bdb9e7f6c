"""Where pictures come from: each source tells how many there are and gives them one after the other."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dnnlib import UserError
from dnnlib.archive import PictureArchive

from .labels import Label, read_labels


@dataclass(frozen=True)
class SourcePicture:
    """A picture as it was found.

    Args:
        name: its path inside the source, with `/`.
        data: the bytes of the file.
        label: a class number, a vector, or None.
    """

    name: str
    data: bytes
    label: Label | None = None


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out.

    Args:
        name: its path inside the source.
        kind: a word or two that a summary counts by, such as 'damaged'.
        reason: what exactly is wrong.
    """

    name: str
    kind: str
    reason: str


class PictureSource:
    """The pictures of a folder (recursive) or a zip, sorted by name; labels come from its own `dataset.json`.

    Args:
        path: a folder or a zip file.

    Attributes:
        path: the same.
        picture_names: the files that look like pictures.
        num_other_files: how many files were passed over, because they don't (`dataset.json` isn't counted).
        labels: the label of each picture, or None where there are no labels.

    Raises:
        UserError: there is nothing at `path`, it can't be read, it holds no pictures, or its labels are unusable.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not os.fspath(path):  # Path('') would be the current folder
            raise UserError('--source is empty; give a folder or a zip file')
        self.path = Path(path)
        self._archive = PictureArchive(path)
        self.picture_names = self._archive.picture_names
        others = len(self._archive.file_names) - len(self.picture_names)
        if not self.picture_names:
            found = f'none of its {others} files is one' if others else 'it is empty'
            raise UserError(f'--source {path}: there are no pictures in it ({found})')
        metadata = self._archive.read_json()
        self.num_other_files = others - (metadata is not None)
        self.labels = read_labels(metadata, self.picture_names, f'--source {path}')

    def __len__(self) -> int:
        return len(self.picture_names)

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for name in self.picture_names:
            try:
                data = self._archive.read(name)
            except UserError as error:
                yield Skipped(name, 'unreadable', str(error))
            else:
                yield SourcePicture(name, data, self.labels[name] if self.labels else None)
