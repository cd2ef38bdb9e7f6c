"""One self-contained page about a run: what was done, in how much time, and the pictures side by
side.

A page is a title, the facts of the run, and sections; a section is a heading and items in reading
order:

    write_report( Path('out/demo/report.html'), title='Demo', lead='What this page shows, in a
        sentence.', facts={'PyTorch': '2.9.1', 'device': 'CPU, 2 cores', 'time': '8m 40s'},
        sections=[ Section('Data', [ 'A paragraph; `backticks` become code.', Command('python
        prepare_data.py --source=...', seconds=3.1), Figure('64 source pictures',
        Path('source.png'), scale=2), Figure('64 target pictures', Path('target.png'), scale=2),  #
        neighbours stand side by side ]), Section('Blends', [PictureTable('Layers swapped above
        ...', ['source', 'swap at 4'], {'seed 0': [path, path]})]), Section('Distances',
        [Table('Lower is better.', ['set', 'FID'], [['fine-tuned', 41.7]])]), ],
    )

Text is plain text: everything is escaped. Pictures are embedded, so the page can be moved or mailed
alone.
"""

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib import UserError, atomic_path, format_time
from dnnlib.image_archive import PictureArchive
from dnnlib.image_decoding import decode_picture


@dataclass(frozen=True)
class Command:
    """A command line as it was run.

    Args:
        line: the command, as one would type it.
        seconds: how long it took; None leaves that out.
    """

    line: str
    seconds: float | None = None


@dataclass(frozen=True)
class Figure:
    """A picture with a caption; figures that follow each other stand side by side.

    Args:
        caption: the text below.
        picture: a picture file.
        scale: how many screen pixels a picture pixel takes, in each direction, where there is room.
    """

    caption: str
    picture: Path
    scale: int = 1


@dataclass(frozen=True)
class PictureTable:
    """Pictures under headed columns and beside labelled rows.

    Args:
        caption: the text above.
        columns: headings, one a column of pictures.
        rows: a label for each row, and its picture files; None leaves a cell empty.
        cell: width of a picture in screen pixels.
    """

    caption: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Path | None]]
    cell: int = 128


@dataclass(frozen=True)
class Table:
    """A table of words and numbers.

    Args:
        caption: the text above.
        columns: headings.
        rows: the cells; floats show four digits, None a dash.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]


Item = str | Command | Figure | PictureTable | Table


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Args:
        title: the heading.
        items: strings (paragraphs), commands, figures and tables, in reading order.
    """

    title: str
    items: Sequence[Item]


def write_report(
    path: Path,
    *,
    title: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
    lead: str = '',
) -> None:
    """Write the page. What stands at `path` is replaced only by a complete page.

    Args:
        path: the HTML file to write.
        title: heading of the page and name of its tab.
        sections: the body.
        facts: short facts of the run (versions, device, times), shown on top.
        lead: a sentence or two under the heading.

    Raises:
        UserError: a picture is missing or damaged, or `path` can't be written.
    """
    page = _page(title, facts or {}, lead, sections)
    with atomic_path(path) as temp:
        temp.write_text(page, encoding='utf-8')


