"""CIFAR-10 and CIFAR-100: pickles of pixels, as they are distributed."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from dnnlib import printable
from dnnlib.containers import Container, Entry, Skipped, Unusable
from dnnlib.interpreter import Unpickler, load_checked

from .base import PictureSource, SourcePicture, netpbm, refuse_label_modes

_SIDE = 32
_BATCH_NAME = re.compile(r'(?:.*/)?(?:data_batch_[0-9]|train)')
_NAMES_NAME = re.compile(r'(?:.*/)?(?:batches\.meta|meta)')
_MAX_BATCH = 200_000_000  # bytes; CIFAR-100's is 155 million


class CifarSource(PictureSource):
    """The training pictures of CIFAR-10 or CIFAR-100, from its tar or an unpacked folder."""

    def __init__(self, container: Container, mode: str | None, batches: list[Entry]) -> None:
        super().__init__(container.path)
        refuse_label_modes(self.path, mode)
        self._container, self._batches = container, batches
        self.other_names = [entry.name for entry in container.entries if entry not in batches]
        self.problems = container.problems
        self.labelled = mode != 'none'
        try:
            self.class_names = _class_names(container) if self.labelled else None
        except Unusable as error:
            self.problems = [*self.problems, Skipped('batches.meta', error.kind, error.reason)]

    def __iter__(self) -> Iterator[SourcePicture | Skipped]:
        for entry in self._batches:
            try:
                for index, (data, label) in enumerate(read_cifar(self._container.read(entry))):
                    yield SourcePicture(
                        f'{entry.name}/{index:05d}', data, label if self.labelled else None
                    )
            except Unusable as error:
                yield Skipped(entry.name, error.kind, error.reason)


def find_cifar(container: Container) -> list[Entry]:
    """The batches of training pictures, in order; none where this isn't CIFAR."""
    found = [entry for entry in container.entries if _BATCH_NAME.fullmatch(entry.name)]
    named = any(_NAMES_NAME.fullmatch(entry.name) for entry in container.entries)
    return sorted(found, key=lambda entry: entry.name) if found and named else []


def _class_names(container: Container) -> list[str] | None:
    """Read the names of the classes.

    Raises:
        Unusable: the file that says it can't be read.
    """
    entry = next(entry for entry in container.entries if _NAMES_NAME.fullmatch(entry.name))
    found = _load(container.read(entry))
    names = found.get('label_names', found.get('fine_label_names'))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unusable('damaged', 'has no list of the classes')
    return names


def read_cifar(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the picture files and class numbers of a batch.

    Raises:
        Unusable: it is none, or asks for anything but plain arrays and lists.
    """
    batch = _load(data)
    labels, pixels = batch.get('labels', batch.get('fine_labels')), batch.get('data')
    if isinstance(pixels, _PixelArray):
        pixels = pixels.unpack()
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3 * _SIDE**2:
        raise Unusable('damaged', 'has no pixels of 32x32 pictures')
    if (
        not isinstance(labels, list)
        or len(labels) != len(pixels)
        or not all(type(label) is int and 0 <= label < 1000 for label in labels)
    ):
        raise Unusable('damaged', 'has no class number for each picture')
    for row, label in zip(pixels, labels):
        yield netpbm(row.reshape(3, _SIDE, _SIDE).transpose(1, 2, 0)), label


class _PixelArray:
    """What stands for a NumPy array while a pickle is read: nothing of NumPy runs until the state
    has been checked.
    """

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def unpack(self) -> np.ndarray:
        try:
            _, shape, kind, by_columns, data = self.state
            if isinstance(data, str):
                data = data.encode('latin-1')
            if kind.name == 'u1' and not by_columns and isinstance(data, bytes):
                return np.frombuffer(data, np.uint8).reshape([int(size) for size in shape])
        except (TypeError, ValueError, AttributeError):
            pass
        raise Unusable('damaged', 'its pixels are no plain array of bytes')


class _Kind:
    """What stands for a dtype while a pickle is read."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name.decode('latin-1') if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """The byte order and other things that a byte doesn't have."""


def _reconstruct(*_: object) -> _PixelArray:
    return _PixelArray()


_NAMES: dict[str, Any] = {'_reconstruct': _reconstruct, 'ndarray': _PixelArray, 'dtype': _Kind}
_MODULES = ('numpy', 'numpy.core.multiarray', 'numpy._core.multiarray')


class _BatchUnpickler(Unpickler):
    """The dialect of CIFAR's batches: the three names above and nothing else."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        (module, name): value for module in _MODULES for name, value in _NAMES.items()
    }
    with_state: ClassVar[tuple[type, ...]] = (_PixelArray, _Kind)


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > _MAX_BATCH:
        raise Unusable('too large', f'{len(data) / 1e6:.0f} MB are no batch of CIFAR')
    try:
        found = load_checked(_BatchUnpickler, data)
    except Exception as error:  # damaged pickles raise nearly anything
        raise Unusable(
            'damaged', f'is no batch of CIFAR: {printable(error) or type(error).__name__}'
        ) from error
    if not isinstance(found, dict):
        raise Unusable('damaged', 'is no batch of CIFAR')
    return {
        key.decode('latin-1') if isinstance(key, bytes) else str(key): value
        for key, value in found.items()
    }
