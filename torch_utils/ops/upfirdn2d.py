"""Upsample, filter and downsample pictures: pad, insert zeros, convolve with a FIR filter, keep
every n-th pixel.

Long filters that are the product of a row and a column run as two passes. Padding and zeros are
laid out in one new channels_last buffer, where a CPU's depthwise convolution is quickest; pixels
that `down` drops are never computed. (Measured on a CPU: polyphase convolutions, which insert no
zeros, gain nothing over this at 64 channels and lose at 3.) A GPU has kernels of its own, which do
rows and columns at once. The file is long because the op stands beside its reference and kernels.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.weak import WeakIdKeyDictionary

from torch_utils import custom_ops

Factors = int | Sequence[int]
Padding = int | Sequence[int]

_LONG_FILTER = 8  # from this many taps on, two passes of one dimension beat one of two


def setup_filter(
    f: Any,
    device: torch.device | str | None = None,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """Make the filter tensor that the other functions take.

    Args:
        f: a list, array or tensor of one or two dimensions; None is the identity.
        device: None for PyTorch's default.
        normalize: scale so that constant pictures keep their value.
        flip_filter: mirror it.
        gain: factor of the whole filter.
        separable: keep a one-dimensional filter as such, to be applied to rows and columns; None
            decides by length.

    Returns:
        float32 `[taps]` or `[rows, columns]`.
    """
    f = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    if f.ndim == 0:
        f = f[None]
    if f.ndim > 2 or f.numel() == 0:
        raise ValueError(f'a filter has one or two dimensions, not shape {tuple(f.shape)}')
    if separable is None:
        separable = f.ndim == 1 and f.numel() >= _LONG_FILTER
    if f.ndim == 1 and not separable:
        f = f.ger(f)
    if normalize:
        f = f / f.sum()
    if flip_filter:
        f = f.flip(list(range(f.ndim)))
    f = f * gain ** (f.ndim / 2)
    return f if device is None else f.to(device)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Factors = 1,
    down: Factors = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = 'auto',
) -> torch.Tensor:
    """Insert `up − 1` zeros after each pixel, pad, convolve with `f`, keep every `down`-th pixel.

    Differentiable any number of times in `x`; the filter takes no gradient.

    Args:
        x: any float dtype, `[N, C, H, W]`.
        f: float32 `[taps]` (applied along both axes) or `[fh, fw]`; None is the identity.
        up, down: one factor or `[x, y]`.
        padding: pixels of the upsampled picture: one number, `[x, y]` or `[x0, x1, y0, y1]`;
            negative ones crop.
        flip_filter: correlate instead of convolve.
        gain: factor of the result.
        impl: `ref` for the definition as it stands, `auto` for the quickest that there is.

    Returns:
        `[N, C, (H·up + pad − fh) // down + 1, …]`, the dtype of `x`.
    """
    ux, uy = _factors(up)
    dx, dy = _factors(down)
    px0, px1, py0, py1 = _parse_padding(padding)
    if f is None:
        f = torch.ones([1, 1], dtype=torch.float32, device=x.device)
    if x.is_cuda and impl != 'ref' and x.dtype in custom_ops.TYPES and custom_ops.enabled(x.device):
        return torch.ops.stylegan.upfirdn2d(
            x, f, [ux, uy], [dx, dy], [px0, px1, py0, py1], flip_filter, float(gain)
        )
    passes: list[
        tuple[torch.Tensor, tuple[int, int], tuple[int, int], tuple[int, int, int, int], float]
    ]
    rows_and_columns = _separate(f)
    if rows_and_columns is None:
        passes = [(f, (ux, uy), (dx, dy), (px0, px1, py0, py1), float(gain))]
    else:
        fy, fx = rows_and_columns
        passes = [
            (fx[None, :], (ux, 1), (dx, 1), (px0, px1, 0, 0), float(gain)),
            (fy[:, None], (1, uy), (1, dy), (0, 0, py0, py1), 1.0),
        ]
    for kernel, ups, downs, pads, factor in passes:
        if impl == 'ref':
            x = _upfirdn2d_ref(x, kernel, ups, downs, pads, flip_filter, factor)
        else:
            x = _UpFirDn2d.apply(x, kernel, ups, downs, pads, flip_filter, factor)
    return x


def filter2d(
    x: torch.Tensor,
    f: torch.Tensor,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = 'auto',
) -> torch.Tensor:
    """Filter at the same size; `padding` beyond that enlarges or crops. See `upfirdn2d`."""
    px0, px1, py0, py1 = _parse_padding(padding)
    fw, fh = _filter_size(f)
    pads = [px0 + fw // 2, px1 + (fw - 1) // 2, py0 + fh // 2, py1 + (fh - 1) // 2]
    return upfirdn2d(x, f, padding=pads, flip_filter=flip_filter, gain=gain, impl=impl)


def upsample2d(
    x: torch.Tensor,
    f: torch.Tensor,
    up: Factors = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = 'auto',
) -> torch.Tensor:
    """Enlarge by `up`, keeping pixel centres and brightness; `padding` is in output pixels. See
    `upfirdn2d`.
    """
    ux, uy = _factors(up)
    px0, px1, py0, py1 = _parse_padding(padding)
    fw, fh = _filter_size(f)
    pads = [
        px0 + (fw + ux - 1) // 2,
        px1 + (fw - ux) // 2,
        py0 + (fh + uy - 1) // 2,
        py1 + (fh - uy) // 2,
    ]
    return upfirdn2d(
        x, f, up=up, padding=pads, flip_filter=flip_filter, gain=gain * ux * uy, impl=impl
    )


def downsample2d(
    x: torch.Tensor,
    f: torch.Tensor,
    down: Factors = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = 'auto',
) -> torch.Tensor:
    """Reduce by `down`, keeping pixel centres and brightness; `padding` is in input pixels. See
    `upfirdn2d`.
    """
    dx, dy = _factors(down)
    px0, px1, py0, py1 = _parse_padding(padding)
    fw, fh = _filter_size(f)
    pads = [
        px0 + (fw - dx + 1) // 2,
        px1 + (fw - dx) // 2,
        py0 + (fh - dy + 1) // 2,
        py1 + (fh - dy) // 2,
    ]
    return upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter, gain=gain, impl=impl)


def _upfirdn2d_ref(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    """The definition, step by step, for a two-dimensional filter."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h, 1, w, 1)
    x = F.pad(x, [0, up[0] - 1, 0, 0, 0, up[1] - 1])
    x = x.reshape(n, c, h * up[1], w * up[0])
    x = F.pad(x, list(padding))  # negative padding crops
    f = (f if flip_filter else f.flip([0, 1])) * gain
    x = F.conv2d(x, f.to(x.dtype)[None, None].repeat(c, 1, 1, 1), groups=c)
    return x[:, :, :: down[1], :: down[0]]


