"""The loop: read, convert, write; and the report of what came of it."""

import contextlib
import hashlib
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from dnnlib import UserError, atomic_folder, atomic_path, escaped

from .audit import AuditReport
from .faces.detect import NO_FACE, WHAT_TO_TRY, convert_faces, detector_version
from .faces.landmarks import Landmarks
from .image.crop import Conversion, SquarePicture, convert_picture
from .image.decode import BadPicture, encode_thumbnail, mislabelled, thumbnail
from .image.resize import resizer_version
from .label_sources import Label, count_classes, number_classes
from .sheet import ContactSheet
from .sources import PictureSource, Skipped, SourcePicture
from .workers import ordered_map
from .writer import FORMATS, DatasetWriter, encode, is_stored_as

_FORMAT_VERSION = 2  # of what dataset.json says beyond the labels
_FEW_PICTURES = 32  # done before other processes would have started
_DUPLICATE = 'duplicate'


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
        return {
            'fit': 'ffhq',
            'faces': self.faces,
            'landmarks': detector_version() if self.marked is None else 'marked',
        }


@dataclass(frozen=True)
class Policy:
    """What is written, and what is put up with.

    Args:
        file_format: of the pictures: 'png', or 'jpeg' or 'webp', which keep the files of pictures
            that need no change.
        dedupe: drop pictures that become the same pixels as an earlier one.
        strict: any drop is an error.
        dry_run: write no data set.
        report: a folder for the audit.

    Raises:
        UserError: an unknown format.
    """

    file_format: str = 'png'
    dedupe: bool = False
    strict: bool = False
    dry_run: bool = False
    report: Path | None = None

    def __post_init__(self) -> None:
        if self.file_format not in FORMATS:
            raise UserError(f'--format {self.file_format}: choose from {", ".join(FORMATS)}')


class Refused(UserError):
    """`Policy.strict`, or a picture that isn't square: nothing was written.

    Args:
        message: why.
        report: what would have come of it.
    """

    def __init__(self, message: str, report: 'Report') -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class _Job:
    """What a worker gets: a picture, and its faces if they are marked."""

    item: SourcePicture | Skipped
    marked: Sequence[Landmarks] | None = None

    def __str__(self) -> str:
        return escaped(self.item.name)


@dataclass(frozen=True)
class _Task:
    """What a worker does with each."""

    conversion: Conversion
    faces: str | None
    file_format: str
    thumbnails: bool


@dataclass(frozen=True)
class _Encoded:
    name: str
    data: bytes
    digest: bytes  # SHA-256 of the pixels
    label: Label | None
    source: SquarePicture  # without its pixels
    thumbnail: bytes | None


@dataclass
class Report:
    """What came of it.

    Attributes:
        files: the names of the pictures in the source, in the order in which they were written;
            once for each face that was cut out.
        num_enlarged: how many of them were smaller than the data set's resolution.
        num_unchanged: how many needed nothing but being made smaller.
        changes: what was done to the others, and how often.
        skipped: the pictures that could not be used.
        remarks: what is to be said of others.
        others: the suffixes of files that are no pictures, and how many have them.
        classes: how many pictures each class has, in words; empty without classes.
        sheets: the pages of the contact sheet.
    """

    files: list[str] = field(default_factory=list)
    num_enlarged: int = 0
    num_unchanged: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    remarks: list[Skipped] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    classes: str = ''
    sheets: list[Path] = field(default_factory=list)

    @property
    def skipped_by_kind(self) -> str:
        """Such as '2 damaged, 1 too large'."""
        counts = Counter(item.kind for item in self.skipped)
        return ', '.join(f'{count} {kind}' for kind, count in counts.most_common())

    def count_change(self, picture: SquarePicture) -> None:
        """Add a picture that was written to the counts."""
        self.num_enlarged += picture.enlarged
        self.num_unchanged += not picture.notes
        self.changes.update(picture.notes)