def tile_pictures(
    source: Path, dest: Path, *, count: int = 64, columns: int = 8, size: int | None = None
) -> None:
    """Tile the first pictures of a folder or zip, in the order of their names, into one picture
    without gaps.

    Args:
        source: a folder or a zip of pictures.
        dest: the picture file to write.
        count: how many to take, at most.
        columns: how many stand in a row.
        size: width and height of a tile in pixels; that of the first picture when None.

    Raises:
        UserError: there is no picture in `source`, or one is damaged.
    """
    with PictureArchive(source) as archive:
        pictures = [
            _decode(archive.read(name), f'{source}/{name}')
            for name in archive.picture_names[:count]
        ]
    if not pictures:
        raise UserError(f'{source}: no pictures in it')
    width, height = (size, size) if size else pictures[0].size
    grid = Image.new(
        'RGB', (min(columns, len(pictures)) * width, -(-len(pictures) // columns) * height), 'white'
    )
    for place, picture in enumerate(pictures):
        grid.paste(
            _fit(picture, width, height), (place % columns * width, place // columns * height)
        )
    with atomic_path(dest) as temp:
        grid.save(temp)


def compare_pictures(
    dest: Path,
    *,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Path | None]],
    cell: int = 128,
) -> None:
    """Draw a `PictureTable` as one picture, for places that show no HTML.

    Args:
        dest: the picture file to write.
        columns: headings, one a column of pictures.
        rows: a label for each row, and its picture files; None leaves a cell empty.
        cell: width and height of each picture in pixels.

    Raises:
        UserError: a row has more or fewer pictures than there are columns, or a picture is missing
            or damaged.
    """
    from torch_utils.image_io import labelled_table, save_picture

    _check_rows(columns, rows)
    blank = Image.new('RGB', (cell, cell), 'white')
    cells = {
        label: [blank if path is None else _fit(_read(path), cell, cell) for path in paths]
        for label, paths in rows.items()
    }
    pictures = {
        label: np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in row])
        for label, row in cells.items()
    }
    save_picture(dest, labelled_table(pictures, columns))


def _page(title: str, facts: Mapping[str, str], lead: str, sections: Sequence[Section]) -> str:
    body = [f'<header><h1>{html.escape(title)}</h1>']
    if lead:
        body.append(f'<p class="lead">{_text(lead)}</p>')
    if facts:
        body.append(
            '<dl>'
            + ''.join(
                f'<div><dt>{_text(name)}</dt><dd>{_text(fact)}</dd></div>'
                for name, fact in facts.items()
            )
            + '</dl>'
        )
    body.append('</header><main>')
    for section in sections:
        body.append(f'<section><h2>{_text(section.title)}</h2>')
        for is_figure, items in groupby(section.items, key=lambda item: isinstance(item, Figure)):
            parts = [_item(item) for item in items]
            body.extend(['<div class="figures">', *parts, '</div>'] if is_figure else parts)
        body.append('</section>')
    body.append('</main>')
    content = '\n'.join(body)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{html.escape(title)}</title>
<style>
{_STYLE}
</style>
</head>
<body>
{content}
</body>
</html>
"""


def _item(item: Item) -> str:
    if isinstance(item, str):
        return f'<p>{_text(item)}</p>'
    if isinstance(item, Command):
        took = '' if item.seconds is None else f'<span class="took">{_seconds(item.seconds)}</span>'
        return f'<div class="command"><pre><code>{html.escape(item.line)}</code></pre>{took}</div>'
    if isinstance(item, Figure):
        picture = _read(item.picture)
        width = picture.width * item.scale
        image = _image(picture, item.caption, width)
        caption = f'<figcaption>{_text(item.caption)}</figcaption>'
        return f'<figure style="width:{width}px">{image}{caption}</figure>'
    if isinstance(item, PictureTable):
        _check_rows(item.columns, item.rows)
        rows = [
            [
                f'<th scope="row">{_text(label)}</th>',
                *(
                    _picture_cell(path, f'{label}, {column}', item.cell)
                    for column, path in zip(item.columns, paths)
                ),
            ]
            for label, paths in item.rows.items()
        ]
        return _table(
            item.caption,
            ['<td></td>', *(f'<th scope="col">{_text(column)}</th>' for column in item.columns)],
            rows,
            'pictures',
        )
    numeric = [
        not any(isinstance(value, str) for value in values) for values in zip(*item.rows)
    ] or [False] * len(item.columns)
    head = [
        f'<th scope="col"{_NUMBER if right else ""}>{_text(column)}</th>'
        for column, right in zip(item.columns, numeric)
    ]
    return _table(
        item.caption, head, [[_cell(value) for value in row] for row in item.rows], 'numbers'
    )


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], kind: str) -> str:
    head = ''.join(columns)
    lines = ''.join(f'<tr>{"".join(row)}</tr>' for row in rows)
    return (
        f'<p class="caption">{_text(caption)}</p><div class="scroll"><table '
        f'class="{kind}"><thead><tr>{head}</tr></thead>'
        f'<tbody>{lines}</tbody></table></div>'
    )


def _picture_cell(path: Path | None, alt: str, cell: int) -> str:
    return '<td></td>' if path is None else f'<td>{_image(_read(path), alt, cell)}</td>'


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return f'<td{_NUMBER}>–</td>'
    if isinstance(value, str):
        return f'<td>{_text(value)}</td>'
    return (
        f'<td{_NUMBER}>{value:,.4g}</td>'
        if isinstance(value, float)
        else f'<td{_NUMBER}>{value:,}</td>'
    )


def _check_rows(columns: Sequence[str], rows: Mapping[str, Sequence[Path | None]]) -> None:
    for label, paths in rows.items():
        if len(paths) != len(columns):
            raise UserError(f'row {label!r} has {len(paths)} pictures for {len(columns)} columns')


def _text(text: str) -> str:
    """Escaped, with `code` marked up."""
    return re.sub(r'`([^`]+)`', r'<code>\1</code>', html.escape(text))


def _seconds(seconds: float) -> str:
    return f'{seconds:.1f} s' if seconds < 60 else format_time(seconds)


def _read(path: Path) -> Image.Image:
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror or error}') from error


def _decode(data: bytes, name: str) -> Image.Image:
    pixels = decode_picture(data, name)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert('RGB')


def _fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resized; enlarged without smoothing, since the pixels are what one wants to see."""
    if picture.size == (width, height):
        return picture
    enlarge = picture.width <= width and picture.height <= height
    return picture.resize(
        (width, height), Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
    )


