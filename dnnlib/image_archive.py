"""Picture sets in folders and zips: which files are pictures, their bytes, shapes and labels.

Training, metrics and `dataset_tools` all take these from here.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .containers import Entry, Unusable, open_container
from .image_decoding import decode_picture, header_shape
from .util import UserError, printable

PICTURE_SUFFIXES = frozenset(
    '.png .jpg .jpeg .jpe .jfif .webp .bmp .gif .tif .tiff .ppm .pgm .tga .avif'.split()  # noqa: SIM905 (a list would fill a screen)
)
# of a file that are read to find the shape of its picture, before all are
_FIRST_BYTES = (64, 1 << 16)
_MAX_CLASSES = 1 << 15
_MAX_BYTES = 1 << 30  # of the vectors of all labels
_MAX_NUMBER = float(np.finfo(np.float32).max)

Label = int | list[float]  # the number of a class, or a vector


def is_picture_name(name: str, suffixes: Collection[str] = PICTURE_SUFFIXES) -> bool:
    """Return whether a name is that of a picture. Hidden files and folders, which begin with a
    dot, and those that macOS adds to zips don't count.

    Args:
        name: a path with `/`.
        suffixes: of pictures, in lower case.
    """
    parts = name.split('/')
    hidden = any(
        part.startswith('.') and part not in ('.', '..') or part == '__MACOSX' for part in parts
    )
    return os.path.splitext(parts[-1])[1].lower() in suffixes and not hidden  # noqa: PTH122


class PictureArchive:
    """The files of a folder (recursive) or of a zip, in sorted order, with `/` in their names.

    Safe to send to worker processes: each process opens the zip for itself.

    Links to regular files are followed, wherever they lead; links to folders below `path` are not.
    Devices, pipes and files of more than half a gigabyte are never read.

    Args:
        path: a folder or a zip file.

    Raises:
        UserError: there is nothing at `path`, it can't be read, or it is neither a folder nor a
            zip.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._container = open_container(self.path)
        self.file_names: list[str] = [entry.name for entry in self._container.entries]

    @property
    def picture_names(self) -> list[str]:
        """Those of `file_names` that have a picture's suffix."""
        return [name for name in self.file_names if is_picture_name(name)]

    def read(self, name: str) -> bytes:
        """Return the bytes of one file.

        Raises:
            UserError: the file is gone, unreadable, too large, no regular file, encrypted or
                damaged; the message names it.
        """
        return self._read(name, None)

    def read_start(self, name: str, count: int) -> bytes:
        """Return the first `count` bytes of one file, or all that it has. Raises as `read` does."""
        return self._read(name, count)

    def _read(self, name: str, count: int | None) -> bytes:
        try:
            return self._container.read(Entry(name, name), count)
        except Unusable as error:
            what = f'is too large: {error.reason}' if error.kind == 'too large' else error.reason
            raise UserError(f'{self.path}: {printable(name)} {what}') from error

    def shape(self, name: str) -> tuple[int, int, int]:
        """Return channels, height and width of a picture, from as few of its first bytes as
        suffice: a fault behind them is not found.

        Raises:
            UserError: it can't be read, or is no picture.
        """
        for count in _FIRST_BYTES:
            found = header_shape(self.read_start(name, count))
            if found is not None:
                return found
        height, width, channels = decode_picture(self.read(name), f'{self.path}: {name}').shape
        return channels, height, width

    def read_json(self, name: str = 'dataset.json') -> dict[str, Any] | None:
        """Read a JSON object at the archive's top level, or None where there is no such file.

        Raises:
            UserError: it can't be read, or is no JSON object.
        """
        return self._container.read_json(name)

    def close(self) -> None:
        """Close the zip, if this process has it open."""
        self._container.close()

    def __enter__(self) -> 'PictureArchive':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_labels(
    metadata: dict[str, Any] | None, picture_names: Sequence[str], where: str, advice: str = ''
) -> dict[str, Label] | None:
    """Check the labels of a `dataset.json` against the pictures they belong to.

    Args:
        metadata: the content of the file, None where there is no such file.
        picture_names: the pictures of the set; labels of other files are ignored.
        where: what to call the set in an error.
        advice: what else to do about pictures without a label.

    Returns:
        The label of each picture, all of one kind and length, or None where there are no labels.

    Raises:
        UserError: the labels have an unknown form, differ in kind or length, or leave pictures out.
    """
    pairs = (metadata or {}).get('labels')
    if not pairs:
        return None
    # a list of pairs is the format; some tools write an object instead. Old ones on Windows wrote
    # backslashes
    try:
        found = {
            name.replace('\\', '/'): label
            for name, label in (pairs.items() if isinstance(pairs, dict) else pairs)
        }
    except (TypeError, ValueError, AttributeError):
        raise UserError(
            f'{where}: labels in dataset.json should be a list of [file name, label] pairs, or null'
        ) from None
    missing = [name for name in picture_names if name not in found]
    if missing:
        raise UserError(
            f'{where}: dataset.json has labels, but none for {len(missing)} of '
            f'{len(picture_names)} pictures, such as {missing[0]}; label every picture, or set '
            f'"labels" to null{advice}'
        )
    labels = {name: found[name] for name in picture_names}
    lengths = {_length(label) for label in labels.values()}
    if None in lengths or len(lengths) > 1:
        raise UserError(
            f'{where}: labels in dataset.json should all be class numbers 0, 1, 2 …, '
            f'or all vectors of one length'
        )
    return labels


