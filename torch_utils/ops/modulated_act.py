"""What follows a modulated convolution (demodulation, noise, bias, activation, gain, clamp), and what comes before it (the styles), in one
kernel each way; for GPUs only.

What it is held against, and what serves where there are no kernels, is the composition of `fma` and `bias_act` in `training/networks.py`.
"""

import ctypes
from typing import Any

import torch

from torch_utils import custom_ops

from .bias_act import NO_CLAMP
from .conv2d_gradfix import weight_gradients_enabled

_SLOPES = {'linear': 1.0, 'relu': 0.0, 'lrelu': 0.2}
_THREADS = 256
_BLOCKS = 65535  # at most, along z
_PIXELS = 32  # a thread, of large pictures


def available(x: torch.Tensor, noise: torch.Tensor | None, act: str) -> bool:
    """Whether there is a kernel for these arguments of `modulated_act`."""
    if not x.is_cuda or x.dtype not in custom_ops.TYPES or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    return act in _SLOPES and not (noise is not None and noise.requires_grad) and custom_ops.enabled(x.device)


def modulated_act(x: torch.Tensor, scale: torch.Tensor, noise: torch.Tensor | None = None, strength: torch.Tensor | None = None,
                  b: torch.Tensor | None = None, act: str = 'linear', gain: float = 1.0, clamp: float | None = None) -> torch.Tensor:
    """`clamp(gain * act(x * scale + strength * noise + b))`, twice differentiable in all but `noise`; sums are the same each time.

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
        noise, strength = noise.detach().to(torch.float32).reshape(-1, x.shape[2] * x.shape[3]).contiguous(), strength.to(torch.float32)
    parameters = [scale.to(torch.float32).contiguous(), strength, None if b is None else b.to(torch.float32).contiguous()]
    return _ModulatedAct.apply(x, *parameters, noise, act, (_SLOPES[act], float(gain), NO_CLAMP if clamp is None else float(clamp)))


class _ModulatedAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, strength: torch.Tensor | None, b: torch.Tensor | None,
                noise: torch.Tensor | None, act: str, numbers: tuple[float, float, float]) -> torch.Tensor:
        y = torch.empty_like(x)
        _launch('modulated_act', [x, scale, noise, strength, b, y], x, noise, numbers, _channels_at_once(x, y))
        bent = act != 'linear' or numbers[2] != NO_CLAMP
        ctx.save_for_backward(x, scale, noise, y if bent else None)
        ctx.biased, ctx.act, ctx.numbers = b is not None, act, numbers
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = _gradients_as_ops if torch.is_grad_enabled() else _gradients  # the former for gradients of gradients
        x, scale, noise, y = ctx.saved_tensors
        dx, d_scale, d_strength, d_b = gradients(dy, x, scale, noise, y, ctx.biased, ctx.act, ctx.numbers)
        return dx, d_scale, d_strength, d_b, None, None, None


def _gradients_as_ops(dy: torch.Tensor, x: torch.Tensor, scale: torch.Tensor, noise: torch.Tensor | None, y: torch.Tensor | None,
                      biased: bool, act: str, numbers: tuple[float, float, float]) -> tuple[torch.Tensor | None, ...]:
    """Of x, scale, strength and b, by ops that can be differentiated."""
    du = dy * numbers[1] if y is None else torch.ops.stylegan.bias_act_grad(dy, y, None, 1, act, *numbers)
    d_strength = d_b = None
    if weight_gradients_enabled():
        if noise is not None:
            d_strength = (du.sum(dim=1, dtype=noise.dtype) * noise.reshape(-1, *x.shape[2:])).sum()
        d_b = du.sum(dim=(0, 2, 3), dtype=scale.dtype) if biased else None
    return du * scale.to(x.dtype)[:, :, None, None], _Products.apply(du, x, scale.dtype), d_strength, d_b


class _Products(torch.autograd.Function):
    """The sums over the pixels of two pictures' products. PyTorch's own derivative of a sum of another dtype writes a whole picture of it,
    in the other layout.
    """

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        return (a * b).sum(dim=(2, 3), dtype=dtype)

    @staticmethod
    def backward(ctx: Any, d_sums: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        a, b = ctx.saved_tensors
        factors = d_sums.to(a.dtype)[:, :, None, None]
        return b * factors if ctx.needs_input_grad[0] else None, a * factors if ctx.needs_input_grad[1] else None, None


def _gradients(dy: torch.Tensor, x: torch.Tensor, scale: torch.Tensor, noise: torch.Tensor | None, y: torch.Tensor | None,
               biased: bool, act: str, numbers: tuple[float, float, float]) -> tuple[torch.Tensor | None, ...]:
    """The same in one pass."""
    y = x if y is None else y  # where there is neither bend nor clamp, nobody asks on which side a result is
    dy, dx = dy.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
    (batch, channels), lanes, count = scale.shape, _lanes(x), _channels_at_once(x, y, dy, dx)
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    parts = [torch.empty([batch, lanes, size], dtype=kind, device=x.device) if wanted else None
             for size, wanted in [(channels, True), (channels, biased), (channels // count, noise is not None)]]
    _launch('modulated_act_grad', [dy, x, y, scale, noise, dx, *parts], x, noise, numbers, count)
    d_scale, d_b, d_strength = (None if part is None else part.to(scale.dtype) for part in parts)
    return (dx, None if d_scale is None else d_scale.sum(dim=1), None if d_strength is None else d_strength.sum(),
            None if d_b is None else d_b.sum(dim=(0, 1)))


def _lanes(x: torch.Tensor) -> int:
    """How many threads share the pixels of a picture."""
    pixels = x.shape[2] * x.shape[3]
    return -(-pixels // (_PIXELS if pixels >= 1024 else 8))


def _channels_at_once(*tensors: torch.Tensor) -> int:
    """How many channels a thread may read and write in one access."""
    count = 16 // tensors[0].element_size()
    return count if tensors[0].shape[1] % count == 0 and all(tensor.data_ptr() % 16 == 0 for tensor in tensors) else 1


def _launch(name: str, tensors: list[torch.Tensor | None], x: torch.Tensor, noise: torch.Tensor | None,
            numbers: tuple[float, float, float], count: int) -> None:
    if x.numel() == 0:
        return
    batch, channels, height, width = x.shape
    lanes, pixels = _lanes(x), height * width
    kernel = custom_ops.get_kernel('modulated_act.cu', f'{name}<{custom_ops.TYPES[x.dtype]}, {count}>', x.device.index)
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    sizes = [*map(ctypes.c_int, (batch, channels, pixels, lanes)), ctypes.c_longlong(0 if noise is None or len(noise) == 1 else pixels)]
    blocks = -(-(channels // count * lanes) // _THREADS)
    kernel((blocks, 1, min(batch, _BLOCKS)), _THREADS, [*addresses, *sizes, *map(ctypes.c_float, numbers)])
