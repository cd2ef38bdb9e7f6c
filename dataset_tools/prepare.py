"""The loop: read, convert, write; and the report of what came of it."""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import PIL

from dnnlib import UserError, atomic_path

from .archive import DatasetWriter, encode_png
from .crop import Conversion, convert_picture
from .decode import BadPicture
from .labels import Label
from .sources import PictureSource, Skipped, SourcePicture
from .workers import ordered_map

_FORMAT_VERSION = 1  # of what dataset.json says beyond the labels
_FEW_PICTURES = 32  # done before other processes would have started


@dataclass(frozen=True)
class _Encoded:
    name: str
    png: bytes
    digest: bytes  # SHA-256 of the pixels
    enlarged: bool
    label: Label | None


@dataclass
class Report:
    """What came of it.

    Attributes:
        files: the names of the pictures in the source, in the order in which they were written.
        num_enlarged: how many of them were smaller than the data set's resolution.
        skipped: the pictures that could not be used.
        num_other_files: files of the source that are no pictures.
    """

    files: list[str] = field(default_factory=list)
    num_enlarged: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    num_other_files: int = 0

    @property
    def skipped_by_kind(self) -> str:
        """Such as '2 damaged, 1 too large'."""
        counts = Counter(item.kind for item in self.skipped)
        return ', '.join(f'{count} {kind}' for kind, count in counts.most_common())


def check_dest(dest: str | os.PathLike[str], source: str | os.PathLike[str]) -> None:
    """Refuse a destination that can't be meant. (A zip inside the source folder is fine: it is no picture.)

    Raises:
        UserError: `dest` is no `.zip`, or it is the source itself.
    """
    path = Path(dest)
    if path.suffix.lower() != '.zip':
        raise UserError(f'--dest {dest!s}: a data set is written as a zip; the name must end in .zip')
    with contextlib.suppress(OSError):  # where one of them doesn't exist, or can't be looked at; opening it will tell
        if path.samefile(source):
            raise UserError(f'--dest {dest!s} is the same file as --source; choose another name')


def prepare_dataset(source: PictureSource, dest: str | os.PathLike[str], conversion: Conversion, *, max_images: int | None = None,
                    workers: int = 1, tick: Callable[[], object] = lambda: None) -> Report:
    """Convert the pictures of a source and write them as a data set; `dest` appears, or is replaced, only when all is done.

    Args:
        source: where the pictures come from.
        dest: the zip to write.
        conversion: what is done to each picture.
        max_images: stop after so many pictures were written.
        workers: processes that convert; a handful of pictures is done without any.
        tick: called once a picture, for a progress bar.

    Raises:
        UserError: `dest` can't be written, or none of the pictures could be used.
    """
    check_dest(dest, source.path)
    limit = len(source) if max_images is None else max_images
    if min(limit, len(source)) < _FEW_PICTURES:
        workers = 1
    report = Report(num_other_files=source.num_other_files)
    results = contextlib.closing(ordered_map(partial(_encode, conversion=conversion), source, workers))
    with atomic_path(dest) as temp, DatasetWriter(temp) as writer, results as pictures:
        for picture in pictures:
            tick()
            if isinstance(picture, Skipped):
                report.skipped.append(picture)
                continue
            writer.add(picture.png, picture.digest, picture.label)
            report.files.append(picture.name)
            report.num_enlarged += picture.enlarged
            if len(report.files) == limit:
                break
        if not report.files:
            first = report.skipped[0]
            raise UserError(f'--source {source.path}: not one of its {len(source)} pictures can be used ({report.skipped_by_kind}); '
                            f'{first.name}: {first.reason}')
        writer.finish({
            'format_version': _FORMAT_VERSION,
            'source': source.path.resolve().name,
            **asdict(conversion),
            'pillow_version': PIL.__version__,
            'files': report.files,
        })
    return report


def _encode(item: SourcePicture | Skipped, conversion: Conversion) -> _Encoded | Skipped:
    if isinstance(item, Skipped):
        return item
    try:
        picture = convert_picture(item.data, conversion)
    except BadPicture as error:
        return Skipped(item.name, error.kind, error.reason)
    digest = hashlib.sha256(picture.pixels.tobytes()).digest()
    return _Encoded(item.name, encode_png(picture.pixels), digest, picture.enlarged, item.label)
