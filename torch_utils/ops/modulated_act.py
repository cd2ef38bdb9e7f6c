"""Fused modulation: styles before a modulated convolution; demodulation, noise, bias, activation,
gain and clamp after it. One kernel each way, for GPUs only.

The reference, and the fallback where there are no kernels, is the composition of `fma` and
`bias_act` in `training/networks.py`.
"""

import ctypes
from typing import Any, NamedTuple

import torch

from torch_utils import custom_ops

from .bias_act import NO_CLAMP, channels_at_once
from .conv2d_gradfix import weight_gradients_enabled

_SLOPES = {'linear': 1.0, 'relu': 0.0, 'lrelu': 0.2}
_THREADS = 256
_BLOCKS = 65535  # at most, along z
_PIXELS = 32  # a thread, of large pictures


class _ActParams(NamedTuple):
    """What the kernels know about an activation: `clamp(gain * (x if x > 0 else slope * x))`."""

    slope: float
    gain: float
    clamp: float  # NO_CLAMP for none


def has_kernels(device: torch.device) -> bool:
    """Return whether there are kernels for channels_last pictures on this device."""
    return custom_ops.enabled(device)


def available(x: torch.Tensor, noise: torch.Tensor | None, act: str) -> bool:
    """Return whether there is a kernel for these arguments of `modulated_act`."""
    if (
        not x.is_cuda
        or x.dtype not in custom_ops.TYPES
        or not x.is_contiguous(memory_format=torch.channels_last)
    ):
        return False
    return (
        act in _SLOPES and not (noise is not None and noise.requires_grad) and has_kernels(x.device)
    )


def modulated_act(
    x: torch.Tensor,
    scale: torch.Tensor,
    noise: torch.Tensor | None = None,
    strength: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    act: str = 'linear',
    gain: float = 1.0,
    clamp: float | None = None,
) -> torch.Tensor:
    """`clamp(gain * act(x * scale + strength * noise + b))`, twice differentiable in all but
    `noise`; sums are the same each time.

    Args:
        x: `[N, C, H, W]`, channels_last; see `available`.
        scale: `[N, C]`.
        noise: `[H, W]` or `[N or 1, 1, H, W]`; None for none.
        strength: a scalar; None without noise.
        b: `[C]`; None for none.
        act: `linear`, `relu` or `lrelu`.
        gain: factor after the activation, above 0.
        clamp: results are limited to −clamp…clamp; None for no limit.

    Returns:
        The shape, dtype and layout of `x`.
    """
    assert gain > 0
    if noise is not None and strength is not None:
        pixels = x.shape[2] * x.shape[3]
        noise = noise.detach().to(torch.float32).reshape(-1, pixels).contiguous()
        strength = strength.to(torch.float32)
    parameters = [
        scale.to(torch.float32).contiguous(),
        strength,
        None if b is None else b.to(torch.float32).contiguous(),
    ]
    return _ModulatedAct.apply(
        x,
        *parameters,
        noise,
        act,
        _ActParams(_SLOPES[act], float(gain), NO_CLAMP if clamp is None else float(clamp)),
    )


class _ModulatedAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        strength: torch.Tensor | None,
        b: torch.Tensor | None,
        noise: torch.Tensor | None,
        act: str,
        activation: _ActParams,
    ) -> torch.Tensor:
        y = torch.empty_like(x)
        _launch(
            'modulated_act',
            [x, scale, noise, strength, b, y],
            x,
            activation,
            channels_at_once(x, y),
            _step(noise),
        )
        bent = act != 'linear' or activation.clamp != NO_CLAMP
        ctx.save_for_backward(x, scale, noise, y if bent else None)
        ctx.biased = b is not None
        ctx.act = act
        ctx.activation = activation
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, noise, y = ctx.saved_tensors
        if not torch.is_grad_enabled():
            dx, d_scale, d_strength, d_b = _gradients(
                dy, x, scale, noise, y, biased=ctx.biased, activation=ctx.activation
            )
            return dx, d_scale, d_strength, d_b, None, None, None
        # of which gradients are wanted
        dx, d_scale = _Gradients.apply(dy, x, scale, y, ctx.act, ctx.activation)
        d_strength = d_b = None
        if weight_gradients_enabled() and (ctx.biased or noise is not None):
            du = _times_slope(dy, y, ctx.act, ctx.activation)
            if noise is not None:
                d_strength = (
                    du.sum(dim=1, dtype=noise.dtype) * noise.reshape(-1, *x.shape[2:])
                ).sum()
            d_b = du.sum(dim=(0, 2, 3), dtype=scale.dtype) if ctx.biased else None
        return dx, d_scale, d_strength, d_b, None, None, None


