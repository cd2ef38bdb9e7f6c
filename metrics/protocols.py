"""How the tools that people compare with feed Inception, and how they divide covariances: FID differs between them by a tenth and more."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SIZE = 299  # of Inception's input, pixels


@dataclass(frozen=True)
class Protocol:
    """One tool's way from 8-bit pictures to a distance.

    Attributes:
        name: of the tool.
        resize: the resizing, in words, for reports.
        prepare: float32 `[N, 3, H, W]`, 0…255, to Inception's input, float32 `[N, 3, 299, 299]`.
        ddof: covariances are divided by N - ddof.
        drops_alpha: transparency is thrown away, as Pillow's `convert('RGB')` does; else it lies over white.
    """

    name: str
    resize: str
    prepare: Callable[[torch.Tensor], torch.Tensor]
    ddof: int
    drops_alpha: bool = True

    @property
    def divisor(self) -> str:
        """Of covariances, in words."""
        return 'N - 1' if self.ddof else 'N'


def _tensorflow(x: torch.Tensor) -> torch.Tensor:
    return (_lerp(_lerp(x, 3), 2) - 128) / 128


def _lerp(x: torch.Tensor, dim: int) -> torch.Tensor:
    """TensorFlow 1's `resize_bilinear` along one axis: output pixel i is at i · in / out, in float32, and the last pixel is repeated."""
    at = torch.arange(SIZE, dtype=torch.float32, device=x.device) * torch.tensor(x.shape[dim] / SIZE, dtype=torch.float32)
    low = at.long()
    part = (at - low).view(-1, *[1] * (3 - dim))
    first, second = x.index_select(dim, low), x.index_select(dim, (low + 1).clamp_max(x.shape[dim] - 1))
    return second.sub_(first).mul_(part).add_(first)


def _half_pixel(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x / 255, (SIZE, SIZE), mode='bilinear', align_corners=False) * 2 - 1


def _clean(x: torch.Tensor) -> torch.Tensor:
    # With antialiasing PyTorch's bicubic kernel is Pillow's (a = -1/2, widened where it shrinks), in float32 like Pillow's mode F.
    return (F.interpolate(x, (SIZE, SIZE), mode='bicubic', align_corners=False, antialias=True).clamp(0, 255) - 128) / 128


PROTOCOLS = {protocol.name: protocol for protocol in (
    Protocol('nvidia', 'bilinear of TensorFlow 1, corner-aligned, no antialiasing, in float', _tensorflow, 0, drops_alpha=False),
    Protocol('torch-fidelity', 'bilinear of TensorFlow 1, corner-aligned, no antialiasing, in float', _tensorflow, 1),
    Protocol('pytorch-fid', 'bilinear, half-pixel centres, no antialiasing, in float', _half_pixel, 1),
    Protocol('clean', 'bicubic with antialiasing (Pillow), in float', _clean, 1),
)}
NVIDIA = PROTOCOLS['nvidia']
