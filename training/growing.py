"""Carry networks to another resolution: a 256 px snapshot as the start of a 512 px run, or back.

The blocks that both resolutions have are copied. New blocks start so that nothing changes at
first: the generator draws the old pictures, enlarged, and the discriminator judges a picture as the
old one judges it, reduced. (Growing step by step is from Karras et al. 2018; here without fading,
since the new blocks begin as the identity.)
"""

import math
from typing import TypeVar, cast

import torch

from dnnlib import UserError
from torch_utils import persistence
from torch_utils.misc import named_tensors

from .networks import Conv2dLayer, Discriminator, DiscriminatorBlock, Generator, SynthesisBlock
from .snapshots import Networks, ancestry

MAX_RESOLUTION = 1024
SLOPE = 0.2  # of leaky ReLU for negative numbers

M = TypeVar('M', Generator, Discriminator)


def change_resolution(networks: Networks, resolution: int) -> Networks:
    """Return networks of another resolution that draw and judge as these do.

    Args:
        networks: as `load_networks` returns them.
        resolution: a power of two, 8…1024, pixels.

    Returns:
        New networks with lineage. Enlarged, G draws the old pictures through the filter of its own
        upsampling. Reduced, it draws what its skip connections had added up at that resolution; D's
        first layer is then new.

    Raises:
        UserError: the resolution can't be had, or G isn't of the `skip` architecture, whose blocks
            add to the picture.
    """
    old = networks.G_ema.img_resolution
    if not 8 <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1) != 0:
        raise UserError(
            f'--resolution={resolution}: a power of two is needed, from 8 to {MAX_RESOLUTION}'
        )
    if resolution == old:
        raise UserError(f'--resolution={resolution}: that is what the networks have')
    architecture = cast(SynthesisBlock, networks.G_ema.synthesis.b4).architecture
    if architecture != 'skip':
        raise UserError(
            f'--resolution={resolution}: only generators of the skip architecture can be carried '
            f'over; this one is {architecture}'
        )
    G, D, G_ema = networks.G, networks.D, networks.G_ema
    while G_ema.img_resolution != resolution:
        up = resolution > G_ema.img_resolution
        next_resolution = G_ema.img_resolution * 2 if up else G_ema.img_resolution // 2
        G_ema = _next_generator(G_ema, next_resolution)
        G = None if G is None else _next_generator(G, next_resolution)
        D = None if D is None else _next_discriminator(D, next_resolution)
    own = networks.meta.get('toonify')
    meta = {'toonify': {**(own if isinstance(own, dict) else {}), 'parents': ancestry(networks)}}
    return Networks(G, D, G_ema, networks.augment_pipe, meta)


def _next_generator(G: Generator, resolution: int) -> Generator:
    new = _with_shared_tensors(G, resolution)
    if resolution > G.img_resolution:  # the new block adds nothing to the enlarged picture
        torgb = getattr(new.synthesis, f'b{resolution}').torgb
        torgb.weight.zero_()
        torgb.bias.zero_()
    return new


def _next_discriminator(D: Discriminator, resolution: int) -> Discriminator:
    new = _with_shared_tensors(D, resolution)
    if resolution > D.img_resolution and getattr(new, f'b{resolution}').architecture == 'resnet':
        first, second = getattr(new, f'b{resolution}'), getattr(D, f'b{D.img_resolution}')
        if first.fromrgb.out_channels >= 2 * D.img_channels:
            _judge_reduced_pictures(first, second.fromrgb, D.img_channels)
    return new


def _judge_reduced_pictures(
    block: DiscriminatorBlock, fromrgb: Conv2dLayer, img_channels: int
) -> None:
    """Make a new first block compute what the old `fromrgb` computes of the reduced picture.

    A channel x passes a leaky ReLU unchanged as the pair lrelu(x), lrelu(-x), whose difference is
    (1 + slope) x. Two layers hand on such pairs; the third, which also reduces, has the old layer's
    weights and activation. The other channels keep their random weights and aren't listened to yet.
    """
    pairs = 2 * img_channels
    restore = 1 / (math.sqrt(2) * (1 + SLOPE))  # the activation's gain is the root of 2

    enter, hand_on, leave = block.fromrgb, block.conv0, block.conv1
    enter.weight[:pairs] = 0
    hand_on.weight[:pairs] = 0
    leave.weight.zero_()
    block.skip.weight.zero_()
    old = fromrgb.weight[:, :, 0, 0] * fromrgb.weight_gain
    for i in range(img_channels):
        for j, sign in ((2 * i, 1.0), (2 * i + 1, -1.0)):
            enter.weight[j, i, 0, 0] = sign / enter.weight_gain
            for k, other in ((2 * i, 1.0), (2 * i + 1, -1.0)):
                hand_on.weight[j, k, 1, 1] = sign * other * restore / hand_on.weight_gain
            # the block's branches are scaled by the root of 1/2
            leave.weight[:, j, 1, 1] = sign * math.sqrt(2) * restore * old[:, i] / leave.weight_gain
    assert leave.bias is not None and fromrgb.bias is not None
    leave.bias.copy_(fromrgb.bias * math.sqrt(2))


def _with_shared_tensors(network: M, resolution: int) -> M:
    """Return a new network whose tensors are those of the old one where both have them."""
    kwargs = {**persistence.constructor_kwargs(network), 'img_resolution': resolution}
    if isinstance(network, Discriminator):  # what was frozen was counted from the old first layer
        kwargs['block_kwargs'] = {**(kwargs.get('block_kwargs') or {}), 'freeze_layers': 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same new blocks each time
        new = type(network)(**kwargs).eval().requires_grad_(False)
    old = dict(named_tensors(network))
    for name, tensor in named_tensors(new):
        if name in old and old[name].shape == tensor.shape:
            tensor.copy_(old[name])
    return new
