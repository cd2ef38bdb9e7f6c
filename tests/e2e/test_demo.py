"""The demo's pictures and its report."""

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import render_faces
from demo.report import (
    Command,
    Figure,
    PictureTable,
    Section,
    Table,
    compare_pictures,
    tile_pictures,
    write_report,
)
from dnnlib import UserError
from dnnlib.cli import run

ROOT = Path(__file__).parents[2]
VOID_TAGS = {'meta', 'img', 'br', 'link'}


@pytest.fixture
def drawing():
    pytest.importorskip('python_avatars')
    pytest.importorskip('resvg_py')


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / 'red.png'
    Image.new('RGB', (4, 4), 'red').save(path)
    return path


def pixels(index, style, size=64):
    png = render_faces.render_face(render_faces.sample_face(0, index), style, size)
    with Image.open(io.BytesIO(png)) as face:
        assert face.mode == 'RGB'
        return np.asarray(face).astype(np.float64)


def extent(picture, style):
    """First and last column at the height of the eyes that are not background."""
    background = [int(render_faces.BACKGROUNDS[style][i : i + 2], 16) for i in (1, 3, 5)]
    columns = np.flatnonzero(np.abs(picture[32] - background).sum(axis=1) > 30)
    return int(columns[0]), int(columns[-1])


def test_sampled_faces_depend_on_seed_and_index_only():
    faces = [render_faces.sample_face(0, index) for index in range(300)]
    assert faces == [render_faces.sample_face(0, index) for index in range(300)]
    assert faces != [render_faces.sample_face(1, index) for index in range(300)]
    assert len(set(faces)) > 280
    assert {face.hair for face in faces} == set(render_faces.HAIRS)
    assert {face.beard for face in faces if face.hair not in render_faces.SHORT_HAIRS} == {'NONE'}


def test_palettes_correspond():
    for palette in (render_faces.SKINS, render_faces.HAIR_COLORS, render_faces.SHIRT_COLORS):
        assert set(palette) == set(render_faces.STYLES)
        assert len(palette['plain']) == len(palette['toon'])


@pytest.mark.parametrize('style', render_faces.STYLES)
def test_every_part_can_be_drawn(drawing, style):
    plain = render_faces.Face('BOB', 'DEFAULT', 'DEFAULT', 'SMILE', 'NONE', 'NONE', 0, 0, 0)
    seen = {render_faces.render_face(plain, style, 32)}
    parts = {
        'hair': render_faces.HAIRS,
        'eyes': render_faces.EYES,
        'brows': render_faces.BROWS,
        'mouth': render_faces.MOUTHS,
        'beard': render_faces.BEARDS,
        'accessory': render_faces.ACCESSORIES,
    }
    for field, names in parts.items():
        for name in set(names) - {getattr(plain, field)}:
            seen.add(
                render_faces.render_face(
                    render_faces.Face(**{**vars(plain), field: name}), style, 32
                )
            )
    assert len(seen) == 1 + sum(len(names) - 1 for names in parts.values()), (
        'two features look the same'
    )


def test_styles_differ_but_are_aligned(drawing):
    for index in range(6):
        plain, toon = pixels(index, 'plain'), pixels(index, 'toon')
        assert plain.shape == toon.shape == (64, 64, 3)
        assert np.abs(plain - toon).mean() > 30, 'the looks are too much alike'
        for style, picture in (('plain', plain), ('toon', toon)):
            left, right = extent(picture, style)
            assert abs((left + right) / 2 - 31.5) < 2, f'{style} face {index} is not in the middle'
    # the mean edges of the two domains stand in the same places, since the features do
    edges = [
        np.mean([np.abs(np.gradient(pixels(i, style).mean(axis=2))[0]) for i in range(16)], axis=0)[
            24:56, 12:52
        ]
        for style in render_faces.STYLES
    ]
    assert np.corrcoef(edges[0].ravel(), edges[1].ravel())[0, 1] > 0.3


def test_folder_is_complete_reproducible_and_reused(drawing, tmp_path, capsys):
    args = ['--style=toon', '--count=5', '--size=32', '--seed=3', '--workers=1']
    for name in ('a', 'b'):
        assert run(render_faces.main, [f'--out={tmp_path / name}', *args]) == 0
    files = sorted(path.name for path in (tmp_path / 'a').iterdir())
    assert files == [*(f'face{i:05d}.png' for i in range(5)), 'params.json']
    for name in files:
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
    with Image.open(tmp_path / 'a' / 'face00000.png') as face:
        assert (face.size, face.mode) == ((32, 32), 'RGB')
    assert json.loads((tmp_path / 'a' / 'params.json').read_text())['seed'] == 3

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'a').iterdir()}
    capsys.readouterr()
    assert run(render_faces.main, [f'--out={tmp_path / "a"}', *args]) == 0
    assert 'nothing to do' in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / 'a').iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'b'], (
        'a temporary folder is left'
    )