def check_dest(
    dest: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    report: Path | None = None,
) -> None:
    """Refuse a destination that can't be meant. (A zip inside the source folder is fine: it is no
    picture.)

    Raises:
        UserError: `dest` has a suffix but `.zip`, is the source itself, is a folder inside it, or
            is to hold the report.
    """
    path = Path(dest)
    if not os.fspath(dest) or path.suffix.lower() not in ('.zip', ''):
        raise UserError(
            f'--dest {dest!s}: a data set is written as a zip; the name must end in '
            f'.zip, or have no suffix for a folder'
        )
    # of links that lead to themselves, before Python 3.13
    with contextlib.suppress(OSError, RuntimeError):
        if report is not None and report.resolve().is_relative_to(path.resolve()):
            raise UserError(
                f'--report {report} lies in --dest, which holds the data set alone; '
                f'choose another place'
            )
    for source in sources:
        # where one of them doesn't exist, or can't be looked at; opening it will tell
        with contextlib.suppress(OSError):
            if path.samefile(source):
                raise UserError(
                    f'--dest {dest!s} is the same file as --source; choose another name'
                )
        # of links that lead to themselves, before Python 3.13
        with contextlib.suppress(OSError, RuntimeError):
            inside = path.resolve().is_relative_to(Path(source).resolve())
            if not path.suffix and inside:
                raise UserError(
                    f'--dest {dest!s} lies in --source, where the next run would take '
                    f'it for pictures; choose another place'
                )


def prepare_dataset(
    source: PictureSource,
    dest: str | os.PathLike[str],
    conversion: Conversion,
    *,
    alignment: Alignment | None = None,
    policy: Policy = Policy(),
    max_images: int | None = None,
    workers: int = 1,  # noqa: B008 (it is frozen)
    tick: Callable[[], object] = lambda: None,
) -> Report:
    """Convert the pictures of a source and write them as a data set; `dest` appears, or is
    replaced, only when all is done.

    Args:
        source: where the pictures come from.
        dest: the zip to write, or a folder, which must be new; see `check_dest`.
        conversion: what is done to each picture.
        alignment: cut the faces out of it, instead of fitting it into a square (`conversion.fit`).
        policy: what is written, and what is put up with.
        max_images: stop after so many pictures were written.
        workers: processes that convert; a handful of pictures is done without any.
        tick: called once a picture of the source, for a progress bar.

    Raises:
        UserError: `dest`, the report or the contact sheet can't be written, none of the pictures
            could be used, or dlib is missing.
        Refused: pictures had to be dropped and must not.
    """
    limit = max_images or sys.maxsize
    if min(limit, sys.maxsize if source.total is None else source.total) < _FEW_PICTURES:
        workers = 1
    report = Report()
    with AuditReport(policy.report) as audit:
        _report_source(source, report, audit)
        task = _Task(
            conversion,
            alignment.faces if alignment else None,
            policy.file_format,
            audit.wants_thumbnails,
        )
        results = contextlib.closing(
            ordered_map(partial(_encode, task=task), _jobs(source, alignment), workers)
        )
        with (
            _place(dest, policy) as temp,
            DatasetWriter(temp) as writer,
            _sheet(alignment) as sheet,
            results as groups,
        ):
            for picture in _select(groups, policy, report, audit, tick):
                writer.add(
                    picture.data,
                    picture.digest,
                    picture.label,
                    policy.file_format.replace('jpeg', 'jpg'),
                )
                if sheet is not None:
                    sheet.add(picture.data, picture.name)
                if len(report.files) == limit:
                    break
            _check(source, report, policy)
            writer.labels, class_names = number_classes(
                writer.labels, source.class_names, source.keep_numbers
            )
            report.classes = count_classes(writer.labels, class_names)
            writer.finish(
                {
                    'format_version': _FORMAT_VERSION,
                    'source': source.title,
                    **asdict(conversion),
                    **(alignment.describe() if alignment else {}),
                    'format': policy.file_format,
                    'resizer': resizer_version(),
                    'pillow_version': PIL.__version__,
                    'decoder_versions': {
                        name: features.version(name)
                        for name in ('jpg', 'libtiff', 'webp', 'littlecms2')
                    },
                    **({'class_names': class_names} if class_names else {}),
                    'files': report.files,
                }
            )
    report.sheets = sheet.pages if sheet is not None else []
    return report


def _report_source(source: PictureSource, report: Report, audit: AuditReport) -> None:
    report.remarks += source.remarks
    for name in source.other_names:
        suffix = Path(name).suffix.lower() or 'no suffix'
        report.others[suffix] += 1
        audit.add(name, 'passed over', [suffix], 'no picture by its name')
    for item in source.remarks:
        audit.add(item.name, 'remark', [item.kind], item.reason)
    for item in source.problems:
        _drop(item, report, audit)


def _drop(item: Skipped, report: Report, audit: AuditReport) -> None:
    report.skipped.append(replace(item, thumbnail=None))
    audit.add(item.name, 'dropped', [item.kind], item.reason, thumbnail=item.thumbnail)