def _image(picture: Image.Image, alt: str, width: int) -> str:
    file = io.BytesIO()
    picture.save(file, 'png', optimize=True)
    data = base64.b64encode(file.getvalue()).decode('ascii')
    size = f'width="{picture.width}" height="{picture.height}"'
    source = f'src="data:image/png;base64,{data}" alt="{html.escape(alt)}"'
    return f'<img {source} {size} style="width:{width}px">'


_NUMBER = ' class="number"'

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --paper: #fbfbfd;
  --card: #fff; --line: #dfe3ea; --mark: #5b3fc4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9f0; --soft: #9aa4b5; --paper: #14171d; --card: #1c2129; --line: #323945;
    --mark: #b29cff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.2; margin: 0 0 .5rem;
  letter-spacing: -.015em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
p { max-width: 44rem; margin: .6rem 0; }
.lead { font-size: 1.1rem; color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr));
  gap: .75rem 1.5rem; margin: 1.5rem 0 0; }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
code, pre { font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.command { display: flex; gap: 1rem; align-items: baseline; margin: .5rem 0;
  padding: .55rem .9rem; background: var(--card);
  border: 1px solid var(--line); border-left: 3px solid var(--mark); border-radius: 6px; }
.command pre { flex: 1; min-width: 0; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.took { color: var(--soft); font-size: .85rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start;
  margin: 1.25rem 0; }
figure { margin: 0; min-width: min(9rem, 100%); max-width: 100%; }
img { display: block; max-width: 100%; height: auto; image-rendering: pixelated;
  border-radius: 4px; }
figcaption { margin-top: .5rem; color: var(--soft); font-size: .9rem; line-height: 1.4; }
.caption { margin-top: 1.25rem; color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th { font-weight: 600; text-align: left; font-size: .9rem; }
.numbers { min-width: min(100%, 24rem); }
.numbers th, .numbers td { padding: .45rem 1.5rem .45rem 0;
  border-bottom: 1px solid var(--line); }
.numbers th:last-child, .numbers td:last-child { padding-right: 0; }
.numbers .number { text-align: right; font-variant-numeric: tabular-nums; }
.pictures th, .pictures td { padding: 2px; }
.pictures thead th { text-align: center; padding-bottom: .3rem; }
.pictures tbody th { padding-right: .75rem; white-space: nowrap; color: var(--soft);
  position: sticky; left: 0; background: var(--paper); }
.pictures img { max-width: none; }
""".strip()
