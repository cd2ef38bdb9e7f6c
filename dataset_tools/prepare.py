"""Prepare a data set: read, convert, write, and report what became of each picture.

The way of a picture is one-directional. `prepare_data.py` turns options into a `Conversion`, a
`Policy` and a source, and calls `prepare_dataset`, which pulls pictures through this chain:

    sources     files of folders, zips, tars (`dnnlib.containers`), CIFAR, MNIST, LMDBs, videos
    workers     spreads the next step over the cores, in order
    encode      `image`: decode → colour → crop → resize, or `faces`: detect → landmarks → align;
                then PNG, JPEG or WebP
    writer      the zip or folder, and `dataset.json` with the labels of `label_sources`

Beside it, `summary` counts for the last lines on the screen, `audit` writes a line a file, and
`sheet` draws a contact sheet of faces. None of them calls back into this module.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL
from PIL import features

from dnnlib import UserError, atomic_folder, atomic_path
from dnnlib.containers import Skipped

from .audit import AuditReport
from .encode import FORMATS, EncodedPicture, FileFormat, Job, RejectedPicture, Task, encode_pictures
from .faces.detect import NO_FACE, WHAT_TO_TRY, Faces, detector_version
from .faces.landmarks import Landmarks
from .image.crop import Conversion
from .image.decode import mislabelled
from .image.resize import resizer_version
from .label_sources import count_classes, number_classes
from .sheet import ContactSheet
from .sources import PictureSource
from .summary import Report
from .workers import ordered_map
from .writer import DatasetWriter

_FORMAT_VERSION = 2  # of what dataset.json says beyond the labels
_FEW_PICTURES = 32  # done before other processes would have started
_DUPLICATE = 'duplicate'


@dataclass(frozen=True)
class Alignment:
    """Which faces are cut out, and where they are.

    Args:
        faces: of a picture, 'one' is the largest, 'all' every one.
        marked: the faces of each picture, of `load_landmarks`; None looks for them with dlib.
        sheet: where to draw a contact sheet of what was cut, if anywhere.
    """

    faces: Faces = 'one'
    marked: Mapping[str, Sequence[Landmarks]] | None = None
    sheet: Path | None = None

    def describe(self) -> dict[str, Any]:
        """Return what `dataset.json` says of it."""
        return {
            'fit': 'ffhq',
            'faces': self.faces,
            'landmarks': detector_version() if self.marked is None else 'marked',
        }


@dataclass(frozen=True)
class Policy:
    """What is written and which faults are tolerated.

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

    file_format: FileFormat = 'png'
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


def check_dest(
    dest: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    report: Path | None = None,
) -> None:
    """Check the destination. (A zip inside the source folder is fine: it is no
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
    policy: Policy = Policy(),  # noqa: B008 (it is frozen)
    max_images: int | None = None,
    workers: int = 1,
    tick: Callable[[], object] = lambda: None,
) -> Report:
    """Convert the pictures of a source and write them as a data set; `dest` appears, or is
    replaced, only when all is done.

    Args:
        source: where the pictures come from.
        dest: the zip to write, or a folder, which must be new; see `check_dest`.
        conversion: what is done to each picture.
        alignment: cut the faces out of it, instead of fitting it into a square (`conversion.fit`).
        policy: what is written and which faults are tolerated.
        max_images: stop after so many pictures were written.
        workers: processes that convert; a handful of pictures is done without any.
        tick: called once a picture of the source, for a progress bar.

    Raises:
        UserError: `dest`, the report or the contact sheet can't be written, none of the pictures
            could be used, or dlib is missing.
        Refused: pictures had to be dropped and must not.
    """
    limit = max_images or sys.maxsize
    few = min(limit, sys.maxsize if source.total is None else source.total) < _FEW_PICTURES
    report = Report()
    with AuditReport(policy.report) as audit:
        _report_source(source, report, audit)
        faces = alignment.faces if alignment is not None else None
        task = Task(conversion, faces, policy.file_format, audit.wants_thumbnails)
        encode = partial(encode_pictures, task=task)
        results = ordered_map(encode, _jobs(source, alignment), 1 if few else workers)
        with (
            _place(dest, policy) as temp,
            DatasetWriter(temp) as writer,
            _sheet(alignment) as sheet,
            contextlib.closing(results) as groups,
        ):
            suffix = policy.file_format.replace('jpeg', 'jpg')
            for picture in _select(groups, policy, report, audit, tick):
                writer.add(picture.data, picture.digest, picture.label, suffix)
                if sheet is not None:
                    sheet.add(picture.data, picture.name)
                if len(report.files) == limit:
                    break
            _check(source, report, policy)
            writer.labels, class_names = number_classes(
                writer.labels, source.class_names, keep_numbers=source.keep_numbers
            )
            report.classes = count_classes(writer.labels, class_names)
            made = _metadata(source, conversion, alignment, policy, class_names, report.files)
            writer.finish(made)
    report.sheets = sheet.pages if sheet is not None else []
    return report


def _metadata(
    source: PictureSource,
    conversion: Conversion,
    alignment: Alignment | None,
    policy: Policy,
    class_names: list[str] | None,
    files: list[str],
) -> dict[str, Any]:
    """What `dataset.json` says beyond the labels: how to make the set again."""
    decoders = ('jpg', 'libtiff', 'webp', 'littlecms2')
    return {
        'format_version': _FORMAT_VERSION,
        'source': source.title,
        **asdict(conversion),
        **(alignment.describe() if alignment is not None else {}),
        'format': policy.file_format,
        'resizer': resizer_version(),
        'pillow_version': PIL.__version__,
        'decoder_versions': {name: features.version(name) for name in decoders},
        **({'class_names': class_names} if class_names else {}),
        'files': files,
    }


def _jobs(source: PictureSource, alignment: Alignment | None) -> Iterator[Job]:
    marked = alignment.marked if alignment is not None else None
    for item in source:
        yield Job(item, None if marked is None else marked.get(item.name, []))


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


def _drop(
    item: Skipped, report: Report, audit: AuditReport, thumbnail: bytes | None = None
) -> None:
    report.skipped.append(item)
    audit.add(item.name, 'dropped', [item.kind], item.reason, thumbnail=thumbnail)


def _keep(picture: EncodedPicture, report: Report, audit: AuditReport) -> None:
    name, square = picture.name, picture.square
    described = (square.size, square.format, picture.thumbnail)
    wrong_name = mislabelled(name, square.format)
    if wrong_name:
        report.remarks.append(Skipped(name, 'mislabelled', wrong_name))
        audit.add(name, 'remark', ['mislabelled'], wrong_name, *described)
    report.files.append(name)
    report.count_change(square)
    audit.add(name, 'changed' if square.notes else 'kept', square.notes, '', *described)


def _select(
    groups: Iterable[list[EncodedPicture | RejectedPicture]],
    policy: Policy,
    report: Report,
    audit: AuditReport,
    tick: Callable[[], object],
) -> Iterator[EncodedPicture]:
    """The pictures that are to be written; what comes of each goes to the reports."""
    seen: dict[bytes, str] = {}
    for group in groups:
        tick()
        for picture in group:
            if isinstance(picture, RejectedPicture):
                _drop(picture.why, report, audit, picture.thumbnail)
                continue
            if policy.dedupe and picture.digest in seen:
                reason = f'the same pixels as {seen[picture.digest]}'
                twin = Skipped(picture.name, _DUPLICATE, reason)
                _drop(twin, report, audit, picture.thumbnail)
                continue
            if policy.dedupe:
                seen[picture.digest] = picture.name
            _keep(picture, report, audit)
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