def _select(
    groups: Iterable[list[_Encoded | Skipped]],
    policy: Policy,
    report: Report,
    audit: AuditReport,
    tick: Callable[[], object],
) -> Iterator[_Encoded]:
    """The pictures that are to be written; what comes of each goes to the reports."""
    seen: dict[bytes, str] = {}
    for group in groups:
        tick()
        for picture in group:
            if isinstance(picture, Skipped):
                _drop(picture, report, audit)
                continue
            square = picture.source
            if policy.dedupe:
                if picture.digest in seen:
                    first = seen[picture.digest]
                    _drop(
                        Skipped(
                            picture.name,
                            _DUPLICATE,
                            f'the same pixels as {first}',
                            picture.thumbnail,
                        ),
                        report,
                        audit,
                    )
                    continue
                seen[picture.digest] = picture.name
            wrong_name = mislabelled(picture.name, square.format)
            if wrong_name:
                report.remarks.append(Skipped(picture.name, 'mislabelled', wrong_name))
                audit.add(
                    picture.name,
                    'remark',
                    ['mislabelled'],
                    wrong_name,
                    square.size,
                    square.format,
                    picture.thumbnail,
                )
            report.files.append(picture.name)
            report.count_change(square)
            audit.add(
                picture.name,
                'changed' if square.notes else 'kept',
                square.notes,
                '',
                square.size,
                square.format,
                picture.thumbnail,
            )
            yield picture


def _check(source: PictureSource, report: Report, policy: Policy) -> None:
    if not report.files and not (policy.strict and report.skipped):
        first = (
            report.skipped[0]
            if report.skipped
            else Skipped(source.path.name, '', 'there is nothing in it')
        )
        advice = f'; {WHAT_TO_TRY}' if any(item.kind == NO_FACE for item in report.skipped) else ''
        count = source.total if source.total is not None else len(report.skipped)
        raise UserError(
            f'--source {source.path}: not one of its {count} pictures can be used '
            f'({report.skipped_by_kind}); '
            f'{first.name}: {first.reason}{advice}'
        )
    if policy.strict and report.skipped:
        raise Refused(
            f'--strict: {len(report.skipped)} would be left out '
            f'({report.skipped_by_kind}); nothing was written',
            report,
        )
    not_square = sum(item.kind == 'not square' for item in report.skipped)
    if not_square:
        raise Refused(
            f'--fit error: {not_square} pictures are not square; nothing was written; '
            f'choose crop, pad or stretch',
            report,
        )


def _place(
    dest: str | os.PathLike[str], policy: Policy
) -> contextlib.AbstractContextManager[Path | None]:
    if policy.dry_run:
        return contextlib.nullcontext()
    return atomic_path(dest) if Path(dest).suffix else atomic_folder(dest)


def _sheet(alignment: Alignment | None) -> contextlib.AbstractContextManager[ContactSheet | None]:
    return (
        contextlib.nullcontext()
        if alignment is None or alignment.sheet is None
        else ContactSheet(alignment.sheet)
    )


def _jobs(source: PictureSource, alignment: Alignment | None) -> Iterator[_Job]:
    for item in source:
        yield _Job(
            item,
            None
            if alignment is None or alignment.marked is None
            else alignment.marked.get(item.name, []),
        )


def _encode(job: _Job, task: _Task) -> list[_Encoded | Skipped]:
    item = job.item
    if isinstance(item, Skipped):
        return [item]
    try:
        if task.faces is None:
            pictures = [convert_picture(item.data, task.conversion)]
        else:
            pictures = convert_faces(item.data, task.conversion, task.faces, job.marked)
    except BadPicture as error:
        return [
            Skipped(
                item.name,
                error.kind,
                error.reason,
                thumbnail(item.data) if task.thumbnails else None,
            )
        ]
    return [_encode_one(item, picture, task) for picture in pictures]


def _encode_one(item: SourcePicture, picture: SquarePicture, task: _Task) -> _Encoded:
    if picture.untouched and is_stored_as(picture.format, task.file_format):
        data = item.data
    else:
        data = encode(picture.pixels, task.file_format)
    pixels = picture.pixels
    if task.file_format == 'jpeg' and data is not item.data:  # which is lossy
        pixels = np.asarray(Image.open(io.BytesIO(data)))
    small = encode_thumbnail(Image.fromarray(pixels)) if task.thumbnails else None
    return _Encoded(
        item.name,
        data,
        hashlib.sha256(pixels.tobytes()).digest(),
        item.label,
        replace(picture, pixels=pixels[:0]),
        small,
    )
