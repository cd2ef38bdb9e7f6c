"""The interface of all sources of pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnnlib import UserError
from dnnlib.containers import Skipped

from ..label_sources import Label


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


class StreamSource(PictureSource):
    """Pictures that come one after the other out of one file: a video, an LMDB.

    Args:
        path: the file.
        mode: of the labels; see `open_sources`.
        class_name: of all pictures, if they make up a class.
        pictures: names and files.
        total: how many there are, if that is known.
    """

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


def refuse_label_modes(path: Path, mode: str | None) -> None:
    """Refuse `--labels` of sources whose labels are in no folders and tables."""
    if mode == 'folder' or (mode or '').startswith('csv:'):
        raise UserError(f'--labels {mode}: {path} has no such labels; leave it out, or give none')


def netpbm(pixels: np.ndarray) -> bytes:
    """Encode pixels as PPM or PGM, which takes no time.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
    """
    return (
        b'P%d %d %d 255\n' % (5 if pixels.ndim == 2 else 6, pixels.shape[1], pixels.shape[0])
        + pixels.tobytes()
    )
