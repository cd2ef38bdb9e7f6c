"""Labels by the names of folders or by CSV files, and the numbers that classes get.

Those of a `dataset.json` are read by `dnnlib.image_archive`.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from dnnlib import UserError, image_archive

Label = image_archive.Label | str  # a str is the name of a class that has no number yet
_MAX_CSV = 1 << 26  # bytes; a million lines have half of that
_FEW_CLASSES = 1000  # some of which may well be empty
_FILE_COLUMNS = ('filename', 'file', 'file_name', 'image', 'image_id', 'path', 'name')


def check_mode(mode: str | None) -> None:
    """Check `--labels`.

    Raises:
        UserError: it does.
    """
    if mode not in (None, 'none', 'folder', 'json') and not (
        mode.startswith('csv:') and mode[4:].strip()
    ):
        raise UserError(f'--labels {mode}: choose from none, folder, json, csv:COLUMN')


def folder_labels(names: Sequence[str]) -> dict[str, str | None]:
    """For each picture the folder of the first level that tells pictures apart; folders that all of
    them lie in don't count.
    """
    folders = [name.split('/')[:-1] for name in names]
    shared = len(os.path.commonprefix(folders))
    return {
        name: path[shared] if len(path) > shared else None for name, path in zip(names, folders)
    }


def csv_labels(files: Iterable[tuple[str, bytes]], column: str) -> dict[str, str]:
    """The values of a column, by the names of the pictures, without suffix if the CSV belongs to
    one picture.

    A CSV without such a header is one picture's: its lines are name, value and perhaps more, as
    CartoonSet has them, and it has the picture's name. One with a header is a table: its first
    column called filename, file, image, path or the like, else the first of all, names the picture
    of a line, relative to the CSV's folder.

    Args:
        files: names and contents.
        column: which value.
    """
    found: dict[str, str] = {}
    for name, data in files:
        rows = _rows(data)
        folder = name.rpartition('/')[0]
        key = (
            next((i for i, title in enumerate(rows[0]) if title.lower() in _FILE_COLUMNS), 0)
            if rows
            else 0
        )
        if rows and column in rows[0] and rows[0].index(column) != key:
            wanted = rows[0].index(column)
            for row in rows[1:]:
                if len(row) > max(wanted, key) and row[wanted]:
                    picture = row[key].replace('\\', '/').removeprefix('./')
                    found[f'{folder}/{picture}' if folder else picture] = row[wanted]
            continue
        for row in rows:
            if len(row) > 1 and row[0] == column and row[1]:
                found[stem(name)] = row[1]
    return found


def csv_columns(data: bytes, *, of_one_picture: bool) -> list[str]:
    """List the columns, or the names, of a CSV that could be labels.

    Args:
        data: its content.
        of_one_picture: whether a line holds a name and a value, or the first one the titles.
    """
    rows = _rows(data)
    return [row[0] for row in rows] if of_one_picture else rows[0] if rows else []


def _rows(data: bytes) -> list[list[str]]:
    """The lines that aren't empty; none of a file that is no CSV: it is skipped, and the
    pictures that miss a label are named.
    """
    if len(data) > _MAX_CSV:
        return []
    try:
        text = io.StringIO(data.decode('utf-8-sig', 'replace'), newline='')
        rows = [[cell.strip() for cell in row] for row in csv.reader(text, skipinitialspace=True)]
    except csv.Error:
        return []
    return [row for row in rows if any(row)]


def stem(name: str) -> str:
    """Return a path without its last suffix."""
    head, dot, tail = name.rpartition('.')
    return head if dot and '/' not in tail else name


def number_classes(
    labels: Sequence[Label | None], class_names: list[str] | None, *, keep_numbers: bool = True
) -> tuple[list[Label | None], list[str] | None]:
    """Give numbers to the classes that have names only, in the names' order.

    Args:
        labels: of the pictures.
        class_names: what the labels that are numbers mean, if that is known.
        keep_numbers: where all names are numbers, they are the classes' numbers; but not years or
            what else would leave nearly all classes empty.

    Returns:
        The labels, and the names of the classes, None where they have none.
    """
    names = {label for label in labels if isinstance(label, str)}
    if not names:
        return list(labels), class_names
    if keep_numbers and _are_class_numbers(names):
        return [int(label) if isinstance(label, str) else label for label in labels], None
    ordered = sorted(
        names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )
    numbers = {name: number for number, name in enumerate(ordered)}
    return [numbers[label] if isinstance(label, str) else label for label in labels], ordered


def _are_class_numbers(names: Collection[str]) -> bool:
    if not all(name.isascii() and name.isdecimal() and len(name) < 10 for name in names):
        return False
    return max(map(int, names)) < max(_FEW_CLASSES, 2 * len(names))


def count_classes(labels: Iterable[Label | None], class_names: Sequence[str] | None) -> str:
    """Describe the classes: '2 classes: 0 cat: 12, 1 dog: 30'; empty for vectors."""
    counts = Counter(label for label in labels if isinstance(label, int))
    if not counts:
        return ''
    names = dict(enumerate(f' {name}' for name in class_names or []))
    shown = [f'{number}{names.get(number, "")}: {counts[number]}' for number in sorted(counts)]
    more = f', and {len(shown) - 20} more' if len(shown) > 20 else ''
    return (
        f'{len(shown)} {"class" if len(shown) == 1 else "classes"}: ' + ', '.join(shown[:20]) + more
    )
