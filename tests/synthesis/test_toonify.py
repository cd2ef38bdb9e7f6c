"""Photographs to toons: the whole way in one command, and each step left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN
from PIL import Image

import blend
import generate
import toonify
from dataset_tools.image.resize import resize
from training.snapshots import load_networks, save_networks

BASE = str(GOLDEN / 'ada-uncond-32.pkl')


@pytest.fixture(scope='module')
def tuned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network whose every parameter differs from the base's."""
    networks = load_networks(BASE)
    for parameter in networks.G_ema.parameters():
        parameter.data.mul_(1.3).add_(0.05)
    path = tmp_path_factory.mktemp('tuned') / 'toon.pkl'
    save_networks(path, networks)
    return str(path)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / 'person.jpg'
    Image.fromarray(np.random.RandomState(0).randint(0, 256, [40, 50, 3], dtype=np.uint8)).save(
        path
    )
    return path


def run(outdir: Path, *options: str | Path, code: int = 0) -> Path:
    words = ['--outdir', str(outdir), '--device=cpu', *map(str, options)]
    if '--projected-w' not in options:
        words += ['--num-steps=2', '--loss=pyramid']
    assert toonify.main(words) == code
    return outdir


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert('RGB'))


def test_the_toon_is_what_the_blend_draws_from_the_photos_ws(
    photo: Path, tuned: str, tmp_path: Path
) -> None:
    out = run(
        tmp_path / 'out',
        photo,
        '--network',
        BASE,
        '--toon',
        tuned,
        '--swap-resolution=8',
        '--align=none',
    )
    assert sorted(path.name for path in out.iterdir()) == [
        'person-steps.png',
        'person.npz',
        'person.png',
    ]
    steps = pixels(out / 'person-steps.png')
    assert steps.shape == (32, 96, 3) and np.array_equal(steps[:, 64:], pixels(out / 'person.png'))
    middle = resize(Image.open(photo).crop((5, 0, 45, 40)), (32, 32), 'lanczos', (0, 0, 40, 40))
    assert np.abs(steps[:, :32].astype(int) - np.asarray(middle)).max() <= 1
    assert (
        blend.main(
            [
                '--low',
                BASE,
                '--high',
                tuned,
                '--swap-resolution=8',
                '--output',
                str(tmp_path / 'blend.pkl'),
            ]
        )
        == 0
    )
    for network, part in [(BASE, steps[:, 32:64]), (str(tmp_path / 'blend.pkl'), steps[:, 64:])]:
        assert (
            generate.main(
                [
                    '--network',
                    network,
                    '--projected-w',
                    str(out / 'person.npz'),
                    '--outdir',
                    str(tmp_path / 'again'),
                    '--device=cpu',
                ]
            )
            == 0
        )
        (picture,) = (tmp_path / 'again').glob('*.png')
        assert np.array_equal(pixels(picture), part)
    with Image.open(out / 'person.png') as picture:
        info = json.loads(picture.info['toonify'])
    assert (
        info['swap_resolution'] == 8
        and info['photo'] == 'person'
        and info['low_sha256'] == load_networks(BASE).meta['sha256']
    )

    blended = run(
        tmp_path / 'blended',
        photo,
        '--network',
        BASE,
        '--blended',
        tmp_path / 'blend.pkl',
        '--align=none',
    )
    assert np.array_equal(pixels(blended / 'person-steps.png'), steps)
    saved = run(
        tmp_path / 'saved', '--projected-w', out / 'person.npz', '--blended', tmp_path / 'blend.pkl'
    )
    assert (
        np.array_equal(pixels(saved / 'person-steps.png'), steps[:, 64:])
        and not (saved / 'person.npz').exists()
    )


def test_structure_of_the_toon(photo: Path, tuned: str, tmp_path: Path) -> None:
    common = (photo, '--network', BASE, '--toon', tuned, '--align=none')
    ours = run(tmp_path / 'ours', *common, '--swap-resolution=8', '--structure=network')
    theirs = run(tmp_path / 'theirs', *common, '--swap-resolution=8', '--structure=toon')
    assert not np.array_equal(pixels(ours / 'person.png'), pixels(theirs / 'person.png'))
    assert (
        blend.main(
            [
                '--low',
                tuned,
                '--high',
                BASE,
                '--mapping=high',
                '--swap-resolution=8',
                '--output',
                str(tmp_path / 'b.pkl'),
            ]
        )
        == 0
    )
    saved = run(
        tmp_path / 'saved', '--projected-w', theirs / 'person.npz', '--blended', tmp_path / 'b.pkl'
    )
    assert np.array_equal(pixels(saved / 'person.png'), pixels(theirs / 'person.png'))
    smooth = run(tmp_path / 'smooth', *common, '--swap-resolution=8', '--blend-width=1')
    assert not np.array_equal(pixels(smooth / 'person.png'), pixels(ours / 'person.png'))


