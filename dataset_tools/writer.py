"""Write a data set: a zip whose bytes follow from its content alone, laid out as NVIDIA's tools
lay out theirs.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any

from .label_sources import Label


class DatasetWriter:
    """A stored zip of pictures, `00000/img00000000.png` and so on, with a `dataset.json` at its
    end; or a folder laid out so.

    Nothing in the zip depends on the clock or the operating system. Use it in a `with` block.

    Args:
        path: the zip to write, or a folder, which must be there; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._folder = path if path is not None and path.is_dir() else None
        self._zip = (
            zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED)
            if path is not None and self._folder is None
            else None
        )
        self._names: list[str] = []
        self.labels: list[Label | None] = []
        self._content = hashlib.sha256()

    def __len__(self) -> int:
        return len(self._names)

    def add(
        self, data: bytes, digest: bytes, label: Label | None = None, suffix: str = 'png'
    ) -> None:
        """Append a picture.

        Args:
            data: the encoded picture.
            digest: the SHA-256 of its pixels.
            label: its class number or vector. Either every picture has one or none has.
            suffix: of its name, without the dot.
        """
        index = len(self)
        name = f'{index // 1000:05d}/img{index:08d}.{suffix}'
        self._write(name, data)
        self._names.append(name)
        self.labels.append(label)
        self._content.update(digest)

    def finish(self, metadata: dict[str, Any]) -> None:
        """Write `dataset.json`: `labels`, which is all that other tools read, `num_images`,
        `content_sha256`, and `metadata`.

        `content_sha256` is the SHA-256 of the pictures' digests, in order: it depends on the
        pixels, not on how they are stored.
        """
        labelled = any(label is not None for label in self.labels)
        data = {
            'labels': list(zip(self._names, self.labels)) if labelled else None,
            'num_images': len(self),
            'content_sha256': self._content.hexdigest(),
            **metadata,
        }
        self._write('dataset.json', json.dumps(data).encode())

    def __enter__(self) -> 'DatasetWriter':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._zip is not None:
            self._zip.close()

    def _write(self, name: str, data: bytes) -> None:
        if self._folder is not None:
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        elif self._zip is not None:
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o644 << 16
            self._zip.writestr(entry, data)
