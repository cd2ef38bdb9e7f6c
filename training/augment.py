"""Stochastic augmentation of what the discriminator sees.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (ADA), appendix B:
pixel blitting, geometric and colour transformations, image-space filtering, additive noise and
cutout, each applied with probability p times its strength. Everything is differentiable, linear in
the pictures, and differentiable twice (for R1).

This file travels inside snapshots and is executed by NVIDIA's loaders: Python 3.7 syntax, PyTorch
1.7 API, nothing imported that those checkouts don't have, stored attributes that are plain Python
values. It is one long file because a snapshot carries the text of one file.
"""

import math
from typing import Any, Optional, Sequence, Tuple

import numpy as np
import torch

from torch_utils import persistence
from torch_utils.ops import conv2d_gradfix, grid_sample_gradfix, upfirdn2d

try:
    from torch_utils.ops import affine_sample
except ImportError:  # a checkout of NVIDIA's
    affine_sample = None  # type: ignore[assignment]

# Orthogonal wavelets (Daubechies 1992) as low-pass decomposition filters.
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)

# Up to so many numbers in a batch, a GPU without kernels pads the pictures as far as reflection
# goes, whatever was drawn: nine times the area. Beyond, it waits for the margins that this batch
# needs, which costs large pictures less. The result is the same.
WIDE_MARGINS = 1 << 24

# of natural pictures (1/f) in the four bands of the image filter
EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)

Matrix = Sequence[Sequence[Any]]


class _Matrices:
    """Batches of matrices, `[N, rows, columns]`, of numbers and `[N]` tensors. A number becomes a
    tensor once.
    """

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self._size = [batch_size]
        self._device = device
        self._numbers: dict = {}

    def _tensor(self, value: Any) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value
        if value not in self._numbers:
            self._numbers[value] = torch.full(self._size, float(value), device=self._device)
        return self._numbers[value]

    def of(self, rows: Matrix) -> torch.Tensor:
        flat = [self._tensor(x) for row in rows for x in row]
        return torch.stack(flat, dim=1).reshape(-1, len(rows), len(rows[0]))

    def translate2d(self, x: Any, y: Any) -> torch.Tensor:
        return self.of([[1, 0, x], [0, 1, y], [0, 0, 1]])

    def scale2d(self, x: Any, y: Any) -> torch.Tensor:
        return self.of([[x, 0, 0], [0, y, 0], [0, 0, 1]])

    def rotate2d(self, angle: torch.Tensor) -> torch.Tensor:
        cos, sin = angle.cos(), angle.sin()
        return self.of([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])

    def identity(self, size: int) -> torch.Tensor:
        return self.of([[float(i == j) for j in range(size)] for i in range(size)])

    def luma_projection(self) -> torch.Tensor:
        """The projection onto the grey axis, in homogeneous coordinates."""
        third = 1 / 3
        return self.of([[third] * 3 + [0]] * 3 + [[0] * 4])

    def rotate_about_grey(self, angle: torch.Tensor) -> torch.Tensor:
        """Rodrigues' rotation about the axis (1, 1, 1)."""
        cos, sin = angle.cos(), angle.sin() / math.sqrt(3)
        same, plus, minus = cos + (1 - cos) / 3, (1 - cos) / 3 + sin, (1 - cos) / 3 - sin
        return self.of(
            [[same, minus, plus, 0], [plus, same, minus, 0], [minus, plus, same, 0], [0, 0, 0, 1]]
        )


