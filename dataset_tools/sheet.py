"""Contact sheets: small copies of pictures with captions, to be looked at before training."""

import contextlib
import io
import os
from pathlib import Path
from types import TracebackType

from PIL import Image, ImageDraw, ImageFont

from dnnlib import UserError, atomic_path

_SIDE, _GAP = 128, 4  # pixels
_CELL = _SIDE + _GAP, _SIDE + 18 + _GAP
_COLUMNS, _PER_PAGE = 16, 400
_SUFFIXES = ('.png', '.jpg', '.jpeg')


def check_sheet(path: Path, source: str | os.PathLike[str]) -> None:
    """Check the path of a contact sheet.

    Raises:
        UserError: `path` has no suffix of a picture that suits, or it lies in the source folder,
            where the next run would take it for a picture.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(
            f'--align-sheet {path}: a contact sheet is a picture; the name must end in '
            f'{", ".join(_SUFFIXES)}'
        )
    if path.resolve().is_relative_to(Path(source).resolve()):
        raise UserError(
            f'--align-sheet {path} lies in --source, where the next run would take it '
            f'for a picture; choose another place'
        )


class ContactSheet:
    """Small copies of pictures, a caption under each; from the 401st on, on further pages:
    `sheet-2.png` and so on.

    Use it in a `with` block; the pages appear when the block ends well.

    Args:
        path: the first page; see `check_sheet`.

    Attributes:
        pages: the files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.pages: list[Path] = []
        self._files = contextlib.ExitStack()  # of pages that wait for their names
        self._cells: list[Image.Image] = []
        self._font = ImageFont.load_default(size=11)

    def add(self, data: bytes, caption: str) -> None:
        """Append a picture.

        Args:
            data: a square picture file.
            caption: its middle is left out where it is too long.
        """
        if len(self._cells) == _PER_PAGE:
            self._save_page()
            self._start_page()
        cell = Image.new('RGB', _CELL, 'white')
        with Image.open(io.BytesIO(data)) as picture:
            cell.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
        ImageDraw.Draw(cell).text(
            (1, _SIDE + 2), _shorten(caption, self._font), 'black', self._font
        )
        self._cells.append(cell)

    def __enter__(self) -> 'ContactSheet':
        self._start_page()  # now, so that a place that can't be written is known before the work
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._files.__exit__(kind, error, trace)
            return
        with self._files:
            self._save_page()

    def _start_page(self) -> None:
        number = len(self.pages) + 1
        self.pages.append(
            self._path if number == 1 else self._path.with_stem(f'{self._path.stem}-{number}')
        )
        self._temp = self._files.enter_context(atomic_path(self.pages[-1]))

    def _save_page(self) -> None:
        columns = max(1, min(len(self._cells), _COLUMNS))
        rows = -(-len(self._cells) // columns)
        page = Image.new('RGB', (columns * _CELL[0] + _GAP, rows * _CELL[1] + _GAP), 'white')
        for i, cell in enumerate(self._cells):
            page.paste(cell, (_GAP + i % columns * _CELL[0], _GAP + i // columns * _CELL[1]))
        page.save(self._temp)
        self._cells.clear()


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    text = text.encode('utf-8', 'replace').decode()  # names that no encoding fits hold surrogates
    text = ''.join(letter if letter.isprintable() else '?' for letter in text)
    if font.getlength(text) <= _SIDE:
        return text
    # of letters at either end; no letter is narrower than a pixel
    kept = min(len(text) // 2, _SIDE // 2)
    while font.getlength(f'{text[:kept]}...{text[-kept:]}') > _SIDE:
        kept -= 1
    return f'{text[:kept]}...{text[-kept:]}'
