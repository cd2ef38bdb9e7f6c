"""Count what was prepared and skipped, and format the lines that are printed at the end."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dnnlib import escaped
from dnnlib.containers import Skipped

from .image.crop import SquarePicture


@dataclass
class Report:
    """Counts of what was written, changed and skipped.

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


def named(report: Report) -> Iterator[str]:
    """Yield a line for each file that was skipped or has a remark."""
    for word, items in (('remark', report.remarks), ('skipped', report.skipped)):
        for item in items:
            yield escaped(f'{word} {item.name}: {item.kind}: {item.reason}')


def last_line(report: Report, dest: str, resolution: int) -> str:
    """Format the last line: what was written and what was skipped."""
    parts = [
        f'written {_count(len(report.files), "picture")} at {resolution}x{resolution} to {dest}',
        f'{report.num_enlarged} enlarged',
    ]
    parts.append(
        f'skipped {len(report.skipped)}'
        + (f' ({report.skipped_by_kind})' if report.skipped else '')
    )
    changes = [
        f'{count} {note}' for note, count in report.changes.most_common() if note != 'enlarged'
    ]
    if changes:
        parts.append(f'changed: {", ".join(changes)}')
    if report.others:
        number = report.others.total()
        parts.append(
            f'passed over {_count(number, "file")} that '
            f'{"is no picture" if number == 1 else "are no pictures"}'
        )
    if report.sheets:
        parts.append(f'contact sheet: {", ".join(map(str, report.sheets))}')
    return escaped('; '.join(parts))


def table(report: Report) -> str:
    """Format the table of a dry run: how many would be kept, changed, dropped and skipped."""
    rows = [
        ('kept as they are, but for their size', report.num_unchanged, True),
        ('changed', len(report.files) - report.num_unchanged, True),
        *((note, n, False) for note, n in report.changes.most_common()),
        ('dropped', len(report.skipped), True),
    ]
    kinds = dict.fromkeys(item.kind for item in report.skipped)
    rows += [(kind, sum(item.kind == kind for item in report.skipped), False) for kind in kinds]
    rows.append(('passed over, for they are no pictures', report.others.total(), True))
    rows += [(suffix, number, False) for suffix, number in report.others.most_common()]
    return '\n'.join(f'{number:9} {"" if is_sum else "  "}{name}' for name, number, is_sum in rows)


def face_warning(report: Report, resolution: int) -> str | None:
    """Format a warning about faces that are too small; None without any."""
    if not report.num_enlarged:
        return None
    return (
        f'warning: {report.num_enlarged} of {_count(len(report.files), "face")} had to be '
        f'enlarged to {resolution} px and will '
        'be blurred: leave them out, or take a smaller --resolution'
    )


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'
