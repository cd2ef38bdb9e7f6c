"""Bias, activation, gain and clamp in one op.

The file is long because the op stands beside its reference, its kernels and two derivatives.
"""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from torch_utils import custom_ops

from .conv2d_gradfix import weight_gradients_enabled


@dataclass(frozen=True)
class Activation:
    """An activation function of `bias_act`.

    Attributes:
        func: `(x, alpha) -> y`, elementwise.
        def_alpha: the default of alpha, which only `lrelu` has a use for.
        def_gain: the gain that keeps the variance of a unit normal input, as used by StyleGAN2.
        homogeneous: whether `func(k * x) == k * func(x)` for k > 0, so that the gain may come
            first.
    """

    func: Callable[[torch.Tensor, float], torch.Tensor]
    def_alpha: float = 0.0
    def_gain: float = 1.0
    homogeneous: bool = False


activation_funcs = {
    'linear': Activation(lambda x, alpha: x, homogeneous=True),
    'relu': Activation(lambda x, alpha: F.relu(x), def_gain=math.sqrt(2), homogeneous=True),
    'lrelu': Activation(F.leaky_relu, def_alpha=0.2, def_gain=math.sqrt(2), homogeneous=True),
    'tanh': Activation(lambda x, alpha: torch.tanh(x)),
    'sigmoid': Activation(lambda x, alpha: torch.sigmoid(x)),
    'elu': Activation(lambda x, alpha: F.elu(x)),
    'selu': Activation(lambda x, alpha: F.selu(x)),
    'softplus': Activation(lambda x, alpha: F.softplus(x)),
    'swish': Activation(lambda x, alpha: torch.sigmoid(x) * x, def_gain=math.sqrt(2)),
}


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = 'linear',
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = 'auto',
) -> torch.Tensor:
    """`clamp(gain * act(x + b))`, twice differentiable in `x` and `b`.

    Args:
        x: any float dtype, any shape.
        b: `[x.shape[dim]]`, the dtype of `x`; None for no bias.
        dim: the dimension of `x` that the bias runs along.
        act: one of `activation_funcs`.
        alpha: slope of `lrelu` below zero; None for 0.2.
        gain: factor after the activation; None for the activation's own.
        clamp: results are limited to −clamp…clamp; None for no limit.
        impl: `ref` for the plain composition of PyTorch ops, `auto` for the quickest that there is.

    Returns:
        The shape and dtype of `x`.
    """
    if impl == 'ref':
        return _bias_act_ref(x, b, dim, act, alpha, gain, clamp)
    spec, slope, factor = _resolve(act, alpha, gain)
    if (
        x.is_cuda
        and x.dtype in custom_ops.TYPES
        and slope >= 0
        and factor > 0
        and custom_ops.enabled(x.device)
    ):
        b = None if b is None else b.to(x.dtype)
        return torch.ops.stylegan.bias_act(
            x, b, dim, act, slope, factor, NO_CLAMP if clamp is None else float(clamp)
        )
    if not spec.homogeneous:
        return _bias_act_ref(x, b, dim, act, alpha, gain, clamp)
    return _bias_act_homogeneous(x, b, dim, act, alpha, gain, clamp)


def _resolve(act: str, alpha: float | None, gain: float | None) -> tuple[Activation, float, float]:
    spec = activation_funcs[act]
    return (
        spec,
        float(spec.def_alpha if alpha is None else alpha),
        float(spec.def_gain if gain is None else gain),
    )


def _broadcast_bias(b: torch.Tensor, ndim: int, dim: int) -> torch.Tensor:
    return b.reshape([-1 if i == dim else 1 for i in range(ndim)])


def _bias_act_ref(
    x: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float | None,
    gain: float | None,
    clamp: float | None,
) -> torch.Tensor:
    spec, alpha, gain = _resolve(act, alpha, gain)
    if b is not None:
        x = x + _broadcast_bias(b, x.ndim, dim)
    x = spec.func(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-float(clamp), float(clamp))