class _Gradients(torch.autograd.Function):
    """Gradients of x and of scale, themselves differentiable in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        dy: torch.Tensor,
        x: torch.Tensor,
        scale: torch.Tensor,
        y: torch.Tensor | None,
        act: str,
        activation: _ActParams,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(dy, x, scale, y)
        ctx.act = act
        ctx.activation = activation
        dx, d_scale, _, _ = _gradients(dy, x, scale, None, y, biased=False, activation=activation)
        return dx, d_scale

    @staticmethod
    def backward(
        ctx: Any, ddx: torch.Tensor, dd_scale: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        dy, x, scale, y = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a third derivative
            du = _times_slope(dy, y, ctx.act, ctx.activation)
            factor = scale.to(x.dtype)[:, :, None, None]
            weight = dd_scale.to(x.dtype)[:, :, None, None]
            to_dy = _times_slope(ddx * factor + x * weight, y, ctx.act, ctx.activation)
            to_scale = (du * ddx).sum(dim=(2, 3), dtype=scale.dtype)
            return to_dy, du * weight, to_scale, None, None, None
        gradients = _gradients_of_gradients(
            ddx, dd_scale, dy, x, scale, y, ctx.activation, of_x=ctx.needs_input_grad[1]
        )
        return (*gradients, None, None, None)


def _times_slope(
    t: torch.Tensor, y: torch.Tensor | None, act: str, activation: _ActParams
) -> torch.Tensor:
    """Take a gradient of the activation's result `y` back to its input, by a differentiable op."""
    if y is None:
        return t * activation.gain
    return torch.ops.stylegan.bias_act_grad(t, y, None, 1, act, *activation)


def _gradients(
    dy: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor,
    noise: torch.Tensor | None,
    y: torch.Tensor | None,
    biased: bool,
    activation: _ActParams,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Return the gradients of x, scale, strength and b, in one pass."""
    # with neither slope nor clamp it does not matter what y is
    y = x if y is None else y
    dy = dy.contiguous(memory_format=torch.channels_last)
    dx = torch.empty_like(x)
    channels = x.shape[1]
    count = channels_at_once(x, y, dy, dx)
    d_scale = _sums(x, channels)
    d_b = _sums(x, channels) if biased else None
    d_strength = None if noise is None else _sums(x, channels // count)
    _launch(
        'modulated_act_grad',
        [dy, x, y, scale, noise, dx, d_scale, d_b, d_strength],
        x,
        activation,
        count,
        _step(noise),
    )
    return (
        dx,
        d_scale.sum(dim=1).to(scale.dtype),
        None if d_strength is None else d_strength.sum().to(scale.dtype),
        None if d_b is None else d_b.sum(dim=(0, 1)).to(scale.dtype),
    )


def _gradients_of_gradients(
    ddx: torch.Tensor,
    dd_scale: torch.Tensor,
    dy: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor,
    y: torch.Tensor | None,
    activation: _ActParams,
    of_x: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Return the gradients of dy, x (None unless `of_x`) and scale, the inputs of `_Gradients`."""
    y = x if y is None else y
    ddx, dy = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (ddx, dy))
    to_dy, to_x = torch.empty_like(x), torch.empty_like(x) if of_x else None
    to_scale = _sums(x, x.shape[1])
    tensors = [ddx, dd_scale.to(torch.float32).contiguous(), dy, x, y, scale, to_dy, to_x, to_scale]
    _launch('modulated_act_grad2', tensors, x, activation, channels_at_once(x, y, dy, ddx, to_dy))
    return to_dy, to_x, to_scale.sum(dim=1).to(scale.dtype)


def _sums(x: torch.Tensor, size: int) -> torch.Tensor:
    """Allocate partial sums over the pixels of `x`, one for each lane."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.empty([x.shape[0], _lanes(x), size], dtype=kind, device=x.device)


def _lanes(x: torch.Tensor) -> int:
    """Return how many threads share the pixels of a picture."""
    pixels = x.shape[2] * x.shape[3]
    return -(-pixels // (_PIXELS if pixels >= 1024 else 8))


def _step(noise: torch.Tensor | None) -> ctypes.c_longlong:
    """Return the stride from one picture's noise to the next one's."""
    return ctypes.c_longlong(0 if noise is None or len(noise) == 1 else noise.shape[1])


def _launch(
    name: str,
    tensors: list[torch.Tensor | None],
    x: torch.Tensor,
    activation: _ActParams,
    count: int,
    *more: ctypes.c_longlong,
) -> None:
    if x.numel() == 0:
        return
    batch, channels, height, width = x.shape
    lanes, pixels = _lanes(x), height * width
    kernel = custom_ops.get_kernel(
        'modulated_act.cu', f'{name}<{custom_ops.TYPES[x.dtype]}, {count}>', x.device.index
    )
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    sizes = map(ctypes.c_int, (batch, channels, pixels, lanes))
    blocks = -(-(channels // count * lanes) // _THREADS)
    kernel(
        (blocks, 1, min(batch, _BLOCKS)),
        _THREADS,
        [*addresses, *sizes, *more, *map(ctypes.c_float, activation)],
    )
