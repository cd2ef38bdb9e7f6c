"""How the tools that people compare with feed Inception, and how they divide covariances: FID differs between them by a tenth and more."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

SIZE = 299  # of Inception's input, pixels
_PIECE = 16  # pictures; more at a time make buffers of over 32 MB, which a CPU's allocator maps anew each time: three times as slow


@dataclass(frozen=True)
class Protocol:
    """One tool's way from 8-bit pictures to a distance.

    Attributes:
        name: of the tool.
        resize: the resizing, in words, for reports.
        prepare: uint8 `[N, 3, H, W]`, 0…255, to Inception's input, float32 `[N, 3, 299, 299]`.
        ddof: covariances are divided by N - ddof.
        drops_alpha: transparency is thrown away, as Pillow's `convert('RGB')` does; else it lies over white.
    """

    name: str
    resize: str
    prepare: Callable[[torch.Tensor], torch.Tensor]
    ddof: int
    drops_alpha: bool = True

    def pieces(self, pictures: torch.Tensor) -> Iterator[torch.Tensor]:
        """Inception's input from uint8 `[N, 3, H, W]`, 0…255: all at once on a GPU, a few at a time on a CPU."""
        for part in pictures.split(_PIECE if pictures.device.type == 'cpu' else len(pictures)):
            yield self.prepare(part)

    @property
    def divisor(self) -> str:
        """Of covariances, in words."""
        return 'N - 1' if self.ddof else 'N'


def _bilinear(x: torch.Tensor, size: int, repeated: int = 0, align_corners: bool = False) -> torch.Tensor:
    """Uint8 `[N, C, H, W]` to float32 `[N, C, size, size]`; the last row and column are repeated so many times before."""
    n, c, h, w = x.shape
    if x.device.type != 'cpu':
        x = F.pad(x.contiguous().float(), (0, repeated, 0, repeated), mode='replicate')
        return F.interpolate(x, (size, size), mode='bilinear', align_corners=align_corners)
    # A CPU interpolates channels that lie side by side ten times as fast, so all planes of all pictures become the channels of one.
    packed, planes = np.empty([h + repeated, w + repeated, n * c], dtype=np.uint8), x.numpy()
    for number in range(n * c):
        packed[:h, :w, number] = planes[number // c, number % c]
    if repeated:
        packed[h:], packed[:, w:] = packed[h - 1], packed[:, w - 1:w]
    wide = torch.from_numpy(packed)[None].float().permute(0, 3, 1, 2)
    wide = F.interpolate(wide, (size, size), mode='bilinear', align_corners=align_corners)
    return wide[0].flatten(1).contiguous().view(n, c, size, size)


def _tensorflow(x: torch.Tensor) -> torch.Tensor:
    # TensorFlow 1's resize_bilinear has output pixel i at i · in / out and repeats the last pixel. That is align_corners between one
    # pixel more on either side, (in + 1 - 1) / (out + 1 - 1), and PyTorch computes the position by the same formula in float32.
    x = _bilinear(x, SIZE + 1, repeated=1, align_corners=True)
    return (x[:, :, :SIZE, :SIZE] - 128).div_(128)


def _half_pixel(x: torch.Tensor) -> torch.Tensor:
    return _bilinear(x, SIZE).div_(127.5).sub_(1)


def _clean(x: torch.Tensor) -> torch.Tensor:
    # With antialiasing PyTorch's bicubic kernel is Pillow's (a = -1/2, widened where it shrinks), in float32 like Pillow's mode F.
    x = x.contiguous().float()
    return F.interpolate(x, (SIZE, SIZE), mode='bicubic', align_corners=False, antialias=True).clamp_(0, 255).sub_(128).div_(128)


PROTOCOLS = {protocol.name: protocol for protocol in (
    Protocol('nvidia', 'bilinear of TensorFlow 1, corner-aligned, no antialiasing, in float', _tensorflow, 0, drops_alpha=False),
    Protocol('torch-fidelity', 'bilinear of TensorFlow 1, corner-aligned, no antialiasing, in float', _tensorflow, 1),
    Protocol('pytorch-fid', 'bilinear, half-pixel centres, no antialiasing, in float', _half_pixel, 1),
    Protocol('clean', 'bicubic with antialiasing (Pillow), in float', _clean, 1),
)}
NVIDIA = PROTOCOLS['nvidia']
