"""How the tools that people compare with feed Inception, and how they divide covariances: FID
differs between them by a tenth and more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SIZE = 299  # of Inception's input, pixels
# pictures; more at a time make buffers of over 32 MB, which a CPU's allocator maps anew each time:
# three times as slow
_PIECE = 16


@dataclass(frozen=True)
class Protocol:
    """One tool's way from 8-bit pictures to a distance.

    Attributes:
        name: of the tool.
        resize: the resizing, in words, for reports.
        prepare: float32 `[N, 3, H, W]`, 0…255, to Inception's input, float32 `[N, 3, 299, 299]`.
        ddof: covariances are divided by N - ddof.
        drops_alpha: transparency is thrown away, as Pillow's `convert('RGB')` does; else it lies
            over white.
    """

    name: str
    resize: str
    prepare: Callable[[torch.Tensor], torch.Tensor]
    ddof: int
    drops_alpha: bool = True

    def pieces(self, pictures: torch.Tensor) -> Iterator[torch.Tensor]:
        """Inception's input from uint8 `[N, 3, H, W]`, 0…255: all at once on a GPU, a few at a time
        on a CPU.
        """
        for part in pictures.split(_PIECE if pictures.device.type == 'cpu' else len(pictures)):
            yield self.prepare(part.contiguous().float())

    @property
    def divisor(self) -> str:
        """Of covariances, in words."""
        return 'N - 1' if self.ddof else 'N'


def _tensorflow(x: torch.Tensor) -> torch.Tensor:
    # TensorFlow 1's resize_bilinear has output pixel i at i · in / out and repeats the last pixel.
    # That is align_corners between one pixel more on either side, (in + 1 - 1) / (out + 1 - 1), and
    # PyTorch computes the position by the same formula in float32.
    x = F.interpolate(
        F.pad(x, (0, 1, 0, 1), mode='replicate'),
        (SIZE + 1, SIZE + 1),
        mode='bilinear',
        align_corners=True,
    )
    return (x[:, :, :SIZE, :SIZE] - 128).div_(128)


def _half_pixel(x: torch.Tensor) -> torch.Tensor:
    return (
        F.interpolate(x / 255, (SIZE, SIZE), mode='bilinear', align_corners=False).mul_(2).sub_(1)
    )


def _clean(x: torch.Tensor) -> torch.Tensor:
    # With antialiasing PyTorch's bicubic kernel is Pillow's (a = -1/2, widened where it shrinks),
    # in float32 like Pillow's mode F.
    return (
        F.interpolate(x, (SIZE, SIZE), mode='bicubic', align_corners=False, antialias=True)
        .clamp_(0, 255)
        .sub_(128)
        .div_(128)
    )


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            'nvidia',
            'bilinear of TensorFlow 1, corner-aligned, no antialiasing, in float',
            _tensorflow,
            0,
            drops_alpha=False,
        ),
        Protocol(
            'torch-fidelity',
            'bilinear of TensorFlow 1, corner-aligned, no antialiasing, in float',
            _tensorflow,
            1,
        ),
        Protocol(
            'pytorch-fid', 'bilinear, half-pixel centres, no antialiasing, in float', _half_pixel, 1
        ),
        Protocol('clean', 'bicubic with antialiasing (Pillow), in float', _clean, 1),
    )
}
NVIDIA = PROTOCOLS['nvidia']
