"""MNIST and its kin: files of pixels with a header, as they are distributed."""

import gzip
import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dnnlib import UserError
from dnnlib.containers import Container, Entry, FolderContainer, Skipped, Unusable

from .base import PictureSource, SourcePicture, netpbm, refuse_label_modes

_MAX_BYTES = 1 << 30  # of one file, unpacked
_IMAGES_NAME = re.compile(r'images[-.]idx3-ubyte')


class MnistSource(PictureSource):
    """Pictures of MNIST's format, with their labels if these lie beside them."""

    def __init__(self, path: Path, container: Container, mode: str | None, entry: Entry) -> None:
        super().__init__(path)
        refuse_label_modes(self.path, mode)
        wanted = _labels_name(entry.name)
        beside = next(
            (other for other in container.entries if other.name in (wanted, f'{wanted}.gz')), None
        )
        self.other_names = [
            other.name for other in container.entries if other not in (entry, beside)
        ]
        self.problems = container.problems
        try:
            self._pixels = read_idx(container.read(entry), 3)
            self._labels = (
                read_idx(container.read(beside), 1)
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
            yield SourcePicture(f'{self._name}/{index:05d}', netpbm(pixels), label)


def one_idx_file(path: Path) -> Container | None:
    """The folder of a file of MNIST's pictures, with only this file and that of its labels."""
    if not path.is_file():
        return None
    with path.open('rb') as file:
        if not is_idx_images(file.read(4096)):
            return None
    wanted = _labels_name(path.name)
    beside = [
        name
        for name in (wanted, f'{wanted}.gz')
        if name != path.name and (path.parent / name).is_file()
    ]
    return FolderContainer(path.parent, [path.name, *beside])


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


def _labels_name(name: str) -> str:
    """Return the name of the labels of a file of pictures, without `.gz`."""
    return re.sub(r'images([-.])idx3', r'labels\1idx1', name.removesuffix('.gz'))


def read_idx(data: bytes, dims: int) -> np.ndarray:
    """Read a file of MNIST's format, of bytes.

    Args:
        data: the file, packed with gzip or not.
        dims: 3 for pictures, 1 for labels.

    Returns:
        uint8, with `dims` dimensions.

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
