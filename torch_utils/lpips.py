"""LPIPS, the perceptual distance of Zhang et al. 2018, "The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric".

Its linear heads come with the package `lpips`; the trunk, VGG-16 trained on ImageNet, is a file of
torchvision's.
"""

import logging
import os
import re
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F

from dnnlib import UserError, make_cache_dir_path
from dnnlib.download import TIMEOUT, fetch
from dnnlib.hashes import check_hash, file_sha256
from dnnlib.reading import regular_file

from .misc import MAX_WEIGHTS, problem_of_weights
from .torch_file import load_plain

# The name ends with the first digits of the SHA-256, which is all that is published of it. They
# tell a wrong file, but not a forged one: the whole hash is recorded on first use, and compared
# from then on.
VGG_FILE = 'vgg16-397923af.pth'
VGG_URL = f'https://download.pytorch.org/models/{VGG_FILE}'
VGG_SHA256 = '397923af'

MAX_SIZE = 256  # larger pictures are averaged down to this (StyleGAN2, appendix D)
MIN_SIZE = 16  # VGG halves four times

log = logging.getLogger(__name__)


class LPIPS(torch.nn.Module):
    """Pictures to vectors whose squared Euclidean distance is their LPIPS (version 0.1, VGG).

    Args:
        path: torchvision's weights of VGG-16, as `vgg_weights` gives them; those of the
            convolutions suffice.

    Raises:
        UserError: the file can't be read or holds something else, or the package `lpips` is
            missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        trunk = _read_trunk(Path(path))
        try:
            import lpips
        except ImportError:
            raise UserError('LPIPS needs the package lpips: pip install lpips') from None
        # the whole VGG-16, of which a tenth is needed, is not worth its memory
        with warnings.catch_warnings(), torch.device('meta'):
            warnings.simplefilter('ignore')  # it asks torchvision in the old way
            self.net = lpips.LPIPS(net='vgg', pretrained=False, pnet_rand=True, verbose=False)
        self.net.to_empty(device='cpu')
        self.net.scaling_layer = lpips.ScalingLayer()
        heads = load_plain(Path(lpips.__file__).parent / 'weights' / 'v0.1' / 'vgg.pth')
        self.net.load_state_dict(heads, strict=False)
        for name, tensor in self.net.net.state_dict().items():
            name = re.sub(r'^slice\d', 'features', name)
            found = trunk.get(name)
            if (
                not isinstance(found, torch.Tensor)
                or found.shape != tensor.shape
                or not found.is_floating_point()
            ):
                raise UserError(
                    f"{path}: not torchvision's weights of VGG-16 (no {name} of "
                    f'{list(tensor.shape)}); the file is {VGG_URL}'
                )
            tensor.copy_(found)
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed pictures.

        Args:
            images: float32 `[N, C, H, W]`, −1…1, C of 1 or 3, square, of a power of two, at least
                16 pixels.

        Returns:
            float32 `[N, F]`.
        """
        assert min(images.shape[2:]) >= MIN_SIZE
        if images.shape[2] > MAX_SIZE:
            images = F.avg_pool2d(images, images.shape[2] // MAX_SIZE)
        parts = []
        for features, head in zip(
            self.net.net(self.net.scaling_layer(images.expand(-1, 3, -1, -1))), self.net.lins
        ):
            area = features.shape[2] * features.shape[3]
            unit = features * (features.square().sum(dim=1, keepdim=True) + 1e-20).rsqrt()
            parts.append((unit * (head.model[-1].weight / area).sqrt()).flatten(1))
        return torch.cat(parts, dim=1)


def squared_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`[N, F]` twice to `[N]`."""
    return (a - b).square().sum(dim=1)


def vgg_weights(
    given: str | os.PathLike[str] | None = None, *, timeout: float = TIMEOUT, pause: float = 1.0
) -> Path:
    """The file with VGG-16's weights: the given one, else PyTorch's or this project's cached one,
    else a download of 528 MB.

    Args:
        timeout, pause: of the download; see `open_url`.

    Raises:
        UserError: there is no such file, it can't be downloaded, or has changed since its first
            use.
    """
    if given is not None:
        if not Path(given).exists():
            raise UserError(
                f'--lpips-weights={given}: no such file; it should be {VGG_FILE} of {VGG_URL}'
            )
        digest = file_sha256(regular_file(given))
        if not digest.startswith(VGG_SHA256):
            log.warning(
                'warning: %s is not the known %s; its SHA-256 is %s', given, VGG_FILE, digest
            )
        return Path(given)
    hub = Path(torch.hub.get_dir(), 'checkpoints', VGG_FILE)
    if hub.is_file():
        record = make_cache_dir_path('downloads') / f'{VGG_FILE}.sha256'
        check_hash(hub, record, VGG_SHA256, f"PyTorch's copy of {VGG_FILE}")
        return hub
    return fetch(
        VGG_URL,
        timeout=timeout,
        pause=pause,
        sha256=VGG_SHA256,
        check=problem_of_weights,
        max_size=MAX_WEIGHTS,
    )


def _read_trunk(path: Path) -> dict[str, torch.Tensor]:
    state = load_plain(path)
    if not isinstance(state, dict):
        raise UserError(f"{path}: not torchvision's weights of VGG-16; the file is {VGG_URL}")
    return state