def _bias_act_homogeneous(
    x: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float | None,
    gain: float | None,
    clamp: float | None,
) -> torch.Tensor:
    """The gain goes in before the activation, where neither factor nor sum keeps anything for the
    backward pass; so bias, gain and activation share one new buffer instead of making three.
    """
    spec, alpha, gain = _resolve(act, alpha, gain)
    if gain < 0:  # homogeneity holds for positive factors only
        return _bias_act_ref(x, b, dim, act, alpha, gain, clamp)
    if b is not None:
        x = x + _broadcast_bias(b, x.ndim, dim)
        if gain != 1:
            x = x.mul_(gain)
        fresh = True
    else:
        fresh = gain != 1
        x = x * gain if fresh else x
    if act == 'lrelu':
        x = F.leaky_relu(x, alpha, inplace=fresh and alpha >= 0)
    elif act == 'relu':
        x = F.relu(x, inplace=fresh)
    return x if clamp is None else x.clamp(-float(clamp), float(clamp))


# ----------------------------------------------------------------------------
# The kernel as ops of PyTorch: `bias_act`, its derivative in x applied to dy, and that one's
# derivative in x applied to ddx. `bias_act_grad_sums` is the first derivative of channels_last
# pictures with that in b, in one pass, which cannot be differentiated again. They take resolved
# numbers, alpha >= 0 and gain > 0, and NO_CLAMP for no limit. Their CPU versions are what kernels
# are held against.

NO_CLAMP = -1.0
# the sign of the result tells the derivative, so the input need not be kept
_PIECEWISE = ('linear', 'relu', 'lrelu')
_THREADS = 256
_PIXELS = 64  # that a thread adds up, of many

_SETTINGS = 'Tensor? b, int dim, str act, float alpha, float gain, float clamp'
torch.library.define('stylegan::bias_act', f'(Tensor x, {_SETTINGS}) -> Tensor')
torch.library.define('stylegan::bias_act_grad', f'(Tensor dy, Tensor ref, {_SETTINGS}) -> Tensor')
torch.library.define(
    'stylegan::bias_act_grad2', f'(Tensor ddx, Tensor dy, Tensor ref, {_SETTINGS}) -> Tensor'
)
torch.library.define(
    'stylegan::bias_act_grad_sums',
    '(Tensor dy, Tensor ref, str act, float alpha, float gain, float clamp) -> (Tensor, Tensor)',
)


