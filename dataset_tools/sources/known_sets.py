"""Archives of well-known sets that hold pixels instead of picture files: MNIST and its kin,
CIFAR-10 and CIFAR-100.
"""

import gzip
import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from dnnlib import printable
from dnnlib.interpreter import Unpickler, load_checked

from .containers import Container, Entry, Unusable

_MAX_BYTES = 1 << 30  # of one file of MNIST's kind, unpacked
_IMAGES_NAME = re.compile(r'images[-.]idx3-ubyte')
_CIFAR_SIDE = 32
_CIFAR_FILE = re.compile(r'(?:.*/)?(?:data_batch_[0-9]|train)')
_CIFAR_NAMES = re.compile(r'(?:.*/)?(?:batches\.meta|meta)')
_MAX_BATCH = 200_000_000  # bytes; CIFAR-100's is 155 million


def netpbm(pixels: np.ndarray) -> bytes:
    """A picture file of the plainest kind.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
    """
    return (
        b'P%d %d %d 255\n' % (5 if pixels.ndim == 2 else 6, pixels.shape[1], pixels.shape[0])
        + pixels.tobytes()
    )


# ---- MNIST ------------------------------------------------------------------


def is_idx_images(data: bytes) -> bool:
    """Whether a file begins as MNIST's pictures do, packed or not."""
    if data[:2] == b'\x1f\x8b':
        try:
            data = zlib.decompressobj(31).decompress(data, 16)
        except zlib.error:
            return False
    return data[:4] == b'\0\0\x08\x03'


def find_idx_images(names: list[str]) -> list[str]:
    """The files of pictures among those of a folder; of a training and a test part, the training
    part.
    """
    found = [name for name in names if _IMAGES_NAME.search(name)]
    return [name for name in found if 'train' in name.rsplit('/', 1)[-1]] or found


def labels_name(name: str) -> str:
    """What the labels of a file of pictures are called, without `.gz`."""
    return re.sub(r'images([-.])idx3', r'labels\1idx1', name.removesuffix('.gz'))


def read_idx(data: bytes, dims: int) -> np.ndarray:
    """Read a file of MNIST's format, of bytes.

    Args:
        data: the file, packed with gzip or not.
        dims: 3 for pictures, 1 for labels.

    Returns:
        uint8, with so many dimensions.

    Raises:
        Unusable: it is none, or damaged.
    """
    if data[:2] == b'\x1f\x8b':
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Unusable('damaged', f'its gzip cannot be read: {error}') from error
        if len(data) > _MAX_BYTES:
            raise Unusable('too large', f'unpacks to more than {_MAX_BYTES / 1e9:.0f} GB')
    head = 4 + 4 * dims
    if len(data) < head or data[:4] != bytes([0, 0, 8, dims]):
        raise Unusable('damaged', f'does not begin as a file of bytes in {dims} dimensions does')
    shape = struct.unpack(f'>{dims}I', data[4:head])
    count = 1
    for size in shape:
        count *= size
    if count != len(data) - head or count == 0:
        raise Unusable(
            'damaged',
            f'says that it holds {"x".join(map(str, shape))} bytes, but holds {len(data) - head}',
        )
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


# ---- CIFAR ------------------------------------------------------------------


def find_cifar(container: Container) -> list[Entry]:
    """The batches of training pictures, in order; none where this isn't CIFAR."""
    found = [entry for entry in container.entries if _CIFAR_FILE.fullmatch(entry.name)]
    named = any(_CIFAR_NAMES.fullmatch(entry.name) for entry in container.entries)
    return sorted(found, key=lambda entry: entry.name) if found and named else []


def cifar_class_names(container: Container) -> list[str] | None:
    """What the numbers mean.

    Raises:
        Unusable: the file that says it can't be read.
    """
    entry = next(entry for entry in container.entries if _CIFAR_NAMES.fullmatch(entry.name))
    found = _load(container.read(entry))
    names = found.get('label_names', found.get('fine_label_names'))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unusable('damaged', 'has no list of the classes')
    return names


def read_cifar(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Picture files and class numbers of a batch.

    Raises:
        Unusable: it is none, or asks for anything but plain arrays and lists.
    """
    batch = _load(data)
    labels, pixels = batch.get('labels', batch.get('fine_labels')), batch.get('data')
    if isinstance(pixels, _Array):
        pixels = pixels.unpack()
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.ndim != 2
        or pixels.shape[1] != 3 * _CIFAR_SIDE**2
    ):
        raise Unusable('damaged', 'has no pixels of 32x32 pictures')
    if (
        not isinstance(labels, list)
        or len(labels) != len(pixels)
        or not all(type(label) is int and 0 <= label < 1000 for label in labels)
    ):
        raise Unusable('damaged', 'has no class number for each picture')
    for row, label in zip(pixels, labels):
        yield netpbm(row.reshape(3, _CIFAR_SIDE, _CIFAR_SIDE).transpose(1, 2, 0)), label


class _Array:
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
    """Likewise, for a dtype."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name.decode('latin-1') if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """The byte order and other things that a byte doesn't have."""


def _reconstruct(*_: object) -> _Array:
    return _Array()


_NAMES: dict[str, Any] = {'_reconstruct': _reconstruct, 'ndarray': _Array, 'dtype': _Kind}
_MODULES = ('numpy', 'numpy.core.multiarray', 'numpy._core.multiarray')


class _Unpickler(Unpickler):
    """The dialect of CIFAR's batches: the three names above and nothing else."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        (module, name): value for module in _MODULES for name, value in _NAMES.items()
    }
    with_state: ClassVar[tuple[type, ...]] = (_Array, _Kind)


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > _MAX_BATCH:
        raise Unusable('too large', f'{len(data) / 1e6:.0f} MB are no batch of CIFAR')
    try:
        found = load_checked(_Unpickler, data)
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