def test_truncation_and_space(photo: Path, tuned: str, tmp_path: Path) -> None:
    common = (photo, '--network', BASE, '--toon', tuned, '--swap-resolution=8', '--align=none')
    plain, mean, w = (
        run(tmp_path / name, *common, *more)
        for name, more in [('a', []), ('b', ['--trunc=0']), ('c', ['--space=w'])]
    )
    assert not np.array_equal(pixels(plain / 'person.png'), pixels(mean / 'person.png'))
    assert np.array_equal(
        pixels(plain / 'person-steps.png')[:, :64], pixels(mean / 'person-steps.png')[:, :64]
    )
    ws = {out: np.load(out / 'person.npz')['w'][0] for out in (plain, w)}
    assert np.ptp(ws[w], axis=0).max() == 0 < np.ptp(ws[plain], axis=0).max()


def test_folders_and_pictures_that_cannot_be_used(
    photo: Path, tuned: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('a', 'b', 'c'):
        (folder / f'{name}.jpg').write_bytes(photo.read_bytes())
    (folder / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\nnothing')
    common = ('--network', BASE, '--toon', tuned, '--swap-resolution=8', '--align=none')
    out = run(tmp_path / 'out', folder, *common, '--batch=2')
    assert sorted(path.name for path in out.glob('?.png')) == ['a.png', 'b.png', 'c.png']
    assert 'left out' in (error := capsys.readouterr().err) and 'broken.png' in error
    # alike, alone or in a batch
    np.testing.assert_allclose(np.load(out / 'a.npz')['w'], np.load(out / 'c.npz')['w'], atol=1e-4)
    run(tmp_path / 'none', folder / 'broken.png', *common, code=2)
    assert 'broken.png' in capsys.readouterr().err and not (tmp_path / 'none').exists()


def test_landmarks_replace_the_detector(
    tuned: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Marked ones need no dlib; what is cut out is what prepare_data.py cuts out."""
    data = pytest.importorskip('skimage.data')
    Image.fromarray(data.astronaut()).save(tmp_path / 'astronaut.png')
    marks = {
        'astronaut.png': [
            {
                'eye_left': [203, 101],
                'eye_right': [246, 104],
                'mouth_left': [201, 139],
                'mouth_right': [246, 141],
            }
        ]
    }
    (tmp_path / 'marks.json').write_text(json.dumps(marks))
    common = (tmp_path / 'astronaut.png', '--network', BASE, '--toon', tuned, '--swap-resolution=8')
    marked = pixels(
        run(tmp_path / 'marked', *common, '--landmarks', tmp_path / 'marks.json')
        / 'astronaut-steps.png'
    )[:, :32]
    assert 'licence' not in capsys.readouterr().err
    whole = pixels(run(tmp_path / 'whole', *common, '--align=none') / 'astronaut-steps.png')[:, :32]
    assert np.abs(marked.astype(int) - whole).mean() > 20
    pytest.importorskip('dlib')
    pytest.importorskip('face_recognition_models')
    found = pixels(run(tmp_path / 'found', *common) / 'astronaut-steps.png')[:, :32]
    assert 'licence' in capsys.readouterr().err
    assert np.abs(marked.astype(int) - found).mean() < 8


def test_photographs_without_a_face(
    photo: Path, tuned: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip('dlib')
    run(tmp_path / 'out', photo, '--network', BASE, '--toon', tuned, '--swap-resolution=8', code=2)
    assert 'without a face' in (error := capsys.readouterr().err) and '--landmarks' in error


@pytest.mark.parametrize(
    'options,words',
    [
        (['--network', 'a', '--toon', 'b', '--swap-resolution=8'], 'photographs are missing'),
        (['x.jpg', '--toon', 'b', '--swap-resolution=8'], '--network is missing'),
        (['x.jpg', '--network', 'a', '--swap-resolution=8'], '--toon is missing'),
        (['x.jpg', '--network', 'a', '--toon', 'b'], '--swap-resolution is missing'),
        (
            ['x.jpg', '--network', 'a', '--blended', 'c', '--toon', 'b'],
            '--toon=b contradicts --blended',
        ),
        (['x.jpg', '--blended', 'c'], '--network is missing'),
        (['x.jpg', '--projected-w', 'x.npz', '--blended', 'c'], 'takes the place of photographs'),
        (
            [
                BASE,
                '--network',
                'a',
                '--toon',
                'b',
                '--swap-resolution=8',
                '--align=none',
                '--landmarks=m.json',
            ],
            'does nothing without --align=ffhq',
        ),
        (
            ['x.jpg', '--network', 'a', '--toon', 'b', '--swap-resolution=8', '--align=none'],
            'x.jpg: no such file',
        ),
    ],
)
def test_options_that_cannot_work_are_one_line(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert toonify.main(['--outdir', str(tmp_path / 'out'), '--device=cpu', *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1 and not (tmp_path / 'out').exists()


def test_networks_that_do_not_fit(
    photo: Path, tuned: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    common = (photo, '--network', BASE, '--align=none')
    run(tmp_path / 'out', *common, '--toon', tuned, '--swap-resolution=64', code=2)
    assert '--swap-resolution=64' in capsys.readouterr().err
    run(
        tmp_path / 'out',
        *common,
        '--toon',
        GOLDEN / 'ada-cond-32.pkl',
        '--swap-resolution=8',
        code=2,
    )
    assert 'the networks differ' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