def _sigmoid_slope(u: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(u) * torch.sigmoid(-u)


# Klambauer et al. 2017
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _first_derivative(u: torch.Tensor, act: str, alpha: float) -> torch.Tensor:
    if act in _PIECEWISE:
        return torch.where(u > 0, 1.0, {'linear': 1.0, 'relu': 0.0, 'lrelu': alpha}[act]).to(
            u.dtype
        )
    return {
        'tanh': lambda: 1 - u.tanh().square(),
        'sigmoid': lambda: _sigmoid_slope(u),
        'elu': lambda: torch.where(u > 0, 1, u.exp()),
        'selu': lambda: _SELU_SCALE * torch.where(u > 0, 1, _SELU_ALPHA * u.exp()),
        'softplus': lambda: torch.sigmoid(u),
        'swish': lambda: torch.sigmoid(u) + u * _sigmoid_slope(u),
    }[act]()


def _second_derivative(u: torch.Tensor, act: str) -> torch.Tensor:
    if act in _PIECEWISE:
        return torch.zeros_like(u)
    return {
        'tanh': lambda: -2 * u.tanh() * (1 - u.tanh().square()),
        'sigmoid': lambda: _sigmoid_slope(u) * (1 - 2 * torch.sigmoid(u)),
        'elu': lambda: torch.where(u > 0, 0, u.exp()),
        'selu': lambda: _SELU_SCALE * torch.where(u > 0, 0, _SELU_ALPHA * u.exp()),
        'softplus': lambda: _sigmoid_slope(u),
        'swish': lambda: _sigmoid_slope(u) * (2 + u * (1 - 2 * torch.sigmoid(u))),
    }[act]()


def _unclamped(
    ref: torch.Tensor, act: str, alpha: float, gain: float, clamp: float
) -> torch.Tensor:
    reached = ref if act in _PIECEWISE else activation_funcs[act].func(ref, alpha) * gain
    limit = torch.tensor(clamp, dtype=ref.dtype)  # as results are stored
    return reached.abs() < limit if clamp >= 0 else torch.ones_like(reached, dtype=torch.bool)


def _input_of(ref: torch.Tensor, b: torch.Tensor | None, dim: int) -> torch.Tensor:
    return ref if b is None else ref + _broadcast_bias(b, ref.ndim, dim)


def _bias_act_cpu(
    x: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    return _bias_act_ref(x, b, dim, act, alpha, gain, clamp if clamp >= 0 else None).clone()


def _bias_act_grad_cpu(
    dy: torch.Tensor,
    ref: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    u = _input_of(ref, b, dim)
    return dy * gain * _first_derivative(u, act, alpha) * _unclamped(u, act, alpha, gain, clamp)


def _bias_act_grad2_cpu(
    ddx: torch.Tensor,
    dy: torch.Tensor,
    ref: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    u = _input_of(ref, b, dim)
    return ddx * dy * gain * _second_derivative(u, act) * _unclamped(u, act, alpha, gain, clamp)


def _bias_act_cuda(
    x: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    return _launch(0, _dense(x), None, None, b, dim, act, alpha, gain, clamp)


def _bias_act_grad_cuda(
    dy: torch.Tensor,
    ref: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    ref = _dense(ref)
    return _launch(1, _laid_out_as(ref, dy), None, ref, b, dim, act, alpha, gain, clamp)


def _bias_act_grad2_cuda(
    ddx: torch.Tensor,
    dy: torch.Tensor,
    ref: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    ref = _dense(ref)
    return _launch(
        2, _laid_out_as(ref, dy), _laid_out_as(ref, ddx), ref, b, dim, act, alpha, gain, clamp
    )


def _bias_act_grad_sums_cpu(
    dy: torch.Tensor, ref: torch.Tensor, act: str, alpha: float, gain: float, clamp: float
) -> tuple[torch.Tensor, torch.Tensor]:
    dx = _bias_act_grad_cpu(dy, ref, None, 1, act, alpha, gain, clamp)
    return dx, _sum_to_bias(dx, 1)


def _bias_act_grad_sums_cuda(
    dy: torch.Tensor, ref: torch.Tensor, act: str, alpha: float, gain: float, clamp: float
) -> tuple[torch.Tensor, torch.Tensor]:
    dy, dx, channels = _laid_out_as(ref, dy), torch.empty_like(ref), ref.shape[1]
    if ref.numel() == 0:
        return dx, ref.new_zeros(channels)
    pixels = ref.numel() // channels
    lanes = -(-pixels // (_PIXELS if pixels >= 1 << 16 else 8))
    sums = torch.empty(
        [lanes, channels], dtype=torch.promote_types(ref.dtype, torch.float32), device=ref.device
    )
    width = channels_at_once(dy, ref, dx)
    kernel = custom_ops.get_kernel(
        'bias_act.cu',
        f'bias_act_grad_sums<{custom_ops.TYPES[ref.dtype]}, {width}>',
        ref.device.index,
    )
    addresses = [tensor.data_ptr() for tensor in (dy, ref, dx, sums)]
    slope = {'linear': 1.0, 'relu': 0.0, 'lrelu': alpha}[act]
    kernel(
        (-(-(channels // width * lanes) // _THREADS), 1, 1),
        _THREADS,
        [
            *addresses,
            ctypes.c_longlong(pixels),
            *map(ctypes.c_int, (channels, lanes)),
            *map(ctypes.c_float, (slope, gain, clamp)),
        ],
    )
    return dx, sums.sum(dim=0).to(ref.dtype)


def channels_at_once(*tensors: torch.Tensor) -> int:
    """How many channels a thread may read and write in one access, of channels_last pictures."""
    count = 16 // tensors[0].element_size()
    return (
        count
        if tensors[0].shape[1] % count == 0
        and all(tensor.data_ptr() % 16 == 0 for tensor in tensors)
        else 1
    )


def _dense(x: torch.Tensor) -> torch.Tensor:
    """With elements that fill a stretch of memory, in the order of `x` where it has one."""
    return (
        x
        if x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
        else x.contiguous()
    )


def _laid_out_as(like: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def _launch(
    order: int,
    x: torch.Tensor,
    ddx: torch.Tensor | None,
    ref: torch.Tensor | None,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    """Run the kernel over dense tensors of one layout."""
    out = torch.empty_like(x)
    count = x.numel()
    if count == 0:
        return out
    b = None if b is None or (order > 0 and act in _PIECEWISE) else b.contiguous()
    tensors = [x, ddx, ref, b, out]
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    width = 16 // x.element_size()
    if count % width != 0 or any(address % 16 != 0 for address in addresses):
        width = 1
    step = x.stride(dim) if b is not None and x.shape[dim] > 1 else 1
    size = 1 if b is None else x.shape[dim]
    if b is None:
        bias = 'NO_BIAS'
    elif size == 1 or step % width == 0:
        bias = 'SAME_BIAS'
    else:
        bias = 'NEIGHBOURS' if step == 1 and size % width == 0 else 'ANY_BIAS'
    blocks = -(-count // (width * _THREADS))
    index = 'unsigned' if blocks * width * _THREADS < 2**32 else 'int64'
    name = (
        f'bias_act<{custom_ops.TYPES[x.dtype]}, {act.upper()}, {order}, {width}, {bias}, {index}>'
    )
    kernel = custom_ops.get_kernel('bias_act.cu', name, x.device.index)
    kernel(
        (blocks, 1, 1),
        _THREADS,
        [
            *addresses,
            *map(ctypes.c_longlong, (count, step, size)),
            *map(ctypes.c_float, (alpha, gain, clamp)),
        ],
    )
    return out


torch.library.impl('stylegan::bias_act', 'cpu', _bias_act_cpu)
torch.library.impl('stylegan::bias_act', 'cuda', _bias_act_cuda)
torch.library.impl('stylegan::bias_act_grad', 'cpu', _bias_act_grad_cpu)
torch.library.impl('stylegan::bias_act_grad', 'cuda', _bias_act_grad_cuda)
torch.library.impl('stylegan::bias_act_grad2', 'cpu', _bias_act_grad2_cpu)
torch.library.impl('stylegan::bias_act_grad2', 'cuda', _bias_act_grad2_cuda)
torch.library.impl('stylegan::bias_act_grad_sums', 'cpu', _bias_act_grad_sums_cpu)
torch.library.impl('stylegan::bias_act_grad_sums', 'cuda', _bias_act_grad_sums_cuda)
torch.library.register_fake('stylegan::bias_act', lambda x, *settings: torch.empty_like(x))
torch.library.register_fake(
    'stylegan::bias_act_grad', lambda dy, ref, *settings: torch.empty_like(ref)
)
torch.library.register_fake(
    'stylegan::bias_act_grad2', lambda ddx, dy, ref, *settings: torch.empty_like(ref)
)
torch.library.register_fake(
    'stylegan::bias_act_grad_sums',
    lambda dy, ref, *settings: (torch.empty_like(ref), ref.new_empty(ref.shape[1])),
)


def _sum_to_bias(dx: torch.Tensor, dim: int) -> torch.Tensor:
    return dx.sum([i for i in range(dx.ndim) if i != dim % dx.ndim])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, b, ctx.dim, ctx.act, *_ = inputs
    ctx.settings = inputs[2:]
    ctx.save_for_backward(*((output, None) if ctx.act in _PIECEWISE else (x, b)))


def _backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    dx = db = None
    (ref, b), summed = ctx.saved_tensors, ctx.needs_input_grad[1] and weight_gradients_enabled()
    if (
        summed
        and ctx.act in _PIECEWISE
        and _is_channels_last(ref, ctx.dim)
        and not torch.is_grad_enabled()
    ):
        dx, db = torch.ops.stylegan.bias_act_grad_sums(dy, ref, *ctx.settings[1:])
    elif any(ctx.needs_input_grad[:2]):
        dx = torch.ops.stylegan.bias_act_grad(dy, ref, b, *ctx.settings)
        db = _sum_to_bias(dx, ctx.dim) if summed else None
    return dx, db, None, None, None, None, None


def _is_channels_last(x: torch.Tensor, dim: int) -> bool:
    return x.ndim == 4 and dim == 1 and x.is_contiguous(memory_format=torch.channels_last)


def _setup_context_of_grad(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    dy, ref, b, ctx.dim, ctx.act, *_ = inputs
    ctx.settings = inputs[3:]
    ctx.save_for_backward(None if ctx.act in _PIECEWISE else dy, ref, b)


def _backward_of_grad(ctx: Any, ddx: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    dy, ref, b = ctx.saved_tensors
    ddy = dref = db = None
    if ctx.needs_input_grad[0]:
        ddy = torch.ops.stylegan.bias_act_grad(ddx, ref, b, *ctx.settings)
    if dy is not None and any(ctx.needs_input_grad[1:3]):
        dref = torch.ops.stylegan.bias_act_grad2(ddx, dy, ref, b, *ctx.settings)
        db = _sum_to_bias(dref, ctx.dim) if ctx.needs_input_grad[2] else None
    return ddy, dref, db, None, None, None, None, None


torch.library.register_autograd('stylegan::bias_act', _backward, setup_context=_setup_context)
torch.library.register_autograd(
    'stylegan::bias_act_grad', _backward_of_grad, setup_context=_setup_context_of_grad
)
