"""Networks that turn pictures into features, and where their weights come from."""

import contextlib
import functools
import hashlib
import io
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from dnnlib import UserError, make_cache_dir_path
from dnnlib.download import fetch
from dnnlib.reading import read_file
from torch_utils.lpips import VGG_FILE, VGG_SHA256, vgg_weights
from torch_utils.misc import MAX_WEIGHTS, float32_precision, problem_of_weights
from torch_utils.torch_file import load_plain_bytes

from .protocols import NVIDIA, Protocol

DETECTOR_NAMES = ('inception', 'vgg16', 'random-vgg')
PRECISIONS = ('float32', 'tf32', 'bfloat16')

# The Inception of TensorFlow's 2015 release, converted by torch-fidelity. The name ends with the
# first digits of the sha256.
INCEPTION_FILE = 'weights-inception-2015-12-05-6726825d.pth'
INCEPTION_URL = (
    f'https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}'
)
INCEPTION_SHA256 = '6726825d'

_OTHER_WAYS = (
    'get that file by other means and pass it with --detector-weights PATH, or take '
    '--detector random-vgg'
)

_warn = logging.getLogger(__name__).warning


class Detector:
    """A frozen network from pictures to features.

    Attributes:
        name: one of `DETECTOR_NAMES`.
        sha256: of the weights: of the file, or of the numbers for the random VGG-16.
        protocol: how pictures are fed to it, and how covariances are divided.
        resize: its resizing, in words.
        precision: one of `PRECISIONS`: what its convolutions compute in, in bfloat16 its linear
            layers, too.
    """

    def __init__(
        self,
        name: str,
        sha256: str,
        net: torch.nn.Module,
        device: torch.device,
        *,
        protocol: Protocol = NVIDIA,
        resize: str = '',
        precision: str = 'float32',
        classifier: torch.Tensor | None = None,
    ) -> None:
        self.name = name
        self.sha256 = sha256
        self.protocol = protocol
        self.resize = resize or protocol.resize
        self.precision = precision
        self.device = device
        self._net = net.eval().requires_grad_(False).to(device)
        self._classifier = classifier

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features of a batch, in `precision`, also inside autocast and with TF32 on.

        Args:
            pictures: uint8 `[N, C, H, W]`, 0…255, on any device; C is 1 (grey) or 3 (RGB). Any
                size: the detector resizes.

        Returns:
            float32 `[N, D]` on the detector's device; D is 2048 for Inception, 4096 for VGG-16, 64
            for the random VGG-16.
        """
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
            raise ValueError(
                f'expected uint8 [N, 1 or 3, H, W], got {pictures.dtype} {tuple(pictures.shape)}'
            )
        pictures = pictures.to(self.device).expand(-1, 3, -1, -1)
        with _arithmetic(self.device, self.precision):
            features = self._net(pictures)
        return (features[0] if isinstance(features, tuple) else features).float()

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """The classifier's output without its bias, as the inception score takes it: float32 `[N,
        D]` to `[N, 1008]`, on the CPU.

        Raises:
            UserError: this detector is no classifier.
        """
        if self._classifier is None:
            raise UserError(f'the inception score needs the detector inception, not {self.name}')
        return features.cpu() @ self._classifier.T


def load_detector(
    name: str,
    *,
    device: torch.device,
    weights_path: str | os.PathLike[str] | None = None,
    protocol: Protocol = NVIDIA,
    precision: str = 'float32',
    log: Callable[[str], None] = _warn,
) -> Detector:
    """Build a detector; the global random number generators stay as they are.

    Args:
        name: `inception` (torch-fidelity's port of TensorFlow's InceptionV3, the one for FID),
            `vgg16` (trained on ImageNet; its second hidden layer is what improved precision and
            recall were defined with) or `random-vgg`.
        device: where it computes.
        weights_path: the file with the weights; None takes the cache, or downloads there.
        protocol: for Inception; the others know the default only.
        precision: one of `PRECISIONS`; any but float32 changes the features a little.
        log: takes one line about a download, or about weights with an unknown hash.

    Raises:
        UserError: the name is unknown, weights are missing, can't be downloaded, or are those of
            something else.
    """
    if name not in DETECTOR_NAMES:
        raise UserError(f'--detector={name}: there are {", ".join(DETECTOR_NAMES)}')
    if precision not in PRECISIONS:
        raise UserError(f'--precision={precision}: there are {", ".join(PRECISIONS)}')
    if precision == 'tf32' and device.type != 'cuda':
        raise UserError(
            f'--precision=tf32: only CUDA GPUs have it, and this is a '
            f'{device.type.upper()}; take float32 or bfloat16'
        )
    if name == 'inception':
        return _load_inception(device, weights_path, protocol, precision, log)
    if protocol is not NVIDIA:
        raise UserError(
            f'--protocol={protocol.name}: that is a way to feed the detector '
            f'inception; {name} has its own'
        )
    if name == 'vgg16':
        return _load_vgg16(device, weights_path, precision, log)
    if weights_path is not None:
        raise UserError(
            f'--detector-weights={weights_path}: random-vgg makes its own weights; '
            f'leave the option out'
        )
    net = RandomVGG16()
    return Detector(
        name,
        net.sha256,
        net,
        device,
        resize='bilinear, half-pixel centres, with antialiasing, to 64x64',
        precision=precision,
    )


def detector_loader(
    *,
    device: torch.device,
    weights: Mapping[str, str | os.PathLike[str] | None],
    protocols: Mapping[str, Protocol] | None = None,
    precision: str = 'float32',
    log: Callable[[str], None] = _warn,
) -> Callable[[str], Detector]:
    """Make a function from a detector's name to the detector, which it loads once.

    Args:
        weights: a name to its `weights_path`.
        protocols: a name to its protocol; those left out take NVIDIA's.
        device, precision, log: see `load_detector`.
    """

    @functools.cache  # exceptions are not cached
    def load(name: str) -> Detector:
        return load_detector(
            name,
            device=device,
            weights_path=weights.get(name),
            protocol=(protocols or {}).get(name, NVIDIA),
            precision=precision,
            log=log,
        )

    return load


class RandomVGG16(torch.nn.Module):
    """VGG-16 with random weights: an embedding for machines that don't have Inception's weights.

    After Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models", who
    embed pictures with a randomly initialised VGG-16 of few output dimensions ("R64") where a
    network trained on ImageNet is out of place. Their numbers depend on their weights and can't be
    compared with these. The definition used here, in full:

    - pictures are resized to 64x64 (bilinear, half-pixel centres, antialiased; not keeping the
      aspect ratio) in float32 and mapped to (x - 127.5) / 127.5. A quarter of VGG's usual 224 costs
      a twelfth, which is what a CPU can afford;
    - the 13 convolutions of configuration D of Simonyan and Zisserman 2015 (3x3, padding 1, ReLU; a
      2x2 max-pool after the 2nd, 4th, 7th, 10th and 13th), which leave `[N, 512, 2, 2]`, flattened
      in that order;
    - fc1: 2048 -> 4096 with ReLU; fc2: 4096 -> 64 without, because a Gaussian shall describe it. No
      dropout, no biases;
    - weights uniform in ±sqrt(6 / fan_in) (He et al. 2015), drawn layer by layer in the order of
      computation, each in its PyTorch layout, as `(2u - 1) · bound` from one
      `numpy.random.RandomState(0)`, rounded to float32. That stream is frozen and a uniform draw
      needs no library function, so the weights are the same bits on every machine.

    Attributes:
        sha256: of the weights' little-endian bytes, in that order.
    """

    SIZE = 64
    NUM_FEATURES = 64
    _BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.RandomState(0)
        digest = hashlib.sha256()

        def draw(*shape: int) -> torch.nn.Parameter:
            bound = np.sqrt(6 / np.prod(shape[1:]))
            weight = ((rng.random_sample(shape) * 2 - 1) * bound).astype('<f4')
            digest.update(weight.tobytes())
            return torch.nn.Parameter(torch.from_numpy(weight), requires_grad=False)

        channels = (3, *(c for block in self._BLOCKS for c in block))
        self.convs = torch.nn.ParameterList(
            [draw(c_out, c_in, 3, 3) for c_in, c_out in zip(channels, channels[1:])]
        )
        self.fc1 = draw(4096, channels[-1] * 2 * 2)
        self.fc2 = draw(self.NUM_FEATURES, 4096)
        self.sha256 = digest.hexdigest()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """uint8 `[N, 3, H, W]`, 0…255, to float32 `[N, 64]`."""
        x = F.interpolate(pictures.float(), (self.SIZE, self.SIZE), mode='bilinear', antialias=True)
        x = (x - 127.5) / 127.5
        convs = iter(self.convs)
        for block in self._BLOCKS:
            for _ in block:
                x = F.conv2d(x, next(convs), padding=1).relu_()
            x = F.max_pool2d(x, 2)
        x = F.linear(x.flatten(1), self.fc1).relu_()
        return F.linear(x, self.fc2)


def _load_inception(
    device: torch.device,
    weights_path: str | os.PathLike[str] | None,
    protocol: Protocol,
    precision: str,
    log: Callable[[str], None],
) -> Detector:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = _cached_inception(log) if weights_path is None else Path(weights_path)
    state, sha256 = _read_weights(path, INCEPTION_FILE, INCEPTION_SHA256, log)
    net = _build(FeatureExtractorInceptionV3, '2048', state, path, "torch-fidelity's Inception")
    *trunk, classifier = net.children()
    net = _Inception(protocol, torch.nn.Sequential(*trunk, torch.nn.Flatten()))
    return Detector(
        'inception',
        sha256,
        net,
        device,
        protocol=protocol,
        precision=precision,
        classifier=classifier.get_parameter('weight').detach(),
    )


def _load_vgg16(
    device: torch.device,
    weights_path: str | os.PathLike[str] | None,
    precision: str,
    log: Callable[[str], None],
) -> Detector:
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    path = vgg_weights() if weights_path is None else Path(weights_path)
    state, sha256 = _read_weights(path, VGG_FILE, VGG_SHA256, log)
    net = _build(FeatureExtractorVGG16, 'fc2_relu', state, path, "torchvision's VGG-16")
    return Detector(
        'vgg16',
        sha256,
        net,
        device,
        resize='bilinear of TensorFlow 1, no antialiasing, to 224x224',
        precision=precision,
    )


class _Inception(torch.nn.Module):
    """uint8 `[N, 3, H, W]` to features, fed as the protocol wants it."""

    def __init__(self, protocol: Protocol, trunk: torch.nn.Module) -> None:
        super().__init__()
        self._protocol, self._trunk = protocol, trunk

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._trunk(part) for part in self._protocol.pieces(pictures)])


def _read_weights(
    path: Path, known: str, known_sha256: str, log: Callable[[str], None]
) -> tuple[object, str]:
    """What the file holds, and its SHA-256, which is compared to the known file's; nothing in it is
    executed.
    """
    try:
        data = read_file(path, MAX_WEIGHTS)
    except UserError as error:
        raise UserError(f'--detector-weights={error}') from error
    sha256 = hashlib.sha256(data).hexdigest()
    if not sha256.startswith(known_sha256):
        log(f'warning: {path} is not the known {known}; its sha256 is {sha256}')
    return load_plain_bytes(data, path), sha256


def _build(
    kind: Callable[..., Any], layer: str, state: object, path: Path, title: str
) -> torch.nn.Module:
    # torch-fidelity loads its file with weights_only=False. It is handed a copy that we wrote
    # ourselves from what the safe reader returned, never the user's bytes.
    copy = io.BytesIO()
    torch.save(state, copy)
    copy.seek(0)
    try:
        # its layers draw weights before they are overwritten
        with torch.random.fork_rng(devices=[]):
            net: torch.nn.Module = kind(title, [layer], feature_extractor_weights_path=copy)
    except (
        RuntimeError,
        TypeError,
        AttributeError,
        ValueError,
        KeyError,
        pickle.PickleError,
    ) as error:
        reason = str(error).strip().split('\n', 1)[0]
        raise UserError(f'{path}: not the weights of {title} ({reason})') from error
    return net


def _cached_inception(log: Callable[[str], None]) -> Path:
    """The file in the cache directory; downloaded if it is not there.

    Of its hash only the beginning is known, which tells a wrong file but can be forged; the whole
    is recorded on first use.
    """
    folder = make_cache_dir_path('detectors')
    if not (folder / INCEPTION_FILE).exists():
        log(f'downloading {INCEPTION_URL} to {folder / INCEPTION_FILE}')
    try:
        return fetch(
            INCEPTION_URL,
            cache_dir=folder,
            name=INCEPTION_FILE,
            sha256=INCEPTION_SHA256,
            check=problem_of_weights,
            max_size=MAX_WEIGHTS,
        )
    except UserError as error:
        raise UserError(f"cannot get Inception's weights: {error}; {_OTHER_WAYS}") from error


@contextlib.contextmanager
def _arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Switches while the block runs: TF32 changes the third decimal of a FID, and a training run
    that turned it on shall see calc_fid's.
    """
    convolutions: Literal['ieee', 'tf32'] = 'tf32' if precision == 'tf32' else 'ieee'
    with (
        float32_precision(convolutions, 'ieee'),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == 'bfloat16'),
    ):
        yield
