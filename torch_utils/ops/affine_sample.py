"""Affine resampling of a picture that is mirrored at its edges and doubled by a filter, in one
kernel each way; for GPUs only.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix B: how
pictures are warped with little aliasing. What it is held against is the composition of PyTorch's
ops in `training/augment.py`, which also serves where there are no kernels.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from torch_utils import custom_ops

_TAPS = 12  # of the filter
_THREADS = 256  # as in the kernel
_BLOCKS = 65535  # at most, along y and z


def available(x: torch.Tensor, f: torch.Tensor) -> bool:
    """Return whether there is a kernel for this picture and filter."""
    return (
        x.is_cuda
        and f.shape == (_TAPS,)
        and x.dtype in custom_ops.TYPES
        and custom_ops.enabled(x.device)
    )


def affine_sample(
    x: torch.Tensor, matrix: torch.Tensor, f: torch.Tensor, size: Sequence[int]
) -> torch.Tensor:
    """Mirror, double and sample, linear in `x` and so differentiable any number of times; `matrix`
    gets no gradient.

    Pixel i of an axis is pixels 2i and 2i + 1 of the doubled picture. It is mirrored once at each
    end, without repeating the edge, and nothing lies beyond. No two threads add to one number, so
    that results, gradients included, are the same each time.

    Args:
        x: `[N, C, H, W]`, any strides; on a device with kernels, see `available`.
        matrix: float32 `[N, 2, 3]`: where sample (x, y, 1) lies in the doubled picture, as indices
            of its pixels.
        f: float32 `[12]`, the filter as for `upfirdn2d.upsample2d`.
        size: height and width of the result.

    Returns:
        `[N, C, *size]`, the dtype of `x`.
    """
    return _AffineSample.apply(
        x, matrix.detach().to(torch.float32).contiguous(), 2 * f.flip(0), tuple(size), False
    )


class _AffineSample(torch.autograd.Function):
    """The sampling, or its transpose: from gradients of the samples to those of the picture."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        matrix: torch.Tensor,
        taps: torch.Tensor,
        size: tuple[int, int],
        transposed: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(matrix, taps)
        ctx.size, ctx.transposed = (x.shape[2], x.shape[3]), transposed
        y = x.new_empty([*x.shape[:2], *size])
        _launch(x, matrix, taps, y, transposed)
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dx = (
            _AffineSample.apply(dy, *ctx.saved_tensors, ctx.size, not ctx.transposed)
            if ctx.needs_input_grad[0]
            else None
        )
        return dx, None, None, None, None


def _launch(
    source: torch.Tensor,
    matrix: torch.Tensor,
    taps: torch.Tensor,
    result: torch.Tensor,
    transposed: bool,
) -> None:
    if result.numel() == 0:
        return
    batch, channels, height, width = result.shape
    picture, samples = (result, source) if transposed else (source, result)
    kind, groups = custom_ops.TYPES[source.dtype], 1
    instance = f'affine_sample<{kind}>'
    if transposed:
        together = 3 if channels % 3 == 0 else 1
        instance, groups = f'affine_sample_transposed<{kind}, {together}>', channels // together
    sizes = map(ctypes.c_int, (batch, channels, *picture.shape[2:], *samples.shape[2:]))
    strides = map(ctypes.c_longlong, (*source.stride(), *result.stride()))
    addresses = [tensor.data_ptr() for tensor in (source, matrix, taps, result)]
    kernel = custom_ops.get_kernel('affine_sample.cu', instance, source.device.index)
    kernel(
        (-(-height * width // _THREADS), groups, min(batch, _BLOCKS)),
        _THREADS,
        [*addresses, *sizes, *strides],
    )
