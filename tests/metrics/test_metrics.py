"""Frechet distances: closed forms, torch-fidelity as the reference, weights that are missing or
hostile, and the script.
"""

import functools
import hashlib
import http.server
import json
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image

import calc_fid
from dnnlib import UserError
from metrics import detectors
from metrics.compare import make_evaluator
from metrics.detectors import RandomVGG16, load_detector
from metrics.features import FeatureCollector, FeatureStats, MeanCov
from metrics.fid import bias_warning, frechet_distance
from metrics.image_set import PictureSet, to_rgb
from metrics.metric import metric_names, parse_metrics, validate_metrics
from training.networks import Generator
from training.snapshots import Networks, save_networks

pytestmark = pytest.mark.usefixtures('own_cache')
CPU = torch.device('cpu')
VGG_SHA256 = '1038f264fba644f88616a74971d732e0d4a85c1b9138f6f60bf2606dfefe8a9f'


def draw_pictures(folder: Path, num: int, *, seed: int = 0, tint: int = 0, size: int = 32) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(seed)
    for i in range(num):
        pixels = rng.randint(0, 200, (4, 4, 3)).astype(np.uint8)
        pixels[:, :, 0] += tint
        Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(
            folder / f'{i:03}.png'
        )
    return folder


@pytest.fixture(scope='module')
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp('sets')
    return draw_pictures(root / 'real', 6, seed=1), draw_pictures(root / 'fake', 5, seed=2, tint=50)


# ---------------------------------------------------------------- the distance


def gaussian(dims: int, seed: int, num: int = 10) -> MeanCov:
    rng = np.random.RandomState(seed)
    factor = rng.randn(dims, dims) / dims**0.5
    return MeanCov(num, rng.randn(dims), factor @ factor.T + 0.1 * np.eye(dims))


def of_samples(x: np.ndarray) -> MeanCov:
    return MeanCov(len(x), x.mean(axis=0), np.cov(x.T, bias=True))


def test_closed_form_of_diagonal_gaussians() -> None:
    a = MeanCov(2, np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    b = MeanCov(2, np.array([0.0, 4.0]), np.diag([1.0, 16.0]))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 4) ** 2, abs=1e-12)


def test_closed_form_under_rotation() -> None:
    rotation = np.linalg.qr(np.random.RandomState(0).randn(3, 3))[0]
    covs = [
        rotation @ np.diag(values) @ rotation.T for values in ([1.0, 4.0, 0.0], [9.0, 4.0, 25.0])
    ]
    a, b = (MeanCov(2, np.zeros(3), cov) for cov in covs)
    assert frechet_distance(a, b) == pytest.approx(4 + 0 + 25, abs=1e-9)


@pytest.mark.parametrize('dims', [3, 40])
def test_agrees_with_sqrtm(dims: int) -> None:
    a, b = gaussian(dims, 0), gaussian(dims, 1)
    root = scipy.linalg.sqrtm(a.cov @ b.cov)
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.cov + b.cov - 2 * root).real
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('num', [2, 7, 300])
def test_identical_sets_are_at_zero(num: int) -> None:
    stats = of_samples(np.random.RandomState(0).randn(num, 100))
    assert 0 <= frechet_distance(stats, stats) < 1e-6


def test_singular_covariances_stay_finite_and_exact() -> None:
    rng = np.random.RandomState(0)
    x, y = rng.randn(5, 100), rng.randn(8, 100) + 1
    small = frechet_distance(of_samples(x), of_samples(y))
    values = np.linalg.eigvals(of_samples(x).cov @ of_samples(y).cov).real.clip(0)
    expected = (
        np.square(x.mean(0) - y.mean(0)).sum()
        + x.var(0).sum()
        + y.var(0).sum()
        - 2 * np.sqrt(values).sum()
    )
    assert small == pytest.approx(expected, rel=1e-5)
    # A rotation of feature space must change nothing.
    rotation = np.linalg.qr(rng.randn(100, 100))[0]
    assert frechet_distance(of_samples(x @ rotation), of_samples(y @ rotation)) == pytest.approx(
        small, rel=1e-9
    )


def test_constant_features_and_unequal_dimensions() -> None:
    constant = MeanCov(3, np.ones(4), np.zeros((4, 4)))
    assert frechet_distance(constant, constant) == 0
    assert frechet_distance(constant, MeanCov(3, np.zeros(4), np.eye(4))) == pytest.approx(8)
    with pytest.raises(ValueError, match='4 and 3'):
        frechet_distance(constant, gaussian(3, 0))


