"""Bias, activation, gain and clamp in one op."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Activation:
    """An activation function of `bias_act`.

    Attributes:
        func: `(x, alpha) -> y`, elementwise.
        def_alpha: the default of alpha, which only `lrelu` has a use for.
        def_gain: the gain that keeps the variance of a unit normal input, as used by StyleGAN2.
        homogeneous: whether `func(k * x) == k * func(x)` for k > 0, so that the gain may come first.
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
    spec = activation_funcs[act]
    if not spec.homogeneous:
        return _bias_act_ref(x, b, dim, act, alpha, gain, clamp)
    return _bias_act_homogeneous(x, b, dim, act, alpha, gain, clamp)


def _resolve(act: str, alpha: float | None, gain: float | None) -> tuple[Activation, float, float]:
    spec = activation_funcs[act]
    return spec, float(spec.def_alpha if alpha is None else alpha), float(spec.def_gain if gain is None else gain)


def _broadcast_bias(b: torch.Tensor, ndim: int, dim: int) -> torch.Tensor:
    return b.reshape([-1 if i == dim else 1 for i in range(ndim)])


def _bias_act_ref(x: torch.Tensor, b: torch.Tensor | None, dim: int, act: str,
                  alpha: float | None, gain: float | None, clamp: float | None) -> torch.Tensor:
    spec, alpha, gain = _resolve(act, alpha, gain)
    if b is not None:
        x = x + _broadcast_bias(b, x.ndim, dim)
    x = spec.func(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-float(clamp), float(clamp))


def _bias_act_homogeneous(x: torch.Tensor, b: torch.Tensor | None, dim: int, act: str,
                          alpha: float | None, gain: float | None, clamp: float | None) -> torch.Tensor:
    """The gain goes in before the activation, where neither factor nor sum keeps anything for the backward pass;
    so bias, gain and activation share one new buffer instead of making three.
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
