"""Write the audit: a line for each file that was found, `report.csv`, and a page to look at,
`report.html`.
"""

import base64
import contextlib
import csv
import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from dnnlib import UserError, atomic_path, escaped

# what a formula begins with, and the full-width twins of these
_FORMULA = frozenset('=+-@\uff1d\uff0b\uff0d\uff20')
_PER_KIND = 60  # pictures that the page shows of each kind
_COLUMNS = ('name', 'outcome', 'kinds', 'reason', 'width', 'height', 'format')
_STYLE = (
    'body{font:14px sans-serif;margin:2em}td,th{text-align:left;padding:2px 1em 2px 0}'
    'figure{display:inline-block;vertical-align:top;width:140px;margin:4px;overflow-wrap:anywhere}figcaption{font-size:11px}'
)


class AuditReport:
    """`report.csv` and `report.html` in a folder; it is written as the files come, and nothing but
    counts and sixty pictures of each kind is held. Use it in a `with` block; what has come by its
    end appears, also after a `UserError`.

    Args:
        folder: where; made where it isn't there. None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files = contextlib.ExitStack()
        self._outcomes: Counter[str] = Counter()
        self._shown: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()

    @property
    def wants_thumbnails(self) -> bool:
        """Whether thumbnails are shown."""
        return self._folder is not None

    def add(
        self,
        name: str,
        outcome: str,
        kinds: Sequence[str] = (),
        reason: str = '',
        size: tuple[int, int] | None = None,
        file_format: str = '',
        thumbnail: bytes | None = None,
    ) -> None:
        """Append a file.

        Args:
            name: its path inside the source.
            outcome: 'kept', 'changed', 'dropped', 'passed over', or 'remark', which comes besides
                one of the others.
            kinds: what was done to it, or is wrong with it, in a few words that can be counted.
            reason: what exactly.
            size: width and height in pixels.
            file_format: of the file.
            thumbnail: a JPEG.
        """
        self._outcomes[outcome] += 1
        if self._folder is None:
            return
        width, height = size or ('', '')
        self._rows.writerow(
            [_cell(name), outcome, ', '.join(kinds), _cell(reason), width, height, file_format]
        )
        for kind in kinds:
            key = f'{outcome}: {kind}'
            self._counts[key] += 1
            if self._counts[key] <= _PER_KIND:
                picture = (
                    f'<img src="data:image/jpeg;base64,{base64.b64encode(thumbnail).decode()}">'
                    if thumbnail
                    else '<i>no picture</i>'
                )
                caption = html.escape(escaped(f'{name}: {reason}' if reason else name))
                self._shown.setdefault(key, []).append(
                    f'<figure>{picture}<figcaption>{caption}</figcaption></figure>'
                )

    def __enter__(self) -> 'AuditReport':
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f'--report {self._folder}: cannot be written: {error.strerror or error}'
                ) from error
            table = self._files.enter_context(atomic_path(self._folder / 'report.csv'))
            self._page = self._files.enter_context(atomic_path(self._folder / 'report.html'))
            stream = self._files.enter_context(table.open('w', encoding='utf-8', newline=''))
            self._rows = csv.writer(stream, lineterminator='\n')
            self._rows.writerow(_COLUMNS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and not issubclass(kind, UserError):
            self._files.__exit__(kind, error, trace)
            return
        with self._files:
            if self._folder is not None:
                self._page.write_text(self._html(), encoding='utf-8')

    def _html(self) -> str:
        outcomes = ''.join(
            f'<tr><td>{html.escape(outcome)}</td><td>{count}</td></tr>'
            for outcome, count in self._outcomes.items()
        )
        parts = []
        for key in sorted(self._shown, key=lambda key: (not key.startswith('dropped'), key)):
            more = self._counts[key] - len(self._shown[key])
            parts.append(
                f'<h2>{html.escape(key)} '
                f'({self._counts[key]})</h2>'
                + ''.join(self._shown[key])
                + (f'<p>and {more} more, in report.csv</p>' if more else '')
            )
        return (
            f'<!DOCTYPE html><html lang="en"><meta '
            f'charset="utf-8"><title>Report</title><style>{_STYLE}</style><h1>Report</h1>'
            f'<table>{outcomes}</table>{"".join(parts)}</html>\n'
        )


def _cell(text: str) -> str:
    """Mark a text so that no spreadsheet takes a file's name for a formula."""
    text = escaped(text)
    return f"'{text}" if text[:1] in _FORMULA else text
