"""The loop: read, convert, write; and the report of what came of it."""

import contextlib
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import PIL

from dnnlib import UserError, atomic_path

from .archive import DatasetWriter, encode_png
from .crop import Conversion, convert_picture
from .decode import BadPicture
from .faces import NO_FACE, WHAT_TO_TRY, convert_faces, detector_version
from .labels import Label
from .landmarks import Landmarks
from .sheet import ContactSheet
from .sources import PictureSource, Skipped, SourcePicture
from .workers import ordered_map

_FORMAT_VERSION = 1  # of what dataset.json says beyond the labels
_FEW_PICTURES = 32  # done before other processes would have started


@dataclass(frozen=True)
class Alignment:
    """That faces are cut out, and which.

    Args:
        faces: of a picture, 'one' is the largest, 'all' every one.
        marked: the faces of each picture, of `load_landmarks`; None looks for them with dlib.
        sheet: where to draw a contact sheet of what was cut, if anywhere.
    """

    faces: str = 'one'
    marked: Mapping[str, Sequence[Landmarks]] | None = None
    sheet: Path | None = None

    def describe(self) -> dict[str, Any]:
        """What `dataset.json` says of it."""
        return {'fit': 'ffhq', 'faces': self.faces, 'landmarks': detector_version() if self.marked is None else 'marked'}


@dataclass(frozen=True)
class _Job:
    """What a worker gets: a picture, and its faces if they are marked."""

    item: SourcePicture | Skipped
    marked: Sequence[Landmarks] | None = None


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
        files: the names of the pictures in the source, in the order in which they were written; once for each face that was cut out.
        num_enlarged: how many of them were smaller than the data set's resolution.
        skipped: the pictures that could not be used.
        num_other_files: files of the source that are no pictures.
        sheets: the pages of the contact sheet.
    """

    files: list[str] = field(default_factory=list)
    num_enlarged: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    num_other_files: int = 0
    sheets: list[Path] = field(default_factory=list)

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


def prepare_dataset(source: PictureSource, dest: str | os.PathLike[str], conversion: Conversion, *, alignment: Alignment | None = None,
                    max_images: int | None = None, workers: int = 1, tick: Callable[[], object] = lambda: None) -> Report:
    """Convert the pictures of a source and write them as a data set; `dest` appears, or is replaced, only when all is done.

    Args:
        source: where the pictures come from.
        dest: the zip to write.
        conversion: what is done to each picture.
        alignment: cut the faces out of it, instead of fitting it into a square (`conversion.fit`).
        max_images: stop after so many pictures were written.
        workers: processes that convert; a handful of pictures is done without any.
        tick: called once a picture of the source, for a progress bar.

    Raises:
        UserError: `dest` or the contact sheet can't be written, none of the pictures could be used, or dlib is missing.
    """
    check_dest(dest, source.path)
    limit = max_images or sys.maxsize
    if min(limit, len(source)) < _FEW_PICTURES:
        workers = 1
    report = Report(num_other_files=source.num_other_files)
    encode = partial(_encode, conversion=conversion, faces=alignment.faces if alignment else None)
    results = contextlib.closing(ordered_map(encode, _jobs(source, alignment), workers))
    with atomic_path(dest) as temp, DatasetWriter(temp) as writer, _sheet(alignment) as sheet, results as groups:
        for picture in _flatten(groups, tick):
            if isinstance(picture, Skipped):
                report.skipped.append(picture)
                continue
            writer.add(picture.png, picture.digest, picture.label)
            if sheet is not None:
                sheet.add(picture.png, picture.name)
            report.files.append(picture.name)
            report.num_enlarged += picture.enlarged
            if len(report.files) == limit:
                break
        if not report.files:
            raise UserError(_nothing_left(source, report))
        writer.finish({
            'format_version': _FORMAT_VERSION,
            'source': source.path.resolve().name,
            **asdict(conversion),
            **(alignment.describe() if alignment else {}),
            'pillow_version': PIL.__version__,
            'files': report.files,
        })
    report.sheets = sheet.pages if sheet is not None else []
    return report


def _nothing_left(source: PictureSource, report: Report) -> str:
    first = report.skipped[0]
    advice = f'; {WHAT_TO_TRY}' if any(item.kind == NO_FACE for item in report.skipped) else ''
    return (f'--source {source.path}: not one of its {len(source)} pictures can be used ({report.skipped_by_kind}); '
            f'{first.name}: {first.reason}{advice}')


def _sheet(alignment: Alignment | None) -> contextlib.AbstractContextManager[ContactSheet | None]:
    return contextlib.nullcontext() if alignment is None or alignment.sheet is None else ContactSheet(alignment.sheet)


def _jobs(source: PictureSource, alignment: Alignment | None) -> Iterator[_Job]:
    for item in source:
        yield _Job(item, None if alignment is None or alignment.marked is None else alignment.marked.get(item.name, []))


def _flatten(groups: Iterable[list[_Encoded | Skipped]], tick: Callable[[], object]) -> Iterator[_Encoded | Skipped]:
    for group in groups:
        tick()
        yield from group


def _encode(job: _Job, conversion: Conversion, faces: str | None) -> list[_Encoded | Skipped]:
    item = job.item
    if isinstance(item, Skipped):
        return [item]
    try:
        pictures = [convert_picture(item.data, conversion)] if faces is None else convert_faces(item.data, conversion, faces, job.marked)
    except BadPicture as error:
        return [Skipped(item.name, error.kind, error.reason)]
    return [_Encoded(item.name, encode_png(picture.pixels), hashlib.sha256(picture.pixels.tobytes()).digest(), picture.enlarged, item.label)
            for picture in pictures]
