"""Writing a data set: a zip whose bytes follow from its content alone, laid out as NVIDIA's tools lay out theirs."""

import hashlib
import json
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .labels import Label


class DatasetWriter:
    """A stored zip of PNGs, `00000/img00000000.png` and so on, with a `dataset.json` at its end.

    Nothing in the zip depends on the clock or the operating system. Use it in a `with` block.

    Args:
        path: the file to write.
    """

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED)
        self._labels: list[tuple[str, Label | None]] = []
        self._content = hashlib.sha256()

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, png: bytes, digest: bytes, label: Label | None = None) -> None:
        """Append a picture.

        Args:
            png: the encoded picture.
            digest: the SHA-256 of its pixels.
            label: its class number or vector. Either every picture has one or none has.
        """
        index = len(self)
        name = f'{index // 1000:05d}/img{index:08d}.png'
        self._write(name, png)
        self._labels.append((name, label))
        self._content.update(digest)

    def finish(self, metadata: dict[str, Any]) -> None:
        """Write `dataset.json`: `labels`, which is all that other tools read, `num_images`, `content_sha256`, and `metadata`.

        `content_sha256` is the SHA-256 of the pictures' digests, in order: it depends on the pixels, not on how they are stored.
        """
        labelled = any(label is not None for _, label in self._labels)
        data = {
            'labels': self._labels if labelled else None,
            'num_images': len(self),
            'content_sha256': self._content.hexdigest(),
            **metadata,
        }
        self._write('dataset.json', json.dumps(data).encode())

    def __enter__(self) -> 'DatasetWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    def _write(self, name: str, data: bytes) -> None:
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.create_system = 3  # Unix, wherever this runs
        entry.external_attr = 0o644 << 16
        self._zip.writestr(entry, data)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode a picture without compression and without row filters.

    Pillow's level 0 still filters the rows; without that a reader needs a third of the time (0.17 against 0.46 ms at 256
    pixels with pyspng), and encoding too.

    Args:
        pixels: uint8 `[H, W, 3]`, RGB, 0…255.
    """
    h, w, c = pixels.shape
    assert pixels.dtype == np.uint8 and c == 3
    rows = np.zeros([h, 1 + w * 3], np.uint8)  # the first byte of a row names its filter: 0 is none
    rows[:, 1:] = pixels.reshape(h, w * 3)
    header = struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0)  # 8 bits, RGB, the only compression and filter method, no interlace
    return b'\x89PNG\r\n\x1a\n' + _chunk(b'IHDR', header) + _chunk(b'IDAT', zlib.compress(rows.tobytes(), 0)) + _chunk(b'IEND', b'')


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
