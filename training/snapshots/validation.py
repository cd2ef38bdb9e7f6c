"""Validation and inference shared by all readers: settings, channels and classes from tensors."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch

from dnnlib import printable
from dnnlib.util import MAX_TEXT
from torch_utils import persistence
from torch_utils.misc import named_tensors
from torch_utils.ops import bias_act, upfirdn2d

from .. import augment, networks

MAX_RESOLUTION = 1 << 14
MAX_WIDTH = 8192  # of z and w
MAX_TAPS = 64  # on a side of a filter
MAX_PLAIN = 50_000  # pieces of plain data beside the networks
ACTIVATIONS = tuple(bias_act.activation_funcs)
ARCHITECTURES = ('orig', 'skip', 'resnet')
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

M = TypeVar('M', bound=torch.nn.Module)
Check = Callable[[Any], Any]


# ----------------------------------------------------------------------------
# Settings. A file can put anything in their place, so they are looked at before they are compared,
# hashed or printed.


def whole(value: Any, low: int, high: int) -> int:
    """A whole number.

    Raises:
        ValueError: it is none, or outside `low`…`high`.
    """
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f'{_named(value)} where a whole number of {low}…{high} belongs')
    return value


def number(value: Any, low: float = -1e6, high: float = 1e6) -> float:
    """A finite number. See `whole`."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f'{_named(value)} where a number of {low}…{high} belongs')
    return value


def word(value: Any, choices: tuple[str, ...]) -> str:
    """One of a few words. See `whole`."""
    if type(value) is not str or len(value) > 20 or value not in choices:
        raise ValueError(f'{_named(value)} where {", ".join(choices)} belongs')
    return value


def flag(value: Any) -> bool:
    """Yes or no. See `whole`."""
    if type(value) not in (bool, int) or value not in (0, 1):
        raise ValueError(f'{_named(value)} where True or False belongs')
    return bool(value)


def clamp(value: Any) -> float | None:
    """A `conv_clamp`. See `whole`."""
    return None if value is None else number(value, 1e-6)


def fused_modconv(value: Any) -> bool | str:
    """A `fused_modconv_default`. See `whole`."""
    return word(value, ('inference_only',)) if type(value) is str else flag(value)


def taps(value: Any) -> list[Any]:
    """The numbers of a FIR filter, or rows of them. See `whole`."""
    if isinstance(value, torch.Tensor):
        if value.ndim not in (1, 2) or max(value.shape) > MAX_TAPS:
            raise ValueError(f'a filter of more than {MAX_TAPS} taps a side')
        value = value.tolist()
    rows = (
        value
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple))
        else [value]
    )
    for row in (rows, *rows):
        if (
            not isinstance(row, (list, tuple))
            or not 0 < len(row) <= MAX_TAPS
            or (row is not rows and len(row) != len(rows[0]))
        ):
            raise ValueError(f'a filter of no or more than {MAX_TAPS} taps a side')
    for row in rows:
        for tap in row:
            number(tap)
    return list(value)


def _whole(low: int, high: int, none: bool = False) -> Check:
    return lambda value: None if none and value is None else whole(value, low, high)


def _number(low: float, high: float, none: bool = False) -> Check:
    return lambda value: None if none and value is None else number(value, low, high)


def _bands(value: Any) -> None:
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        raise ValueError('imgfilter_bands are four numbers')
    for band in value:
        number(band)


def _kernel(value: Any) -> None:
    if whole(value, 1, 15) % 2 == 0:
        raise ValueError(f'{value} where an odd number belongs')


_NESTED = ('mapping_kwargs', 'synthesis_kwargs', 'block_kwargs', 'epilogue_kwargs')
_CHECKS: dict[str, Check] = {  # of the networks' constructor arguments, wherever they are nested
    'z_dim': _whole(1, MAX_WIDTH),
    'c_dim': _whole(0, 1 << 20),
    'w_dim': _whole(1, MAX_WIDTH),
    'img_resolution': _whole(4, MAX_RESOLUTION),
    'img_channels': _whole(1, 1000),
    'num_layers': _whole(1, 100),
    'layer_features': _whole(1, 1 << 16, none=True),
    'embed_features': _whole(1, 1 << 16, none=True),
    'cmap_dim': _whole(0, 1 << 16, none=True),
    'lr_multiplier': _number(1e-9, 1e6),
    'w_avg_beta': _number(0, 1, none=True),
    'channel_base': _whole(1, 1 << 24),
    'channel_max': _whole(1, 1 << 16),
    'num_fp16_res': _whole(0, 100),
    'conv_clamp': clamp,
    'architecture': lambda value: word(value, ARCHITECTURES),
    'activation': lambda value: word(value, ACTIVATIONS),
    'use_noise': flag,
    'kernel_size': _kernel,
    'resample_filter': taps,
    'fp16_channels_last': flag,
    'fused_modconv_default': fused_modconv,
    'freeze_layers': _whole(0, 100),
    'mbstd_group_size': _whole(1, 1 << 16, none=True),
    'mbstd_num_channels': _whole(0, 1 << 16),
}


