"""Layer swapping: one generator out of two (Pinkney and Adler 2020, "Resolution Dependent GAN Interpolation").

The *low* network gives the low resolutions, which hold pose and structure; the *high* one the rest, which hold texture
and colour. It only makes sense where one was fine-tuned from the other.
"""

import re
from typing import Literal, TypeVar

import torch

from dnnlib import UserError
from torch_utils import persistence
from torch_utils.misc import named_tensors
from training.checkpoint import Networks, ancestry
from training.networks import Generator

M = TypeVar('M', bound=torch.nn.Module)

Parent = Literal['low', 'high']


def parent_of(name: str, swap_resolution: int, mapping: Parent = 'low') -> Parent:
    """Which parent a generator's tensor comes from.

    Args:
        name: dotted, such as `synthesis.b64.conv0.weight` or `mapping.fc0.weight`.
        swap_resolution: blocks up to this one come from the low network.
        mapping: where the mapping comes from, w_avg included.
    """
    block = re.match(r'synthesis\.b(\d+)\.', name)
    if block is None:
        return mapping
    return 'low' if int(block[1]) <= swap_resolution else 'high'


def blend_generators(low: Generator, high: Generator, swap_resolution: int, mapping: Parent = 'low') -> Generator:
    """A new generator with every parameter and buffer from the parent that `parent_of` names.

    Raises:
        UserError: the networks differ in a name or shape, or have no such resolution.
    """
    tensors = {'low': dict(named_tensors(low)), 'high': dict(named_tensors(high))}
    require_same(tensors['low'], tensors['high'])
    resolutions = low.synthesis.block_resolutions
    if swap_resolution not in resolutions:
        raise UserError(f"--swap-resolution={swap_resolution}: these networks have the resolutions {', '.join(map(str, resolutions))}")
    mixed = {name: tensors[parent_of(name, swap_resolution, mapping)][name] for name in tensors['low']}
    blended = persistence.clone(low)
    with torch.no_grad():
        for name, tensor in named_tensors(blended):
            tensor.copy_(mixed[name])
    return blended


def require_same(low: dict[str, torch.Tensor], high: dict[str, torch.Tensor]) -> None:
    """Refuse networks of different architecture.

    Raises:
        UserError: naming the first tensor that only one of them has, or whose shapes differ.
    """
    for name in sorted(low.keys() ^ high.keys()):
        here, there = ('--low', '--high') if name in low else ('--high', '--low')
        raise UserError(f'the networks differ: {name} is in {here} and not in {there}; {_ADVICE}')
    for name, tensor in low.items():
        if tensor.shape != high[name].shape:
            raise UserError(f'the networks differ: {name} is {list(tensor.shape)} in --low and {list(high[name].shape)} in --high; '
                            f'{_ADVICE}')


_ADVICE = 'only a network and its fine-tuned copy can be blended'


def blend_networks(low: Networks, high: Networks, swap_resolution: int, mapping: Parent = 'low') -> Networks:
    """Blend G and G_ema of two snapshots alike; D and augment_pipe come from the low one (D from the high one
    where the low one has none).

    Raises:
        UserError: see `blend_generators`.
    """
    G_ema = blend_generators(low.G_ema, high.G_ema, swap_resolution, mapping)
    G = blend_generators(low.G or low.G_ema, high.G or high.G_ema, swap_resolution, mapping)
    meta = {'training_set_kwargs': low.meta.get('training_set_kwargs') or {},
            'toonify': {'blend': {'low': low.meta.get('path'), 'high': high.meta.get('path'), 'swap_resolution': swap_resolution,
                                  'mapping': mapping},
                        'parents': ancestry(low, high)}}
    return Networks(G, low.D or high.D, G_ema, low.augment_pipe, meta)
