"""What several formats must work out from the shapes of tensors, or must not believe."""

from collections.abc import Iterable
from typing import Any

import torch

from torch_utils.misc import named_tensors
from torch_utils.ops import upfirdn2d

from .. import networks


def channel_kwargs(channels: dict[int, int], hint: dict[str, int] | None = None) -> dict[str, int]:
    """`channel_base` and `channel_max` that give these numbers of feature maps.

    Args:
        channels: resolution → feature maps.
        hint: constructor arguments that the file names; taken where they fit.

    Raises:
        ValueError: no pair gives these numbers.
    """
    hint = hint or {}
    most = max(channels.values())
    below = [count * res for res, count in channels.items() if count < most]
    candidates = [(int(hint.get('channel_base', 32768)), int(hint.get('channel_max', 512))),
                  (below[0] if below else most * max(channels), most)]
    for base, limit in candidates:
        if all(min(base // res, limit) == count for res, count in channels.items()):
            return dict(channel_base=base, channel_max=limit)
    raise ValueError(f'irregular numbers of feature maps: {channels}')


def blank(cls: type[torch.nn.Module], kwargs: dict[str, Any]) -> tuple[dict[str, torch.Size], dict[str, torch.Tensor]]:
    """The shapes that a network would have, without any memory for it, and its FIR filters, which some formats leave out.

    Args:
        cls: with its default filter.
        kwargs: constructor arguments.

    Returns:
        Shapes and filters, by dotted name.
    """
    with torch.device('meta'):
        shapes = {key: tensor.shape for key, tensor in named_tensors(cls(**kwargs))}
    kernel = upfirdn2d.setup_filter(list(networks.FIR_FILTER))
    return shapes, {key: kernel for key in shapes if key.endswith('resample_filter')}


def check_no_bomb(tensors: Iterable[torch.Tensor]) -> None:
    """Refuse tensors that share their data: a small file could hold any number of large ones.

    Raises:
        ValueError: in float32 they take more than twice what they are made from, which is what float16 gives.
    """
    needed, held = 0, {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        needed += 4 * tensor.numel()
    if needed > 2 * sum(held.values()) + (1 << 20):
        raise ValueError(f'{needed / 1e6:.0f} MB of tensors are made from {sum(held.values()) / 1e6:.0f} MB of data')


def plain_data(value: Any, depth: int = 10) -> Any:
    """What of a file's other content every format can keep: numbers, text, and lists and dicts of them; the rest becomes text."""
    if depth > 0 and isinstance(value, dict):
        return {str(key): plain_data(item, depth - 1) for key, item in value.items()}
    if depth > 0 and isinstance(value, (list, tuple)):
        return [plain_data(item, depth - 1) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else f'<{type(value).__name__}>'