def check_settings(cls: type[torch.nn.Module], kwargs: Any, nested: bool = False) -> None:
    """Constructor arguments that a file dictates.

    Raises:
        ValueError: one is unknown, of another type, or beyond what any network has.
    """
    if not isinstance(kwargs, dict):
        raise ValueError(f'settings that are a {type(kwargs).__name__}')
    for key, value in kwargs.items():
        try:
            if cls is augment.AugmentPipe:
                (_bands if key == 'imgfilter_bands' else number)(value)
            elif key in _NESTED and not nested:
                check_settings(cls, {} if value is None else value, nested=True)
            elif key in _CHECKS:
                _CHECKS[key](value)
            else:
                raise ValueError('unknown')
        except ValueError as error:
            raise ValueError(f'{printable(key, 60)}: {error}') from None


def build(cls: type[M], kwargs: dict[str, Any], tensors: dict[str, torch.Tensor], name: str) -> M:
    """`persistence.build` with settings that a file dictates.

    Raises:
        UserError: the tensors don't fit.
        ValueError: the settings don't make a network that runs.
    """
    check_settings(cls, kwargs)
    module = persistence.build(cls, kwargs, tensors, name)
    if isinstance(module, networks.Discriminator):
        last = module.b4
        if last.mbstd is not None and last.in_channels % last.mbstd.num_channels != 0:
            raise ValueError(
                f'{last.mbstd.num_channels} statistics of {last.in_channels} feature maps'
            )
        if module.c_dim > 0 and last.cmap_dim < 1:
            raise ValueError('labels without a projection')
    return module


def _named(value: Any) -> str:
    """What stands in a setting's place, without printing anything long."""
    if type(value) in (str, float, bool, type(None)) or (
        type(value) is int and value.bit_length() < 64
    ):
        return printable(value, 40)
    return f'<{type(value).__name__}>'


# ----------------------------------------------------------------------------


def channel_kwargs(channels: dict[int, int], hint: dict[str, int] | None = None) -> dict[str, int]:
    """`channel_base` and `channel_max` that give these numbers of feature maps.

    Args:
        channels: resolution → feature maps.
        hint: constructor arguments that the file names; taken where they fit.

    Raises:
        ValueError: no pair gives these numbers.
    """
    hint = hint or {}
    if not isinstance(hint, dict):
        raise ValueError('no constructor arguments')
    most = max(channels.values())
    below = [count * res for res, count in channels.items() if count < most]
    candidates = [
        (
            whole(hint.get('channel_base', 32768), 1, 1 << 24),
            whole(hint.get('channel_max', 512), 1, 1 << 24),
        ),
        (below[0] if below else most * max(channels), most),
    ]
    for base, limit in candidates:
        if all(min(base // res, limit) == count for res, count in channels.items()):
            return dict(channel_base=base, channel_max=limit)
    raise ValueError(f'irregular numbers of feature maps: {channels}')


def blank(
    cls: type[torch.nn.Module], kwargs: dict[str, Any]
) -> tuple[dict[str, torch.Size], dict[str, torch.Tensor]]:
    """The shapes that a network would have, without any memory for it, and its FIR filters, which
    some formats leave out.

    Args:
        cls: with its default filter.
        kwargs: constructor arguments.

    Returns:
        Shapes and filters, by dotted name.
    """
    check_settings(cls, kwargs)
    with persistence.ShapesOnly():
        shapes = {key: tensor.shape for key, tensor in named_tensors(cls(**kwargs))}
    kernel = upfirdn2d.setup_filter(list(networks.FIR_FILTER))
    return shapes, {key: kernel for key in shapes if key.endswith('resample_filter')}


def check_no_bomb(tensors: Iterable[Any]) -> None:
    """Refuse tensors that share their data: a small file could hold any number of large ones.

    Raises:
        ValueError: in float32 they take more than twice what they are made from, which is what
            float16 gives; or one is no dense tensor of real numbers.
    """
    needed, held = 0, {}
    for tensor in tensors:
        if (
            not isinstance(tensor, torch.Tensor)
            or tensor.layout != torch.strided
            or tensor.dtype not in DTYPES
        ):
            raise ValueError('a weight is no dense tensor of real numbers')
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        needed += 4 * tensor.numel()
    if needed > 2 * sum(held.values()) + (1 << 20):
        raise ValueError(
            f'{needed / 1e6:.0f} MB of tensors are made from '
            f'{sum(held.values()) / 1e6:.0f} MB of data'
        )


def plain_data(content: dict[Any, Any]) -> dict[str, Any]:
    """What of a file's other content every format can keep: numbers, text, and lists and dicts of
    them; the rest becomes text.

    Raises:
        ValueError: it is too much, if only by referring to the same again and again.
    """
    left = MAX_PLAIN

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError('it holds far more beside the networks than they have use for')
        if depth > 0 and isinstance(value, dict):
            return {_key(key): plain(item, depth - 1) for key, item in value.items()}
        if depth > 0 and isinstance(value, (list, tuple)):
            return [plain(item, depth - 1) for item in value]
        if isinstance(value, int) and value.bit_length() > 64:
            return '<int>'
        return (
            value
            if isinstance(value, (str, int, float, type(None)))
            else f'<{type(value).__name__}>'
        )

    return {_key(key): plain(value, 10) for key, value in content.items()}


def _key(key: Any) -> str:
    text = str(key)
    return text if text.isprintable() and len(text) <= MAX_TEXT else printable(text)