def test_bias_is_told_below_2048() -> None:
    assert bias_warning('FID', 2048) is None
    assert '2,047' in (bias_warning('FID', 2047) or '')


# ---------------------------------------------------------------- streaming statistics


def stats_of(folder: Path, detector: detectors.Detector) -> MeanCov:
    collector = FeatureCollector(detector)
    for batch in PictureSet(folder).batches():
        collector.append(batch)
    return collector.result().stats


@pytest.mark.parametrize('batch', [1, 3, 64, 500])
def test_streaming_agrees_with_numpy(batch: int) -> None:
    # a mean that is large against the spread
    x = np.random.RandomState(0).randn(333, 12).astype(np.float32) + 1000
    stats = FeatureStats()
    for chunk in np.split(x, range(batch, len(x), batch)):
        stats.append(torch.from_numpy(chunk))
    stats.append(torch.zeros(0, 12))
    result = stats.mean_cov()
    exact = x.astype(np.float64)
    assert result.num == 333 and result.mean.dtype == result.cov.dtype == np.float64
    np.testing.assert_allclose(result.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.cov, np.cov(exact.T, bias=True), atol=1e-9)


def test_statistics_need_two_finite_pictures() -> None:
    stats = FeatureStats()
    for expected in ('got 0 pictures', 'got 1 picture;'):
        with pytest.raises(UserError, match=expected):
            stats.mean_cov()
        stats.append(torch.zeros(1, 3))
    stats.append(torch.full((1, 3), float('nan')))
    with pytest.raises(UserError, match='not finite'):
        stats.mean_cov()


# ---------------------------------------------------------------- pictures


def test_colours_become_rgb_over_white() -> None:
    grey = np.full((1, 1, 1), 7, np.uint8)
    assert to_rgb(grey).tolist() == [[[7, 7, 7]]]
    assert to_rgb(np.array([[[10, 255], [10, 0]]], np.uint8)).tolist() == [[[10] * 3, [255] * 3]]
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    assert to_rgb(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]


def test_batches_hold_one_size_and_lose_nothing(tmp_path: Path) -> None:
    for i in range(23):
        Image.new('L', (8 + i % 3, 8), i).save(tmp_path / f'{i:02}.png')
    for batch in (1, 2, 4, 50):
        batches = list(PictureSet(tmp_path).batches(batch))
        assert all(b.dtype == torch.uint8 and b.shape[1] == 3 and len(b) <= batch for b in batches)
        assert sorted(int(picture[0, 0, 0]) for b in batches for picture in b) == list(range(23))


def test_many_sizes_do_not_pile_up(tmp_path: Path) -> None:
    for i in range(20):
        Image.new('L', (8 + i, 8), i).save(tmp_path / f'{i:02}.png')
    pictures = PictureSet(tmp_path)
    taken = 0

    def counting(
        *args: Any, ahead: Callable[..., Iterator[Any]] = pictures._ahead
    ) -> Iterator[Any]:
        nonlocal taken
        for pixels in ahead(*args):
            taken += 1
            yield pixels

    pictures._ahead = counting  # type: ignore[method-assign]
    next(pictures.batches(2))
    assert taken == 8


def test_choice_is_seeded_and_nested(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 20, size=4)
    chosen = {num: set(PictureSet(tmp_path, num=num, seed=3).names) for num in (5, 10, 99)}
    assert [len(chosen[num]) for num in chosen] == [5, 10, 20]
    assert chosen[5] < chosen[10]
    assert (
        chosen[5]
        == set(PictureSet(tmp_path, num=5, seed=3).names)
        != set(PictureSet(tmp_path, num=5, seed=4).names)
    )


def test_zip_is_read_like_its_folder(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / 'set', 5)
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    a, b = (torch.cat(list(PictureSet(path).batches(2))) for path in (folder, tmp_path / 'set.zip'))
    assert torch.equal(a, b)


# ---------------------------------------------------------------- detectors


@functools.cache
def random_vgg() -> detectors.Detector:
    return load_detector('random-vgg', device=CPU)


def test_random_vgg_has_the_same_weights_everywhere() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    net = RandomVGG16()
    assert (
        torch.equal(torch.get_rng_state(), state) and np.random.get_state()[1].tolist() == before[1]
    )
    assert net.sha256 == random_vgg().sha256 == VGG_SHA256
    torch.set_rng_state(before[0])