def test_other_contents_are_refused_and_untouched(drawing, tmp_path):
    out = tmp_path / 'out'
    render_faces.render_folder(out, 'plain', 2, 16, 0, workers=1)
    with pytest.raises(UserError, match='seed 1'):
        render_faces.render_folder(out, 'plain', 2, 16, 1, workers=1)
    (out / 'face00001.png').unlink()
    with pytest.raises(UserError, match='something else'):
        render_faces.render_folder(out, 'plain', 2, 16, 0, workers=1)
    assert (out / 'face00000.png').exists()


def test_failure_leaves_nothing(drawing, tmp_path, monkeypatch):
    def fail(face, style, size):
        raise RuntimeError('no more ink')

    monkeypatch.setattr(render_faces, 'render_face', fail)
    with pytest.raises(RuntimeError):
        render_faces.render_folder(tmp_path / 'out', 'plain', 2, 16, 0, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_processes_render_the_same(drawing, tmp_path):
    assert render_faces.render_folder(tmp_path / 'out', 'plain', 200, 16, 0, workers=2)
    assert len(list((tmp_path / 'out').glob('face*.png'))) == 200
    expected = render_faces.render_face(render_faces.sample_face(0, 199), 'plain', 16)
    assert (tmp_path / 'out' / 'face00199.png').read_bytes() == expected


class Page(HTMLParser):
    """Collects what a page refers to and says, and checks that its tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [
            value for name, value in attrs if name in ('src', 'href', 'srcset', 'action')
        ]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_report_is_one_escaped_file(tmp_path, picture):
    nasty = '<script>alert("x")</script> & \'y\''
    path = tmp_path / 'deep' / 'report.html'
    write_report(
        path,
        title=nasty,
        lead=nasty,
        facts={nasty: nasty},
        sections=[
            Section(
                nasty,
                [
                    nasty,
                    'run `a < b`',
                    Command(f'echo {nasty}', 75.2),
                    Command('ls'),
                    Figure(nasty, picture, 3),
                    Figure('two', picture),
                    PictureTable(nasty, ['left', nasty], {nasty: [picture, None]}),
                    Table(nasty, [nasty, 'n', 'd'], [[nasty, 1234, 0.123456], ['b', 5, None]]),
                    Table('empty', ['a'], []),
                ],
            ),
        ],
    )
    html = path.read_text(encoding='utf-8')
    page = Page(html)
    assert 'script' not in page.tags
    # every place that takes text, once; title and heading from the same
    assert ''.join(page.text).count(nasty) == 15
    assert page.sources and all(
        source.startswith('data:image/png;base64,') for source in page.sources
    )
    assert not re.search(r'https?://|@import|url\(', html)
    assert 'image-rendering: pixelated' in html and 'prefers-color-scheme: dark' in html
    assert '<code>a &lt; b</code>' in html
    assert '1m 15s' in html and '1,234' in html and '0.1235' in html and 'width:12px' in html
    assert html.count('class="figures"') == 1
    with Image.open(io.BytesIO(base64.b64decode(page.sources[0].split(',')[1]))) as shown:
        assert shown.size == (4, 4) and shown.getpixel((0, 0)) == (255, 0, 0)


def test_report_is_atomic(tmp_path, picture):
    path = tmp_path / 'report.html'
    path.write_text('old')
    with pytest.raises(UserError, match='gone.png'):
        write_report(path, title='t', sections=[Section('s', [Figure('f', tmp_path / 'gone.png')])])
    with pytest.raises(UserError, match='1 pictures for 2 columns'):
        write_report(
            path,
            title='t',
            sections=[Section('s', [PictureTable('c', ['a', 'b'], {'r': [picture]})])],
        )
    assert path.read_text() == 'old'
    assert sorted(tmp_path.iterdir()) == [picture, path]


def test_tiles_and_comparison(tmp_path, picture):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for i, color in enumerate(['red', 'lime', 'blue', 'white', 'black']):
        Image.new('RGB', (8, 8), color).save(folder / f'{i}.png')
    tile_pictures(folder, tmp_path / 'grid.png', count=3, columns=2)
    with Image.open(tmp_path / 'grid.png') as grid:
        assert grid.size == (16, 16)
        assert [grid.getpixel(place) for place in ((0, 0), (8, 0), (0, 8))] == [
            (255, 0, 0),
            (0, 255, 0),
            (0, 0, 255),
        ]
    tile_pictures(folder, tmp_path / 'row.png', count=64, columns=8, size=16)
    with Image.open(tmp_path / 'row.png') as row:
        assert row.size == (80, 16)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='no pictures'):
        tile_pictures(tmp_path / 'empty', tmp_path / 'none.png')

    compare_pictures(
        tmp_path / 'sheet.png',
        columns=['a', 'b'],
        rows={'one': [picture, None], 'two': [picture, picture]},
        cell=32,
    )
    with Image.open(tmp_path / 'sheet.png') as sheet:
        reds = (np.asarray(sheet) == (255, 0, 0)).all(axis=2).sum()
    assert reds == 3 * 96 * 96, 'cells are enlarged to a legible size'


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / 'demo' / 'run.py'), '--out', str(tmp_path), '--device=cpu'],
        check=True,
    )
    page = (tmp_path / 'report.html').read_text()
    assert 'swap at 16' in page and 'Fréchet distance' in page