def _length(label: object) -> int | None:
    """0 for a class number, the length of a vector, None for anything else."""
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 1 << 31:
        return 0
    if not isinstance(label, list) or not set(map(type, label)) <= {int, float}:
        return None
    return len(label) if label and all(abs(value) <= _MAX_NUMBER for value in label) else None


def read_labels(archive: PictureArchive, option: str) -> tuple[np.ndarray, list[str] | None]:
    """Read the labels of `dataset.json`. Where it has none, the folders of the first level are the
    classes, in sorted order, unless all of them have numbers for names, as `prepare_data.py` and
    NVIDIA number them.

    Args:
        option: what asked for labels, for errors.

    Returns:
        float32 `[N, label_dim]` in the order of `picture_names`, and the names of the folders that
        are the classes; None for the labels of `dataset.json`.

    Raises:
        UserError: it has none, or they are no labels.
    """
    names = archive.picture_names
    found = check_labels(archive.read_json(), names, str(archive.path))
    if not found:
        folders = _class_folders(archive, option)
        numbers = {folder: number for number, folder in enumerate(folders)}
        classes = [numbers[name.split('/')[0]] for name in names]
        return _one_hot(archive, np.asarray(classes)), folders
    labels = [found[name] for name in names]
    if isinstance(labels[0], int):
        return _one_hot(archive, np.asarray(labels)), None
    return np.asarray(labels, dtype=np.float32), None


def _one_hot(archive: PictureArchive, classes: np.ndarray) -> np.ndarray:
    highest = int(classes.max())
    if highest >= _MAX_CLASSES:
        raise UserError(
            f'{archive.path}: a label of dataset.json is {highest}; classes are '
            f'numbered 0, 1, 2 … without gaps; the network '
            'has an input for each number'
        )
    num_bytes = 4 * len(classes) * (highest + 1)
    if num_bytes > _MAX_BYTES:
        raise UserError(
            f'{archive.path}: {len(classes)} pictures of {highest + 1} classes: their '
            f'labels would take '
            f'{num_bytes / 1e9:.1f} GB; use fewer classes'
        )
    one_hot = np.zeros([len(classes), highest + 1], dtype=np.float32)
    one_hot[np.arange(len(classes)), classes] = 1
    return one_hot


def _class_folders(archive: PictureArchive, option: str) -> list[str]:
    names = archive.picture_names
    folders = sorted({name.split('/')[0] for name in names if '/' in name})
    named = any(not folder.isdecimal() for folder in folders)
    at_top = next((name for name in names if '/' not in name), None)
    if named and at_top is not None:
        raise UserError(
            f'{option}: {archive.path} has pictures in folders ({folders[0]}) and '
            f'beside them ({at_top}); '
            'put each into the folder of its class, or list the labels in dataset.json'
        )
    if not named or len(folders) < 2:
        raise UserError(
            f'{option}: {archive.path} has no labels (a dataset.json with "labels" is '
            f'needed, or a folder for each '
            'class, at least two and not all of them numbers)'
        )
    return folders
