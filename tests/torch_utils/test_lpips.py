"""LPIPS: the numbers of the package, weights from anywhere, and what is said without them."""

import hashlib
import http.server
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import lpips
import pytest
import torch
from conftest import GOLDEN

from dnnlib import UserError
from synthesis.projection_losses import choose_embedding, pyramid
from torch_utils import lpips as ours
from torch_utils.lpips import LPIPS, squared_distance, vgg_weights

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def reference() -> lpips.LPIPS:
    """The package's own, with a random trunk."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter('ignore')
        torch.manual_seed(0)
        return lpips.LPIPS(net='vgg', pnet_rand=True, verbose=False)


@pytest.fixture(scope='module')
def trunk(reference: lpips.LPIPS) -> dict[str, torch.Tensor]:
    """Its trunk under torchvision's names."""
    return {
        'features.' + name.split('.', 1)[1]: tensor
        for name, tensor in reference.net.state_dict().items()
    }


@pytest.fixture(scope='module')
def weights(trunk: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('vgg') / 'vgg.pth'
    # as torchvision's file
    torch.save(
        {**trunk, 'classifier.0.bias': torch.zeros(8)}, path, _use_new_zipfile_serialization=False
    )
    return path


@pytest.fixture(scope='module')
def net(weights: Path) -> LPIPS:
    return LPIPS(weights)


@pytest.mark.parametrize('size,channels', [(16, 3), (64, 3), (64, 1)])
def test_the_numbers_of_the_package(
    size: int, channels: int, net: LPIPS, reference: lpips.LPIPS
) -> None:
    torch.manual_seed(1)
    a, b = (torch.rand(2, channels, size, size) * 2 - 1 for _ in range(2))
    want = reference(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)).flatten()
    torch.testing.assert_close(squared_distance(net(a), net(b)), want, rtol=1e-4, atol=1e-6)
    assert want.min() > 1e-3


def test_large_pictures_are_averaged_to_256(net: LPIPS) -> None:
    small = torch.rand(1, 3, 256, 256) * 2 - 1
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(net(large), net(small))


