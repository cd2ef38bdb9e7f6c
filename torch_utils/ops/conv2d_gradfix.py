"""Convolutions whose gradients of any order are again convolutions, and that can leave weight
gradients out.

PyTorch's own second derivative of a convolution picks poor algorithms (R1 and path length spend
most of their time there). Here each derivative is written as one of two ops, a convolution and its
weight gradient, which are each other's derivatives. R1 and path length need no weight gradients in
their first backward pass: `no_weight_gradients`.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

_weight_gradients_enabled = True
_WIDE = 64  # channels


@contextlib.contextmanager
def no_weight_gradients(disable: bool = True) -> Iterator[None]:
    """Within the block, backward passes through `conv2d` and `conv_transpose2d` skip the weights'
    gradients; those through the kernels of `bias_act` and `modulated_act` skip those of biases and
    of the noise's strength.
    """
    global _weight_gradients_enabled
    before = _weight_gradients_enabled
    if disable:
        _weight_gradients_enabled = False
    try:
        yield
    finally:
        _weight_gradients_enabled = before


def weight_gradients_enabled() -> bool:
    """False within `no_weight_gradients`."""
    return _weight_gradients_enabled


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`torch.nn.functional.conv2d`, differentiable any number of times.

    Args:
        input: `[N, C_in, H, W]`.
        weight: `[C_out, C_in / groups, kh, kw]`, the dtype of `input`.
        bias: `[C_out]` or None.
    """
    geometry = _Geometry(_pair(stride), _pair(padding), _pair(dilation), (0, 0), groups, False)
    return _with_bias(_Conv.apply(input, _laid_out_for(input, weight), geometry), bias)


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> torch.Tensor:
    """`torch.nn.functional.conv_transpose2d`, differentiable any number of times.

    Args:
        input: `[N, C_in, H, W]`.
        weight: `[C_in, C_out / groups, kh, kw]`, the dtype of `input`.
        bias: `[C_out]` or None.
    """
    geometry = _Geometry(
        _pair(stride), _pair(padding), _pair(dilation), _pair(output_padding), groups, True
    )
    return _with_bias(_Conv.apply(input, _laid_out_for(input, weight), geometry), bias)


class _Geometry(NamedTuple):
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    output_padding: tuple[int, int]
    groups: int
    transposed: bool

    def adjoint(
        self, input_shape: torch.Size, output_shape: torch.Size, weight_shape: torch.Size
    ) -> '_Geometry':
        """The geometry of the map from gradients of the output to gradients of the input."""
        if self.transposed:
            return self._replace(transposed=False, output_padding=(0, 0))
        reached = [
            (output_shape[i] - 1) * self.stride[i - 2]
            - 2 * self.padding[i - 2]
            + self.dilation[i - 2] * (weight_shape[i] - 1)
            + 1
            for i in (2, 3)
        ]
        return self._replace(
            transposed=True,
            output_padding=(input_shape[2] - reached[0], input_shape[3] - reached[1]),
        )


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
        ctx.save_for_backward(x if w.requires_grad else None, w if x.requires_grad else None)
        ctx.geometry, ctx.x_shape, ctx.w_shape = geometry, x.shape, w.shape
        g = geometry
        if g.transposed and x.device.type == 'cpu':  # four times as fast in this layout
            x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.aten.convolution(
            x, w, None, g.stride, g.padding, g.dilation, g.transposed, g.output_padding, g.groups
        )

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, w = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _Conv.apply(dy, w, ctx.geometry.adjoint(ctx.x_shape, dy.shape, ctx.w_shape))
        if ctx.needs_input_grad[1] and _weight_gradients_enabled:
            dw = _ConvWeightGradient.apply(dy, x, ctx.geometry, ctx.w_shape)
        return dx, dw, None


class _ConvWeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, dy: torch.Tensor, x: torch.Tensor, geometry: _Geometry, w_shape: torch.Size
    ) -> torch.Tensor:
        ctx.save_for_backward(dy if x.requires_grad else None, x if dy.requires_grad else None)
        ctx.geometry, ctx.x_shape, ctx.dy_shape, ctx.w_shape = geometry, x.shape, dy.shape, w_shape
        g = geometry
        # twice as fast in this layout, the copies included
        if x.device.type == 'cpu' and min(x.shape[1], dy.shape[1]) >= _WIDE:
            dy, x = dy.contiguous(), x.contiguous()
        like_w = dy.new_empty(1).expand(w_shape)  # only its shape is looked at
        return torch.ops.aten.convolution_backward(
            dy,
            x,
            like_w,
            None,
            g.stride,
            g.padding,
            g.dilation,
            g.transposed,
            g.output_padding,
            g.groups,
            [False, True, False],
        )[1]

    @staticmethod
    def backward(ctx: Any, ddw: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dy, x = ctx.saved_tensors
        ddy = dx = None
        if ctx.needs_input_grad[0]:
            ddy = _Conv.apply(x, ddw, ctx.geometry)
        if ctx.needs_input_grad[1]:
            dx = _Conv.apply(dy, ddw, ctx.geometry.adjoint(ctx.x_shape, ctx.dy_shape, ctx.w_shape))
        return ddy, dx, None, None


def _laid_out_for(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Weights in the layout of the pictures. On a GPU cuDNN would else bring a copy there, and
    another one for each derivative.
    """
    channels_last = (
        x.is_cuda and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    )
    return w.contiguous(memory_format=torch.channels_last) if channels_last else w


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _with_bias(y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)
