"""The evaluator of training runs, and calc_fid.py: its reports and its errors."""

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_sets import assert_one_error_line, draw_pictures, stats_of

import calc_fid
from dnnlib import UserError
from metrics import detectors
from metrics.compare import make_evaluator
from metrics.detectors import load_detector
from metrics.fid import frechet_distance
from metrics.image_set import PictureSet
from training.networks import Generator
from training.snapshots import Networks, save_networks

pytestmark = pytest.mark.usefixtures('own_cache')
CPU = torch.device('cpu')
VGG_SHA256 = '1038f264fba644f88616a74971d732e0d4a85c1b9138f6f60bf2606dfefe8a9f'


@pytest.fixture(scope='module')
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp('sets')
    return draw_pictures(root / 'real', 6, seed=1), draw_pictures(root / 'fake', 5, seed=2, tint=50)


@functools.cache
def random_vgg() -> detectors.Detector:
    return load_detector('random-vgg', device=CPU)


def test_evaluator(sets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    log: list[str] = []

    def sample(num: int) -> Iterator[torch.Tensor]:
        asked.append(num)
        pictures = torch.cat(list(PictureSet(sets[1]).batches()))
        yield from pictures.repeat(2, 1, 1, 1)[:num].split(3)

    evaluate = make_evaluator(
        ['fd_random_vgg5_full', 'fd_random_vgg4_full'], sets[0], device=CPU, log=log.append
    )
    result = evaluate(sample)
    assert asked == [5, 4] and list(result) == ['fd_random_vgg5_full', 'fd_random_vgg4_full']
    assert len(log) == 2 and all('biased' in line and 'FID' not in line for line in log)
    expected = frechet_distance(*(stats_of(path, random_vgg()) for path in sets))
    assert result['fd_random_vgg5_full'] == pytest.approx(expected, rel=1e-6)
    # The real side is kept.
    monkeypatch.setattr('metrics.feature_sources.FileSource.open', None)
    assert evaluate(sample) == result


def test_evaluator_says_what_is_missing_and_tries_again(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    # nobody listens there
    monkeypatch.setattr(detectors, 'INCEPTION_URL', 'http://127.0.0.1:9/inception.pth')
    monkeypatch.setenv('no_proxy', '*')
    log: list[str] = []
    evaluate = make_evaluator(['fid50k_full'], sets[0], device=CPU, log=log.append)
    for _ in range(2):
        with pytest.raises(UserError, match=r'127\.0\.0\.1:9/inception\.pth.*--detector-weights'):
            evaluate(lambda num: iter(()))
    assert len(log) == 2
    evaluate = make_evaluator(['fd_random_vgg1k_full'], tmp_path / 'nowhere', device=CPU)
    with pytest.raises(UserError, match='nowhere'):
        evaluate(lambda num: iter(()))


def test_script_with_random_vgg(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        '--real',
        str(sets[0]),
        '--fake',
        str(sets[1]),
        '--detector',
        'random-vgg',
        '--device',
        'cpu',
    ]
    assert calc_fid.main([*arguments, '--batch', '4', '--json']) == 0
    out, err = capsys.readouterr()
    report = json.loads(out.splitlines()[-1])
    assert len(out.splitlines()) == 1 and list(report['results']) == ['fd_random_vgg']
    assert report['results']['fd_random_vgg'] > 0
    assert (report['num_real'], report['num_fake'], report['seed']) == (6, 5, 0)
    assert (report['detector'], report['detector_sha256']) == ('random-vgg', VGG_SHA256)
    assert 'biased' in err and 'FID' not in out + err

    assert calc_fid.main(arguments) == 0
    out, err = capsys.readouterr()
    assert (
        out.startswith('Frechet distance in a random VGG-16 embedding: ') and out.count('\n') == 1
    )
    assert 'FID' not in out + err


def test_script_num_takes_a_seeded_choice(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        '--real',
        str(sets[0]),
        '--fake',
        str(sets[0]),
        '--detector',
        'random-vgg',
        '--device',
        'cpu',
        '--json',
        '--num',
        '3',
    ]
    assert calc_fid.main([*arguments, '--seed', '7']) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report['num_real'], report['num_fake'], report['seed']) == (3, 3, 7)
    assert report['results']['fd_random_vgg'] < 1e-6


def test_script_with_inception_weights_by_path(
    sets: tuple[Path, Path], inception_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    arguments = [
        '--real',
        str(sets[0]),
        '--fake',
        str(sets[1]),
        '--device',
        'cpu',
        '--num',
        '2',
        '--detector-weights',
        str(inception_file),
    ]
    assert calc_fid.main([*arguments, '--json']) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert list(report['results']) == ['fid'] and np.isfinite(report['results']['fid'])
    assert (
        report['detector_sha256'] == sha256
        and sha256 in err
        and 'FID from 2 pictures is biased' in err
    )


def test_script_with_a_snapshot(
    sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    G = Generator(z_dim=8, c_dim=0, w_dim=8, img_resolution=16, img_channels=3).eval()
    snapshot = tmp_path / 'network-snapshot-000000.pkl'
    save_networks(snapshot, Networks(G=G, D=None, G_ema=G))
    arguments = [
        '--real',
        str(sets[0]),
        '--fake',
        str(snapshot),
        '--num',
        '5',
        '--detector',
        'random-vgg',
        '--device',
        'cpu',
        '--json',
    ]
    reports = []
    for seed in ('0', '0', '1'):
        assert calc_fid.main([*arguments, '--batch', '3', '--seed', seed]) == 0
        reports.append(json.loads(capsys.readouterr().out))
        assert reports[-1].pop('seconds') > 0 and reports[-1].pop('timestamp') > 0
    assert (reports[0]['num_real'], reports[0]['num_fake']) == (5, 5) and reports[0]['results'][
        'fd_random_vgg'
    ] > 0
    assert reports[0] == reports[1] and reports[0]['results'] != reports[2]['results']

    assert calc_fid.main([*arguments, '--batch', '2']) == 0
    other = json.loads(capsys.readouterr().out)['results']['fd_random_vgg']
    assert other == pytest.approx(reports[0]['results']['fd_random_vgg'], rel=1e-6), (
        'the batch does not matter'
    )

    snapshot.write_bytes(snapshot.read_bytes()[:-1000])
    assert calc_fid.main(arguments) == 2
    assert_one_error_line(capsys, snapshot.name)


@pytest.fixture(scope='module')
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('bad')
    draw_pictures(root / 'good', 3)
    draw_pictures(root / 'one', 1)
    (root / 'empty').mkdir()
    (root / 'text').mkdir()
    (root / 'text' / 'notes.txt').write_text('no picture')
    draw_pictures(root / 'broken', 3)
    (root / 'broken' / '001.png').write_bytes((root / 'broken' / '000.png').read_bytes()[:60])
    (root / 'broken.zip').write_bytes(b'PK\3\4 and nothing more')
    return root


@pytest.mark.parametrize(
    'options, words',
    [
        ('--real nowhere --fake good', ['nowhere', 'no such file']),
        ('--real good --fake nowhere.pkl', ['nowhere.pkl', 'no such file']),
        ('--real good --fake empty', ['empty', 'no pictures']),
        ('--real text --fake good', ['text', 'no pictures']),
        ('--real one --fake good', ['one', 'at least 2']),
        ('--real good --fake broken', ['001.png', 'not a readable picture']),
        ('--real broken.zip --fake good', ['broken.zip', 'zip']),
        ('--real good/000.png --fake good', ['000.png', 'no snapshot']),
        ('--real good --fake good --num 1', ['--num']),
        ('--real good --fake good --batch 0', ['--batch']),
        ('--real good --fake good --detector vgg', ['--detector', 'random-vgg']),
        (
            '--real good --fake good --detector-weights good/000.png',
            ['--detector-weights', 'random-vgg'],
        ),
        ('--real good', ['--fake']),
    ],
)
def test_script_refuses_bad_input(
    bad: Path,
    options: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(bad)
    assert calc_fid.main(['--device', 'cpu', '--detector', 'random-vgg', *options.split()]) == 2
    assert_one_error_line(capsys, *words)


def test_script_refuses_an_empty_path_and_missing_weights(
    bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(bad / 'good')
    assert calc_fid.main(['--real', '', '--fake', good]) == 2
    assert_one_error_line(capsys, '--real', 'empty')
    assert (
        calc_fid.main(
            [
                '--real',
                good,
                '--fake',
                good,
                '--device',
                'cpu',
                '--detector-weights',
                str(bad / 'nothing.pth'),
            ]
        )
        == 2
    )
    assert_one_error_line(capsys, '--detector-weights', 'nothing.pth')