def test_random_vgg_features() -> None:
    rng = np.random.RandomState(0)
    pictures = torch.from_numpy(rng.randint(0, 256, (3, 3, 40, 56)).astype(np.uint8))
    features = random_vgg()(pictures)
    assert features.shape == (3, 64) and features.dtype == torch.float32
    assert torch.equal(features, random_vgg()(pictures))
    torch.testing.assert_close(random_vgg()(pictures[1:2]), features[1:2], rtol=1e-4, atol=1e-5)
    grey = pictures[:, :1]
    assert torch.equal(random_vgg()(grey), random_vgg()(grey.repeat(1, 3, 1, 1)))
    for wrong in (pictures.float(), pictures[0], pictures[:, :2]):
        with pytest.raises(ValueError, match='uint8'):
            random_vgg()(wrong)


@pytest.mark.parametrize('around', ['ieee', 'tf32'])
@pytest.mark.parametrize(
    'precision, expected', [('float32', 'ieee'), ('tf32', 'tf32'), ('bfloat16', 'ieee')]
)
def test_switches_are_the_detectors_and_restored(
    around: str, precision: str, expected: str
) -> None:
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision
    seen: list[Any] = []

    class Net(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            seen.append(
                (conv.fp32_precision, matmul.fp32_precision, torch.is_autocast_enabled('cpu'))
            )
            if len(seen) > 1:
                raise UserError('broken')
            return pictures.mean((2, 3), dtype=torch.bfloat16)

    detector = detectors.Detector('net', '', Net(), CPU, precision=precision)
    try:
        conv.fp32_precision = matmul.fp32_precision = around
        with torch.autocast('cpu', torch.bfloat16):  # of somebody else
            assert detector(torch.zeros(2, 3, 4, 4, dtype=torch.uint8)).dtype == torch.float32
            with pytest.raises(UserError, match='broken'):
                detector(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
        assert seen == [(expected, 'ieee', precision == 'bfloat16')] * 2
        assert (conv.fp32_precision, matmul.fp32_precision) == (around, around)
    finally:
        conv.fp32_precision, matmul.fp32_precision = before


def test_inception_agrees_with_torch_fidelity(
    sets: tuple[Path, Path], inception_file: Path
) -> None:
    import torch_fidelity

    state = torch.get_rng_state()
    log: list[str] = []
    detector = load_detector('inception', device=CPU, weights_path=inception_file, log=log.append)
    assert torch.equal(torch.get_rng_state(), state)
    sha256 = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    assert detector.sha256 == sha256 and len(log) == 1 and sha256 in log[0]

    a, b = (stats_of(path, detector) for path in sets)
    assert a.mean.shape == (2048,)
    # It divides covariances by N - 1.
    ours = frechet_distance(*(MeanCov(s.num, s.mean, s.cov * s.num / (s.num - 1)) for s in (a, b)))
    theirs = torch_fidelity.calculate_metrics(
        input1=str(sets[0]),
        input2=str(sets[1]),
        fid=True,
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        feature_extractor='inception-v3-compat',
        feature_extractor_weights_path=str(inception_file),
    )
    assert ours == pytest.approx(theirs['frechet_inception_distance'], rel=1e-3)
    assert frechet_distance(a, b) < ours


class Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize(
    'write',
    [
        lambda path, thing: path.write_bytes(pickle.dumps(thing)),
        lambda path, thing: torch.save(thing, path),
        lambda path, thing: torch.save({'fc.bias': thing}, path),
        lambda path, thing: torch.save(thing, path, _use_new_zipfile_serialization=False),
    ],
)
def test_hostile_weights_are_not_executed(
    tmp_path: Path, write: Callable[[Path, Hostile], None]
) -> None:
    write(tmp_path / 'weights.pth', Hostile(tmp_path / 'executed'))
    # without torch's advice to trust it
    with pytest.raises(UserError, match='not a file of plain weights'):
        load_detector(
            'inception', device=CPU, weights_path=tmp_path / 'weights.pth', log=lambda message: None
        )
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize(
    'content', [{}, {'fc.bias': torch.zeros(3)}, [1, 2], torch.zeros(2), {1: 2}, 'text']
)
def test_weights_of_something_else_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / 'weights.pth')
    with pytest.raises(UserError, match="not the weights of torch-fidelity's Inception"):
        load_detector(
            'inception', device=CPU, weights_path=tmp_path / 'weights.pth', log=lambda message: None
        )


@pytest.mark.parametrize('data', [b'', b'\0' * 100, b'PK\3\4', b'<html>not found</html>'])
def test_weights_that_are_no_file_of_torch_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / 'weights.pth').write_bytes(data)
    with pytest.raises(UserError, match='not a file of plain weights'):
        load_detector(
            'inception', device=CPU, weights_path=tmp_path / 'weights.pth', log=lambda message: None
        )