class _Draws:
    """Random numbers for a batch, or the same percentile of every distribution."""

    def __init__(self, images: torch.Tensor, p: torch.Tensor, percentile: Optional[float]) -> None:
        self.batch_size = images.shape[0]
        self.device = images.device
        self.matrices = _Matrices(self.batch_size, self.device)
        self.p = p
        self.percentile = percentile

    def uniform(self, *shape: int) -> torch.Tensor:
        """In 0…1, `[batch, *shape]`."""
        size = (self.batch_size,) + shape
        if self.percentile is not None:
            return torch.full(size, float(self.percentile), device=self.device)
        return torch.rand(size, device=self.device)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal, `[batch, *shape]`. The percentile's value is NVIDIA's, a √2 smaller than
        the quantile.
        """
        size = (self.batch_size,) + shape
        if self.percentile is not None:
            return torch.full(size, self.percentile * 2 - 1.0, device=self.device).erfinv()
        return torch.randn(size, device=self.device)

    def gate(self, value: torch.Tensor, identity: float, strength: Any) -> torch.Tensor:
        """`value` with probability `strength * p`, one decision a sample, else `identity`."""
        chance = torch.rand([self.batch_size] + [1] * (value.ndim - 1), device=self.device)
        return torch.where(
            chance < strength * self.p, value, torch.full_like(value, float(identity))
        )


def _filter_bank() -> np.ndarray:
    """Four octave bands from sym2 wavelets, `[band, tap]`; they add up to a single impulse
    (appendix B, "image-space filtering").
    """
    low = np.asarray(SYM2)
    high = low * ((-1) ** np.arange(low.size))
    low2 = np.convolve(low, low[::-1]) / 2
    high2 = np.convolve(high, high[::-1]) / 2
    bank = np.eye(4, 1)
    for i in range(1, 4):
        spread = np.zeros([4, bank.shape[1] * 2 - 1])
        spread[:, ::2] = bank
        bank = np.stack([np.convolve(row, low2) for row in spread])
        middle = (bank.shape[1] - high2.size) // 2
        bank[i, middle : middle + high2.size] += high2
    return bank


@persistence.persistent_class
class AugmentPipe(torch.nn.Module):
    """The augmentation pipe. Strengths multiply the buffer `p`, which the controller moves; 0 turns
    a transform off.

    Args:
        xflip, rotate90, xint: pixel blitting: mirror, quarter turns, whole-pixel shifts of at most
            `xint_max` of the size.
        scale, rotate, aniso, xfrac: general geometry: `scale_std` and `aniso_std` in octaves,
            `rotate_max` in half turns, `xfrac_std` of the size.
        brightness, contrast, lumaflip, hue, saturation: colour: `brightness_std` on the −1…1 scale,
            `contrast_std` and `saturation_std` in octaves, `hue_max` in half turns.
        imgfilter: gains of four frequency bands, `imgfilter_std` in octaves; `imgfilter_bands`
            scales the strength of each.
        noise: Gaussian noise whose standard deviation is half-normal with `noise_std`.
        cutout: a grey rectangle of `cutout_size` of the picture.
    """

    def __init__(
        self,
        xflip: float = 0,
        rotate90: float = 0,
        xint: float = 0,
        xint_max: float = 0.125,
        scale: float = 0,
        rotate: float = 0,
        aniso: float = 0,
        xfrac: float = 0,
        scale_std: float = 0.2,
        rotate_max: float = 1,
        aniso_std: float = 0.2,
        xfrac_std: float = 0.125,
        brightness: float = 0,
        contrast: float = 0,
        lumaflip: float = 0,
        hue: float = 0,
        saturation: float = 0,
        brightness_std: float = 0.2,
        contrast_std: float = 0.5,
        hue_max: float = 1,
        saturation_std: float = 1,
        imgfilter: float = 0,
        imgfilter_bands: Sequence[float] = (1, 1, 1, 1),
        imgfilter_std: float = 1,
        noise: float = 0,
        cutout: float = 0,
        noise_std: float = 0.1,
        cutout_size: float = 0.5,
    ) -> None:
        super().__init__()
        self.p: torch.Tensor
        self.Hz_geom: torch.Tensor
        self.Hz_fbank: torch.Tensor
        self.register_buffer('p', torch.ones([]))
        self.xflip = float(xflip)
        self.rotate90 = float(rotate90)
        self.xint = float(xint)
        self.xint_max = float(xint_max)
        self.scale = float(scale)
        self.rotate = float(rotate)
        self.aniso = float(aniso)
        self.xfrac = float(xfrac)
        self.scale_std = float(scale_std)
        self.rotate_max = float(rotate_max)
        self.aniso_std = float(aniso_std)
        self.xfrac_std = float(xfrac_std)
        self.brightness = float(brightness)
        self.contrast = float(contrast)
        self.lumaflip = float(lumaflip)
        self.hue = float(hue)
        self.saturation = float(saturation)
        self.brightness_std = float(brightness_std)
        self.contrast_std = float(contrast_std)
        self.hue_max = float(hue_max)
        self.saturation_std = float(saturation_std)
        self.imgfilter = float(imgfilter)
        self.imgfilter_bands = list(imgfilter_bands)
        self.imgfilter_std = float(imgfilter_std)
        self.noise = float(noise)
        self.cutout = float(cutout)
        self.noise_std = float(noise_std)
        self.cutout_size = float(cutout_size)
        self.register_buffer('Hz_geom', upfirdn2d.setup_filter(list(SYM6)))
        self.register_buffer('Hz_fbank', torch.as_tensor(_filter_bank(), dtype=torch.float32))

    def forward(
        self, images: torch.Tensor, debug_percentile: Optional[float] = None
    ) -> torch.Tensor:
        """Augment each picture with draws of its own.

        Args:
            images: float32 `[N, C, H, W]`, −1…1; C is 1 or 3 for colour, anything for the rest.
            debug_percentile: 0…1 takes that percentile of every distribution instead of drawing;
                None draws.

        Returns:
            The shape of `images`.
        """
        draws = _Draws(images, self.p, debug_percentile)
        if any(
            [self.xflip, self.rotate90, self.xint, self.scale, self.rotate, self.aniso, self.xfrac]
        ):
            images = self._warp(
                images, self._geometry(draws, images.shape[3], images.shape[2]), draws.matrices
            )
        if any([self.brightness, self.contrast, self.lumaflip, self.hue, self.saturation]):
            images = self._colour(images, draws)
        if self.imgfilter > 0:
            images = self._filter(images, draws)
        if self.noise > 0:
            sigma = (
                draws.uniform().erfinv() * self.noise_std
                if draws.percentile is not None
                else draws.normal().abs() * self.noise_std
            )
            sigma = draws.gate(sigma, 0, self.noise)
            images = images + torch.randn_like(images) * sigma.reshape(-1, 1, 1, 1)
        if self.cutout > 0:
            images = images * self._cutout_mask(images, draws)
        return images

    def _geometry(self, draws: _Draws, width: int, height: int) -> torch.Tensor:
        """Output to input positions, in pixels from the centre: the inverses of the transforms, in
        their order. `[N, 3, 3]`.
        """
        m = draws.matrices
        inverse = m.identity(3)
        if self.xflip > 0:
            flip = draws.gate((draws.uniform() * 2).floor(), 0, self.xflip)
            inverse = inverse @ m.scale2d(1 - 2 * flip, 1)
        if self.rotate90 > 0:
            turns = draws.gate((draws.uniform() * 4).floor(), 0, self.rotate90)
            inverse = inverse @ m.rotate2d(turns * (math.pi / 2))
        if self.xint > 0:
            shift = draws.gate((draws.uniform(2) * 2 - 1) * self.xint_max, 0, self.xint)
            inverse = inverse @ m.translate2d(
                -(shift[:, 0] * width).round(), -(shift[:, 1] * height).round()
            )
        if self.scale > 0:
            factor = draws.gate(2 ** (draws.normal() * self.scale_std), 1, self.scale)
            inverse = inverse @ m.scale2d(1 / factor, 1 / factor)
        # so that one of two rotations happens with probability p
        either = 1 - (1 - (self.rotate * self.p).clamp(0, 1)).sqrt()
        if self.rotate > 0:
            angle = self._rotation(draws, either)
            inverse = inverse @ m.rotate2d(angle)
        if self.aniso > 0:
            factor = draws.gate(2 ** (draws.normal() * self.aniso_std), 1, self.aniso)
            inverse = inverse @ m.scale2d(1 / factor, factor)
        if self.rotate > 0 and draws.percentile is None:
            inverse = inverse @ m.rotate2d(self._rotation(draws, either))
        if self.xfrac > 0:
            shift = draws.gate(draws.normal(2) * self.xfrac_std, 0, self.xfrac)
            inverse = inverse @ m.translate2d(-shift[:, 0] * width, -shift[:, 1] * height)
        return inverse

    def _rotation(self, draws: _Draws, probability: torch.Tensor) -> torch.Tensor:
        angle = (draws.uniform() * 2 - 1) * (math.pi * self.rotate_max)
        chance = torch.rand([draws.batch_size], device=draws.device)
        return torch.where(chance < probability, angle, torch.zeros_like(angle))

    def _warp(self, images: torch.Tensor, inverse: torch.Tensor, m: _Matrices) -> torch.Tensor:
        """Resample with little aliasing: reflect, double with sym6, sample bilinearly, halve with
        sym6 again.
        """
        height, width = images.shape[2:]
        reach = self.Hz_geom.shape[0] // 4  # of the filters, in pixels
        out_height, out_width = (height + reach * 2) * 2, (width + reach * 2) * 2
        # From output to input positions, in doubled pixels from the centre. The filters' delay puts
        # the origin of the transform half a doubled pixel off it: translate(-1/2) scale(2) inverse
        # scale(1/2) translate(1/2).
        doubled = (
            m.of([[2, 0, -0.5], [0, 2, -0.5], [0, 0, 1]])
            @ inverse
            @ m.of([[0.5, 0, 0.25], [0, 0.5, 0.25], [0, 0, 1]])
        )
        if affine_sample is not None and affine_sample.available(images, self.Hz_geom):
            indices = (
                m.translate2d(width - 0.5, height - 0.5)
                @ doubled
                @ m.translate2d((1 - out_width) / 2, (1 - out_height) / 2)
            )
            images = affine_sample.affine_sample(
                images, indices[:, :2], self.Hz_geom, [out_height, out_width]
            )
        else:
            margins = self._margins(images, inverse, reach)
            images = self._sample(images, doubled, margins, [out_height, out_width], m)
        return upfirdn2d.downsample2d(
            images, self.Hz_geom, down=2, padding=-reach * 2, flip_filter=True
        )

    def _sample(
        self,
        images: torch.Tensor,
        doubled: torch.Tensor,
        margins: Tuple[int, int, int, int],
        size: Sequence[int],
        m: _Matrices,
    ) -> torch.Tensor:
        """Reflect, double, and sample at `doubled`, positions in doubled pixels from the centre:
        what `affine_sample` does in one go.
        """
        left, top, right, bottom = margins
        out_height, out_width = size
        images = torch.nn.functional.pad(images, [left, right, top, bottom], mode='reflect')
        images = upfirdn2d.upsample2d(images, self.Hz_geom, up=2)
        theta = (
            m.scale2d(2 / images.shape[3], 2 / images.shape[2])
            @ m.translate2d(left - right, top - bottom)
            @ doubled
        )
        theta = theta @ m.scale2d(out_width / 2, out_height / 2)
        grid = torch.nn.functional.affine_grid(
            theta[:, :2], [*images.shape[:2], out_height, out_width], align_corners=False
        )
        return grid_sample_gradfix.grid_sample(images, grid.to(images.dtype))

    @staticmethod
    def _margins(
        images: torch.Tensor, inverse: torch.Tensor, reach: int
    ) -> Tuple[int, int, int, int]:
        """How far beyond the picture the batch samples, at most one reflection: left, top, right,
        bottom. May wait for the device.
        """
        height, width = images.shape[2:]
        if images.is_cuda and images.numel() <= WIDE_MARGINS:
            return width - 1, height - 1, width - 1, height - 1
        cx, cy = (width - 1) / 2, (height - 1) / 2
        corners = torch.tensor([[-cx, -cy, 1], [cx, -cy, 1], [cx, cy, 1], [-cx, cy, 1]]).t()
        reached = inverse.detach().cpu().to(torch.float32) @ corners  # [N, 3, corner]
        low, high = reached[:, :2].amin(dim=(0, 2)), reached[:, :2].amax(dim=(0, 2))
        margins = []
        for value, half, size in [
            (-low[0], cx, width),
            (-low[1], cy, height),
            (high[0], cx, width),
            (high[1], cy, height),
        ]:
            margins.append(math.ceil(min(max(float(value) + reach * 2 - half, 0), size - 1)))
        return margins[0], margins[1], margins[2], margins[3]

    def _colour(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        batch_size, channels, height, width = images.shape
        m = draws.matrices
        matrix = identity = m.identity(4)
        luma = m.luma_projection()
        if self.brightness > 0:
            b = draws.gate(draws.normal() * self.brightness_std, 0, self.brightness)
            matrix = m.of([[1, 0, 0, b], [0, 1, 0, b], [0, 0, 1, b], [0, 0, 0, 1]]) @ matrix
        if self.contrast > 0:
            c = draws.gate(2 ** (draws.normal() * self.contrast_std), 1, self.contrast)
            matrix = m.of([[c, 0, 0, 0], [0, c, 0, 0], [0, 0, c, 0], [0, 0, 0, 1]]) @ matrix
        if self.lumaflip > 0:
            flip = draws.gate((draws.uniform() * 2).floor(), 0, self.lumaflip)
            matrix = (identity - 2 * luma * flip.reshape(-1, 1, 1)) @ matrix
        if self.hue > 0 and channels > 1:
            angle = draws.gate((draws.uniform() * 2 - 1) * (math.pi * self.hue_max), 0, self.hue)
            matrix = m.rotate_about_grey(angle) @ matrix
        if self.saturation > 0 and channels > 1:
            s = draws.gate(2 ** (draws.normal() * self.saturation_std), 1, self.saturation)
            keep = luma + m.of([[0] * 4] * 3 + [[0, 0, 0, 1]])
            matrix = (keep + (identity - keep) * s.reshape(-1, 1, 1)) @ matrix

        flat = images.reshape(batch_size, channels, height * width)
        matrix = matrix.to(images.dtype)
        if channels == 3:
            flat = matrix[:, :3, :3] @ flat + matrix[:, :3, 3:]
        elif channels == 1:
            grey = matrix[:, :3].mean(dim=1, keepdim=True)
            flat = flat * grey[:, :, :3].sum(dim=2, keepdim=True) + grey[:, :, 3:]
        else:
            raise ValueError(
                'colour augmentations are for pictures of 1 or 3 channels, not {}'.format(channels)
            )
        return flat.reshape(batch_size, channels, height, width)

    def _filter(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        batch_size, channels, height, width = images.shape
        # a copy from the host would be waited for
        power = torch.cat([torch.full([1], x, device=images.device) for x in EXPECTED_POWER])
        gains = torch.ones([batch_size, 4], device=images.device)
        for i, strength in enumerate(self.imgfilter_bands):
            gain = draws.gate(
                2 ** (draws.normal() * self.imgfilter_std), 1, self.imgfilter * strength
            )
            bands = torch.cat(
                [
                    torch.ones([batch_size, i], device=images.device),
                    gain[:, None],
                    torch.ones([batch_size, 3 - i], device=images.device),
                ],
                dim=1,
            )
            gains = gains * bands / (power * bands.square()).sum(dim=1, keepdim=True).sqrt()
        taps = (gains @ self.Hz_fbank.to(gains.dtype)).to(images.dtype)  # [N, tap]
        taps = taps.unsqueeze(1).repeat(1, channels, 1).reshape(batch_size * channels, 1, 1, -1)
        reach = self.Hz_fbank.shape[1] // 2
        flat = images.reshape(1, batch_size * channels, height, width)
        flat = torch.nn.functional.pad(flat, [reach] * 4, mode='reflect')
        flat = conv2d_gradfix.conv2d(flat, taps, groups=batch_size * channels)
        flat = conv2d_gradfix.conv2d(flat, taps.transpose(2, 3), groups=batch_size * channels)
        return flat.reshape(batch_size, channels, height, width)

    def _cutout_mask(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        height, width = images.shape[2:]
        # one decision for both axes
        size = draws.gate(draws.uniform(2) * 0 + self.cutout_size, 0, self.cutout)
        centre = draws.uniform(2)
        x = (torch.arange(width, device=images.device) + 0.5) / width
        y = (torch.arange(height, device=images.device) + 0.5) / height
        outside_x = (x[None] - centre[:, :1]).abs() >= size[:, :1] / 2  # [N, W]
        outside_y = (y[None] - centre[:, 1:]).abs() >= size[:, 1:] / 2  # [N, H]
        return (outside_x[:, None, None, :] | outside_y[:, None, :, None]).to(images.dtype)