def test_gradients_of_pictures_without_features(net: LPIPS) -> None:
    """The package divides by the root of a sum that may be 0, whose derivative is infinite."""
    dead = LPIPS.__new__(LPIPS)
    torch.nn.Module.__init__(dead)
    dead.net = lpips_without_features(net)
    images = torch.zeros(1, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(squared_distance(dead(images), torch.ones(1)).sum(), images)
    assert gradient.isfinite().all()


def lpips_without_features(net: LPIPS) -> torch.nn.Module:
    class Zeros(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [
                images.mean(dim=1, keepdim=True).expand(-1, head.model[-1].in_channels, -1, -1) * 0
                for head in net.net.lins
            ]

    module = torch.nn.Module()
    module.net, module.scaling_layer, module.lins = Zeros(), net.net.scaling_layer, net.net.lins
    return module


class Evil:
    def __reduce__(self) -> tuple[Callable, tuple]:
        return exec, ('raise SystemExit("executed")',)


@pytest.mark.parametrize(
    'content,words',
    [
        (b'', 'not a file of plain weights'),
        (b'\x80\x02nonsense', 'not a file of plain weights'),
        ({'x': Evil()}, 'not a file of plain weights'),
        (torch.zeros(3), 'not torchvision'),
        ({'features.0.weight': torch.zeros(64, 3, 3, 3)}, 'no features.0.bias'),
        ({'features.0.weight': torch.zeros(64, 3, 1, 1)}, 'no features.0.weight of [64, 3, 3, 3]'),
        ({'features.0.weight': 'x'}, 'no features.0.weight'),
    ],
)
def test_other_files(content: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / 'x.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for loss in ('auto', 'lpips'):  # a file that was given is never passed over
        with pytest.raises(UserError) as caught:
            choose_embedding(loss, path, 64, CPU)
        assert str(path) in str(caught.value) and words in str(caught.value)


@pytest.fixture
def served(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server with the weights in the place of torchvision's, empty caches, and the requests that
    it had.
    """
    data, asked = weights.read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(ours, 'VGG_SHA256', hashlib.sha256(data).hexdigest()[:8])
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(
            ours, 'VGG_URL', f'http://127.0.0.1:{httpd.server_port}/{ours.VGG_FILE}'
        )
        yield asked
        httpd.shutdown()


def test_downloaded_once_and_checked(
    served: list[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = vgg_weights()
    assert first.is_relative_to(tmp_path / 'cache') and first.read_bytes() == weights.read_bytes()
    assert vgg_weights() == first and served == [f'/{ours.VGG_FILE}']
    name, embed = choose_embedding('auto', None, 64, CPU)
    assert name == 'lpips'
    a, b = torch.rand(2, 2, 3, 64, 64).unbind(0)
    net = LPIPS(weights)
    torch.testing.assert_close(
        squared_distance(embed(a), embed(b)),
        squared_distance(net(a), net(b)) + squared_distance(pyramid(a), pyramid(b)),
    )
    monkeypatch.setattr(ours, 'VGG_SHA256', '00000000')
    with pytest.raises(UserError, match='expected 00000000…'):
        vgg_weights()


def test_pytorchs_own_cache_is_used(served: list[str], weights: Path, tmp_path: Path) -> None:
    path = tmp_path / 'torch' / 'hub' / 'checkpoints' / ours.VGG_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(weights.read_bytes())
    assert vgg_weights() == path and not served


def test_a_change_in_pytorchs_cache_is_noticed(
    served: list[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'torch' / 'hub' / 'checkpoints' / ours.VGG_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b'something else')
    with pytest.raises(UserError, match=f'{path}: .*expected {ours.VGG_SHA256}'):
        vgg_weights()
    path.write_bytes(weights.read_bytes())
    vgg_weights()
    with path.open('ab') as file:
        file.write(b'0')
    monkeypatch.setattr(ours, 'VGG_SHA256', '')  # as if the beginning of the hash were forged
    with pytest.raises(UserError, match='its SHA-256 has changed'):
        vgg_weights()


def test_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(ours, 'VGG_URL', 'http://127.0.0.1:9/vgg.pth')
    monkeypatch.setattr('dnnlib.download.ATTEMPTS', 1)
    assert choose_embedding('auto', None, 64, CPU) == ('pyramid', pyramid)
    assert (
        len(caplog.messages) == 1
        and '--lpips-weights takes vgg16-397923af.pth' in caplog.messages[0]
        and 'download failed' in caplog.messages[0]
    )
    assert (
        choose_embedding('pyramid', None, 64, CPU) == ('pyramid', pyramid)
        and len(caplog.messages) == 1
    )
    with pytest.raises(UserError, match='download failed'):
        choose_embedding('lpips', None, 64, CPU)
    with pytest.raises(UserError, match='--lpips-weights=nowhere: no such file'):
        choose_embedding('auto', 'nowhere', 64, CPU)
    with pytest.raises(UserError, match='leave one of the two out'):
        choose_embedding('pyramid', GOLDEN / 'ops.npz', 64, CPU)
    with pytest.raises(UserError, match='at least 16 px, these have 8'):
        choose_embedding('lpips', None, 8, CPU)


def test_other_weights_are_reported(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert vgg_weights(weights) == weights and caplog.messages == [
        f'warning: {weights} is not the known {ours.VGG_FILE}; its SHA-256 is {digest}'
    ]
    monkeypatch.setattr(ours, 'VGG_SHA256', digest[:8])
    assert vgg_weights(weights) == weights and len(caplog.messages) == 1


def test_pyramid_by_hand() -> None:
    a, b = torch.rand(2, 3, 3, 32, 32).unbind(0)
    errors = []
    for size in (1, 2, 4):
        means = [
            x.reshape(3, 3, 32 // size, size, 32 // size, size).mean(dim=(3, 5)) for x in (a, b)
        ]
        errors.append((means[0] - means[1]).square().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(
        squared_distance(pyramid(a), pyramid(b)), torch.stack(errors).mean(dim=0)
    )
    torch.testing.assert_close(
        squared_distance(pyramid(a[:, :, :8, :8]), pyramid(b[:, :, :8, :8])),
        (a - b)[:, :, :8, :8].square().mean(dim=(1, 2, 3)),
    )