# ---------------------------------------------------------------- downloads


class Server:
    """Answers on 127.0.0.1 with the files it is given; `requests` are the paths asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                data = server.files.get(self.path)
                self.send_response(404 if data is None else 200)
                if data is not None:
                    self.send_header(
                        'Content-Length', str(len(data) * (2 if 'broken' in self.path else 1))
                    )
                self.end_headers()
                self.wfile.write(data or b'')

            def log_message(self, *args: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._http.server_port}'
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv('no_proxy', '*')
    running = Server()
    yield running
    running.close()


def test_inception_weights_are_downloaded_once(
    server: Server, tmp_path: Path, inception_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = inception_file.read_bytes()
    server.files = {'/inception.pth': data}
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(detectors, 'INCEPTION_URL', server.url + '/inception.pth')
    monkeypatch.setattr(detectors, 'INCEPTION_SHA256', hashlib.sha256(data).hexdigest()[:8])
    cached = tmp_path / 'detectors' / detectors.INCEPTION_FILE
    cached.parent.mkdir()
    cached.write_bytes(b'half of an older download')
    log: list[str] = []
    with pytest.raises(UserError, match=f'{cached}: .*not a PyTorch file; remove it'):
        detectors._cached_inception(log.append)
    cached.unlink()
    assert detectors._cached_inception(log.append) == cached and cached.read_bytes() == data
    load_detector('inception', device=CPU, log=log.append)
    assert len(server.requests) == 1 and len(log) == 1 and log[0].startswith('downloading ')


# ---------------------------------------------------------------- metrics by name


def test_names_of_metrics() -> None:
    assert len({validate_metrics([name]) for name in metric_names()}) == len(metric_names())
    described = {
        name: validate_metrics([name])[0]
        for name in (
            'fid50k_full',
            'fid50k',
            'fid10k_full',
            'kid50k_full',
            'pr50k3_full',
            'pr50k3',
            'is50k',
            'fd_random_vgg500_full',
            'ppl2_wend',
        )
    }
    assert {
        name: (m.kind.key, m.detector, m.num_fake, m.num_real, m.full)
        for name, m in described.items()
    } == {
        'fid50k_full': ('fid', 'inception', 50000, None, True),
        'fid50k': ('fid', 'inception', 50000, 50000, False),
        'fid10k_full': ('fid', 'inception', 10000, None, True),
        'kid50k_full': ('kid', 'inception', 50000, None, True),
        'pr50k3_full': ('pr', 'vgg16', 50000, 200000, True),
        'pr50k3': ('pr', 'vgg16', 50000, 50000, False),
        'is50k': ('is', 'inception', 50000, None, True),
        'fd_random_vgg500_full': ('fid', 'random-vgg', 500, None, True),
        'ppl2_wend': ('ppl', '', 50000, None, False),
    }
    for name in (
        'fid',
        'fid0k_full',
        'fid1_full',
        'fid50k_full ',
        'pr50k4',
        'ppl2_zend',
        'fid1٣k_full',
        '',
    ):
        with pytest.raises(UserError, match='fid50k_full, '):
            make_evaluator([name], 'nowhere', device=CPU)
    short = parse_metrics('fid,kid pr, fid,fid50k_full', 'random-vgg')
    assert [(m.name, m.detector) for m in short] == [
        ('fd_random_vgg', 'random-vgg'),
        ('kd_random_vgg', 'random-vgg'),
        ('pr', 'random-vgg'),
        ('fid50k_full', 'inception'),
    ]
    for text in ('', ' ,', 'fid,lpips'):
        with pytest.raises(UserError, match='--metrics='):
            parse_metrics(text, 'inception')


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


# ---------------------------------------------------------------- the script


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


def assert_one_error_line(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if 'error' in line]
    assert out == '' and 'Traceback' not in err
    assert len(errors) == 1 and errors[0].startswith('calc_fid.py: error: ')
    for word in words:
        assert word in errors[0]


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