class _UpFirDn2d(torch.autograd.Function):
    """The op is linear, and its transpose is the same op with up and down exchanged and the filter
    flipped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        f: torch.Tensor,
        up: tuple[int, int],
        down: tuple[int, int],
        padding: tuple[int, int, int, int],
        flip_filter: bool,
        gain: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(f)
        ctx.x_shape, ctx.up, ctx.down, ctx.padding, ctx.flip_filter, ctx.gain = (
            x.shape,
            up,
            down,
            padding,
            flip_filter,
            gain,
        )
        return _upfirdn2d_fast(x, f, up, down, padding, flip_filter, gain)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:
            return (None,) * 7
        (f,) = ctx.saved_tensors
        pads = _transposed_padding(
            ctx.x_shape, dy.shape, _filter_size(f), ctx.up, ctx.down, ctx.padding
        )
        grad = _UpFirDn2d.apply(dy, f, ctx.down, ctx.up, pads, not ctx.flip_filter, ctx.gain)
        return grad, None, None, None, None, None, None


def _transposed_padding(
    x_shape: torch.Size,
    y_shape: torch.Size,
    filter_size: tuple[int, int],
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
) -> tuple[int, int, int, int]:
    """The padding with which the op takes gradients of its output, `y_shape`, to those of its
    input.
    """
    (fw, fh), (ux, uy), (dx, dy) = filter_size, up, down
    px0, _, py0, _ = padding
    # the pixel that the first tap of the first output met becomes the centre of the transposed
    # filter
    return (
        fw - 1 - px0,
        x_shape[3] * ux - y_shape[3] * dx + px0 - ux + 1,
        fh - 1 - py0,
        x_shape[2] * uy - y_shape[2] * dy + py0 - uy + 1,
    )


def _upfirdn2d_fast(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    n, c, h, w = x.shape
    (px0, px1, py0, py1), (ux, uy), (dx, dy) = padding, up, down
    if ux == uy == 1:
        x = F.pad(x, list(padding)) if any(padding) else x
    else:
        first_row, top = _first_pixel(uy, py0)
        first_column, left = _first_pixel(ux, px0)
        layout = torch.channels_last if x.device.type == 'cpu' else torch.contiguous_format
        shape = [n, c, h * uy + py0 + py1, w * ux + px0 + px1]
        spread = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout).zero_()
        places, pixels = spread[:, :, top::uy, left::ux], x[:, :, first_row:, first_column:]
        rows, columns = min(places.shape[2], pixels.shape[2]), min(places.shape[3], pixels.shape[3])
        places[:, :, :rows, :columns] = pixels[:, :, :rows, :columns]
        x = spread
    g = ((f if flip_filter else f.flip([0, 1])) * gain).to(x.dtype)
    return F.conv2d(x, g.expand(c, 1, *g.shape), stride=(dy, dx), groups=c)


def _first_pixel(up: int, pad: int) -> tuple[int, int]:
    """The first pixel that negative padding leaves, and where it lies in the upsampled picture."""
    index = max(-(pad // up), 0)
    return index, index * up + pad


_separated: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _separate(f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The column and row whose outer product a filter is, where two passes pay; None where one pass
    is better.
    """
    if f.ndim == 1:
        return f, f
    if max(f.shape) < _LONG_FILTER:
        return None
    known = _separated.get(f)
    # finding out reads the values, which on a GPU waits for it: once a filter
    if known is None or known[0] != f._version:
        known = _separated[f] = (f._version, _factorise(f))
    return known[1]


