"""Detectors: the random VGG-16, torch-fidelity as the reference, missing and hostile weights."""

import functools
import hashlib
import http.server
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_sets import draw_pictures, stats_of

from dnnlib import UserError
from metrics import detectors
from metrics.detectors import RandomVGG16, load_detector
from metrics.features import MeanCov
from metrics.fid import frechet_distance

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


@pytest.mark.slow
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
def test_weights_that_are_not_a_torch_file_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / 'weights.pth').write_bytes(data)
    with pytest.raises(UserError, match='not a file of plain weights'):
        load_detector(
            'inception', device=CPU, weights_path=tmp_path / 'weights.pth', log=lambda message: None
        )


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