def _factorise(f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The column and row whose outer product a filter of two dimensions is, if it is one."""
    i, j = divmod(int(f.abs().argmax()), f.shape[1])
    column, row = f[:, j] / f[i, j], f[i, :].clone()
    return (
        (column, row)
        if torch.allclose(column[:, None] * row, f, rtol=1e-6, atol=1e-7 * float(f.abs().max()))
        else None
    )


def _factors(value: Factors) -> tuple[int, int]:
    x, y = (value, value) if isinstance(value, int) else value
    if x < 1 or y < 1:
        raise ValueError(f'up and down factors are at least 1, not {value}')
    return int(x), int(y)


def _parse_padding(padding: Padding) -> tuple[int, int, int, int]:
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) == 2:
        x, y = padding
        return int(x), int(x), int(y), int(y)
    x0, x1, y0, y1 = padding
    return int(x0), int(x1), int(y0), int(y1)


def _filter_size(f: torch.Tensor | None) -> tuple[int, int]:
    """Width and height."""
    return (1, 1) if f is None else (int(f.shape[-1]), int(f.shape[0]))


# ----------------------------------------------------------------------------
# The kernels as one op of PyTorch. Its CPU version is what they are held against.

_THREADS = 256
_ROWS = 8  # that a thread makes
_BLOCKS = 65535  # at most, along y and z
_TAPS = (4, 12)  # that there are kernels for; shorter filters get zeros
_SPECIALISED = ((1, 1), (2, 1), (1, 2))  # up, down

torch.library.define(
    'stylegan::upfirdn2d',
    '(Tensor x, Tensor f, int[2] up, int[2] down, int[4] '
    'padding, bool flip_filter, float gain) '
    '-> Tensor',
)


def _output_size(
    x: torch.Tensor, f: torch.Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int]
) -> tuple[int, int]:
    """Height and width."""
    fw, fh = _filter_size(f)
    height, width = (
        x.shape[2] * up[1] + padding[2] + padding[3] - fh,
        x.shape[3] * up[0] + padding[0] + padding[1] - fw,
    )
    if height < 0 or width < 0:
        raise ValueError(f'the filter of {fw}x{fh} is larger than the padded picture')
    return height // down[1] + 1, width // down[0] + 1


def _layout(x: torch.Tensor) -> torch.memory_format:
    """Of the result."""
    return torch.channels_last if x.stride(1) == 1 and x.shape[1] > 1 else torch.contiguous_format


def _upfirdn2d_cpu(
    x: torch.Tensor,
    f: torch.Tensor,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    kernel = f.ger(f) if f.ndim == 1 else f
    return _upfirdn2d_ref(
        x, kernel, (up[0], up[1]), (down[0], down[1]), _parse_padding(padding), flip_filter, gain
    ).contiguous(memory_format=_layout(x))


def _upfirdn2d_cuda(
    x: torch.Tensor,
    f: torch.Tensor,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    batch, channels, in_h, in_w = x.shape
    out_h, out_w = _output_size(x, f, up, down, padding)
    channels_last = _layout(x) == torch.channels_last
    y = torch.empty(
        [batch, channels, out_h, out_w], dtype=x.dtype, device=x.device, memory_format=_layout(x)
    )
    if y.numel() == 0:
        return y
    filters = _filters_for_kernels(f, flip_filter)
    width, name = 1, f'upfirdn2d_general<{custom_ops.TYPES[x.dtype]}>'
    separable = (
        len(filters) == 2
        and up[0] == up[1]
        and down[0] == down[1]
        and (up[0], down[0]) in _SPECIALISED
    )
    if separable:
        taps = len(filters[0])
        if channels_last:
            width = _elements_an_access(x, y, channels, 16 if taps == _TAPS[0] else 8)
        kind = custom_ops.TYPES[x.dtype]
        name = f'upfirdn2d_separable<{kind}, {up[0]}, {down[0]}, {taps}, {_ROWS}, {width}>'
    kernel = custom_ops.get_kernel('upfirdn2d.cu', name, x.device.index)
    sizes = [
        *map(ctypes.c_int, (batch, channels, in_h, in_w, out_h, out_w)),
        *map(ctypes.c_longlong, (*x.stride(), *y.stride())),
    ]
    pads = [
        ctypes.c_int(padding[0]),
        ctypes.c_int(padding[2]),
        ctypes.c_float(gain),
        ctypes.c_int(not channels_last),
    ]
    if separable:
        column, row = filters
        tiles = (out_h + up[0] - 1 + _ROWS - 1) // _ROWS
        args = [x.data_ptr(), row.data_ptr(), column.data_ptr(), y.data_ptr(), *sizes, *pads]
    else:
        tiles = out_h
        (taps2d,) = filters if len(filters) == 1 else (filters[0][:, None] * filters[1],)
        args = [
            x.data_ptr(),
            taps2d.data_ptr(),
            y.data_ptr(),
            *sizes,
            *map(ctypes.c_int, (*taps2d.shape, *up, *down)),
            *pads,
        ]
    blocks = -(-channels // width * out_w // _THREADS)
    kernel((blocks, min(tiles, _BLOCKS), min(batch, _BLOCKS)), _THREADS, args)
    return y


def _elements_an_access(x: torch.Tensor, y: torch.Tensor, channels: int, size: int) -> int:
    """Return how many neighbouring channels a thread may access at once, in up to `size` bytes."""
    steps = [
        channels,
        *(
            stride
            for tensor in (x, y)
            for stride in (tensor.stride(0), tensor.stride(2), tensor.stride(3))
        ),
    ]
    count = size // x.element_size()
    aligned = all(tensor.data_ptr() % size == 0 for tensor in (x, y)) and all(
        step % count == 0 for step in steps
    )
    return count if aligned and count > 0 else 1


_turned: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _filters_for_kernels(f: torch.Tensor, flip_filter: bool) -> tuple[torch.Tensor, ...]:
    """As correlations: a column and a row of one of the lengths in `_TAPS`, or a filter of two
    dimensions.

    The answer is kept as long as `f` lives, since finding out whether a filter is a product waits
    for the device.
    """
    known = _turned.setdefault(f, {})
    key = f._version, flip_filter
    if key not in known:
        turned = f if flip_filter else f.flip(list(range(f.ndim)))
        turned = turned.to(torch.float32)
        factors = (turned, turned) if turned.ndim == 1 else _factorise(turned)
        if factors is None or max(map(len, factors)) > max(_TAPS):
            known[key] = ((turned if turned.ndim == 2 else turned.ger(turned)).contiguous(),)
        else:
            taps = min(taps for taps in _TAPS if taps >= max(map(len, factors)))
            known[key] = tuple(
                F.pad(factor, [0, taps - len(factor)]).contiguous() for factor in factors
            )
    return known[key]


def _upfirdn2d_fake(
    x: torch.Tensor,
    f: torch.Tensor,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    return torch.empty(
        [x.shape[0], x.shape[1], *_output_size(x, f, up, down, padding)],
        dtype=x.dtype,
        device=x.device,
        memory_format=_layout(x),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, f, *ctx.settings = inputs
    ctx.x_shape = x.shape
    ctx.save_for_backward(f)


def _backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (f,) = ctx.saved_tensors
    up, down, padding, flip_filter, gain = ctx.settings
    dx = None
    if ctx.needs_input_grad[0]:
        pads = _transposed_padding(ctx.x_shape, dy.shape, _filter_size(f), up, down, padding)
        dx = torch.ops.stylegan.upfirdn2d(dy, f, down, up, list(pads), not flip_filter, gain)
    return dx, None, None, None, None, None, None


torch.library.impl('stylegan::upfirdn2d', 'cpu', _upfirdn2d_cpu)
torch.library.impl('stylegan::upfirdn2d', 'cuda', _upfirdn2d_cuda)
torch.library.register_fake('stylegan::upfirdn2d', _upfirdn2d_fake)
torch.library.register_autograd('stylegan::upfirdn2d', _backward, setup_context=_setup_context)
