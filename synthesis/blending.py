"""Layer swapping: one generator out of two (Pinkney and Adler 2020, "Resolution Dependent GAN
Interpolation").

The *low* network gives the low resolutions, which hold pose and structure; the *high* one the rest,
which hold texture and colour. It only makes sense where one was fine-tuned from the other.

A resolution has two half-blocks: level 0 is what brings it about (the up-convolution, the skip of
`resnet`; at 4×4 the constant), level 1 the second convolution and ToRGB. Half-blocks are counted
from 0, as in Pinkney's code, and a swap is at one:

    position(R, level) = 2 * (log2(R) - 2) + level          x = position - position of the swap

A smooth swap of some width takes the share 1 / (1 + exp(-x / width)) of the high network: a half at
the swap itself. A hard swap takes nothing of it where x ≤ 1, and everything beyond. So a hard swap
at R and level 0 keeps the whole of R from the low network, and level 1 is half a block later: the
up-convolution of 2R is the low network's too.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from dnnlib import UserError, printable
from torch_utils import persistence
from torch_utils.misc import named_tensors
from training.networks import Generator
from training.snapshots import Networks, ancestry, is_descendant, settings_of

Rule = Literal['pinkney', 'dvschultz', 'vtoonify']

RULES: tuple[str, ...] = get_args(Rule)
VTOONIFY_SWAP = 32  # px; the last resolution that VToonify takes from the fine-tuned network

_OPTIONS = ('swap_resolution', 'swap_level', 'blend_width', 'weights', 'mapping')
_TAKES: dict[str | None, tuple[str, ...]] = {  # the options that are left open by each rule
    None: _OPTIONS,
    'pinkney': ('swap_resolution', 'swap_level', 'blend_width'),
    'dvschultz': ('swap_resolution',),
    'vtoonify': (),
}
# of the synthesis network; w_avg goes with the mapping
_BUFFERS = ('noise_const', 'resample_filter')
_ADVICE = 'only a network and its fine-tuned copy can be blended'
_PRECISION = (
    'conv_clamp',
    'use_fp16',
    'num_fp16_res',
    'channels_last',
    'fused_modconv_default',
    'w_avg_beta',
    'training',
)


@dataclass(frozen=True)
class BlendPlan:
    """The share of every tensor that comes from the high network. None: option not given.

    Attributes:
        swap_resolution: R, the resolution of the swap: 4, 8, 16 …
        swap_level: 0 or 1, the half of R where the swap is (see the top of this file); 0 unless
            given.
        blend_width: width of a smooth swap in half-blocks, above 0; None for a hard one.
        weights: resolution to the share of the high network, 0…1, instead of a swap.
        mapping: the share of the high network in the mapping and in w_avg, 0…1; 0 unless given.
        rule: what another project does, instead of treating all tensors alike. `pinkney`: the swap,
            hard or smooth, of the parameters; mapping and all buffers (noise, filters, w_avg) from
            low. `dvschultz`: a hard swap of the parameters; mapping and all buffers from low.
            `vtoonify`: 4–32 px from low, which is the fine-tuned network there; the other
            resolutions and the mapping with w_avg from high, which is its base; noise goes with its
            resolution.

    Raises:
        UserError: options that contradict each other, too few, or out of range.
    """

    swap_resolution: int | None = None
    swap_level: int | None = None
    blend_width: float | None = None
    weights: Mapping[int, float] | None = None
    mapping: float | None = None
    rule: Rule | None = None

    def __post_init__(self) -> None:
        if self.rule not in _TAKES:
            raise UserError(f'--rule={self.rule}: there are {", ".join(RULES)}')
        given = [name for name in _OPTIONS if getattr(self, name) is not None]
        for name in given:
            if name not in _TAKES[self.rule]:
                raise UserError(
                    f'{_shown(name)} contradicts --rule={self.rule}, which settles '
                    f'that; leave one of them out'
                )
            if self.weights is not None and name not in ('weights', 'mapping'):
                raise UserError(
                    f'{_shown(name)} contradicts --weights, which says what each '
                    f'resolution takes; leave one of them out'
                )
        if self.swap_resolution is None and self.weights is None and self.rule != 'vtoonify':
            raise UserError(
                '--swap-resolution is missing: where does the swap take place? (Or '
                'give --weights, or --rule=vtoonify)'
            )
        if self.swap_level not in (None, 0, 1):
            raise UserError(
                f'--swap-level={self.swap_level}: 0 is the first half of a resolution, 1 the second'
            )
        if self.blend_width is not None and not 0 < self.blend_width < math.inf:
            raise UserError(
                f'--blend-width={self.blend_width:g}: it is a number of half-blocks '
                f'above 0; leave it out for a hard swap'
            )
        shares = {
            '--mapping': self.mapping_share,
            **{f'--weights at {res} px': share for res, share in (self.weights or {}).items()},
        }
        for part, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(
                    f'{part}: {share:g} is no share of the high network: 0 is none of it, 1 all'
                )

    @property
    def mapping_share(self) -> float:
        """The share of the high network in the mapping and in w_avg, 0…1."""
        return 1.0 if self.rule == 'vtoonify' else float(self.mapping or 0.0)

    @property
    def keeps_buffers(self) -> bool:
        """Whether noise, filters and w_avg stay the low network's in any case."""
        return self.rule in ('pinkney', 'dvschultz')

    def share_at(self, resolution: int, level: int) -> float:
        """The share of the high network in a half-block, 0…1.

        Args:
            resolution: 4, 8, 16 …
            level: 0 or 1, see the top of this file.
        """
        if self.weights is not None:
            return float(self.weights[resolution])
        swap = VTOONIFY_SWAP if self.swap_resolution is None else self.swap_resolution
        x = _position(resolution, level) - _position(swap, self.swap_level or 0)
        if self.blend_width is None:
            return 0.0 if x <= 1 else 1.0
        # exp(710) is more than a float holds
        return 1 / (1 + math.exp(min(-x / self.blend_width, 700)))

    def share_of(self, name: str) -> float:
        """The share of the high network in a generator's tensor, 0…1.

        Args:
            name: dotted, such as `synthesis.b64.conv0.weight` or `mapping.fc0.weight`.
        """
        if self.keeps_buffers and name.rsplit('.', 1)[-1] in _BUFFERS:
            return 0.0
        block = re.match(r'synthesis\.b(\d+)\.(\w+)', name)
        if block is None:
            return self.mapping_share
        return self.share_at(int(block[1]), 1 if block[2] in ('conv1', 'torgb') else 0)

    def shares(self, resolutions: Sequence[int]) -> dict[int, tuple[float, float]]:
        """The shares of the high network in the two levels of each resolution.

        Raises:
            UserError: the plan is for networks of other resolutions.
        """
        known = f'these networks have the resolutions {", ".join(map(str, resolutions))}'
        if self.swap_resolution is not None and self.swap_resolution not in resolutions:
            raise UserError(f'--swap-resolution={self.swap_resolution}: {known}')
        for res in sorted(
            set(resolutions) ^ set(resolutions if self.weights is None else self.weights)
        ):
            raise UserError(
                f'--weights: {known}, and {res} is '
                f'{"left out" if res in resolutions else "none of them"}'
            )
        return {res: (self.share_at(res, 0), self.share_at(res, 1)) for res in resolutions}

    def takes_any(self, resolutions: Sequence[int]) -> bool:
        """Whether anything comes from the high network."""
        return self.mapping_share > 0 or any(
            share > 0 for pair in self.shares(resolutions).values() for share in pair
        )

    def describe(self, resolutions: Sequence[int]) -> str:
        """The shares in one line: `mapping 0, 4 px 0, 8 px 0.27/0.5, 16 px 1`, the two levels apart
        where they differ.
        """
        shares = {f'{res} px': pair for res, pair in self.shares(resolutions).items()}
        text = ', '.join(
            f'{name} {a:.3g}' if a == b else f'{name} {a:.3g}/{b:.3g}'
            for name, (a, b) in shares.items()
        )
        return f'mapping {self.mapping_share:.3g}, {text}' + (
            '; noise and other buffers 0' if self.keeps_buffers else ''
        )

    def record(self, resolutions: Sequence[int]) -> dict[str, Any]:
        """Plain data for a snapshot: the options as given, and under `shares` what they came to."""
        return {
            'rule': self.rule,
            'swap_resolution': self.swap_resolution,
            'swap_level': self.swap_level,
            'blend_width': self.blend_width,
            'mapping': self.mapping_share,
            'buffers': 'low' if self.keeps_buffers else 'shares',
            'shares': {str(res): list(pair) for res, pair in self.shares(resolutions).items()},
        }


def parse_weights(text: str) -> dict[int, float]:
    """Parse `4:0,8:0.2,16:1` to shares of the high network by resolution.

    Raises:
        UserError: anything else, or a resolution twice.
    """
    weights: dict[int, float] = {}
    for part in text.replace(' ', '').split(','):
        match = re.fullmatch(r'(\d{1,6}):(\d*\.?\d+|\d+\.)', part)
        if match is None:
            raise UserError(
                f'--weights={text}: it looks like 4:0,8:0.2,16:1, a share of the high '
                f'network (0…1) for every resolution'
            )
        if int(match[1]) in weights:
            raise UserError(f'--weights={text}: {match[1]} is there twice')
        weights[int(match[1])] = float(match[2])
    return weights


def parse_mapping(text: str) -> float:
    """Parse `low`, `high` or a number 0…1 to the share of the high network.

    Raises:
        UserError: anything else.
    """
    try:
        share = {'low': 0.0, 'high': 1.0}[text] if text in ('low', 'high') else float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise UserError(f'--mapping={text}: low, high, or the share of the high network, 0…1')
    return share


def blend_generators(low: Generator, high: Generator, plan: BlendPlan) -> Generator:
    """Blend two generators into a new one on the CPU, every tensor mixed as `plan.share_of` says:
    `low + share * (high - low)`.

    It is computed in float64, and copied bit for bit where the share is 0 or 1. Settings that no
    tensor holds, such as float16 and clamping, are the low network's, or the high one's where
    everything comes from that.

    Raises:
        UserError: the networks differ in a name, a shape or a setting that gives numbers their
            meaning, or the plan doesn't fit.
    """
    if low.img_resolution != high.img_resolution:
        sizes = [f'{G.img_resolution}×{G.img_resolution}' for G in (low, high)]
        raise UserError(
            f'the networks differ: --low draws pictures of {sizes[0]}, --high of '
            f'{sizes[1]}; {_ADVICE}'
        )
    ours, theirs = ({name: tensor.cpu() for name, tensor in named_tensors(G)} for G in (low, high))
    require_same(ours, theirs)
    require_same_settings(low, high)
    plan.shares(low.synthesis.block_resolutions)  # which checks that it is for these
    shares = {name: plan.share_of(name) for name in ours}
    blended = persistence.clone(high if set(shares.values()) == {1.0} else low)
    with torch.no_grad():
        for name, tensor in named_tensors(blended):
            tensor.copy_(_mix(ours[name], theirs[name], shares[name]))
    return blended


def require_same(low: Mapping[str, torch.Tensor], high: Mapping[str, torch.Tensor]) -> None:
    """Refuse networks of different architecture.

    Raises:
        UserError: naming the first tensor that only one of them has, or whose shapes differ.
    """
    for name in sorted(low.keys() ^ high.keys()):
        here, there = ('--low', '--high') if name in low else ('--high', '--low')
        raise UserError(f'the networks differ: {name} is in {here} and not in {there}; {_ADVICE}')
    for name, tensor in low.items():
        if tensor.shape != high[name].shape:
            raise UserError(
                f'the networks differ: {name} is {list(tensor.shape)} in --low and '
                f'{list(high[name].shape)} in --high; '
                f'{_ADVICE}'
            )


def require_same_settings(low: Generator, high: Generator) -> None:
    """Refuse networks of one shape whose numbers mean something else: another activation, another
    scale of the mapping's weights.

    Raises:
        UserError: naming the first such setting.
    """
    others = settings_of(high)
    for (name, key), value in settings_of(low).items():
        if key not in _PRECISION and value != others.get((name, key)):
            raise UserError(
                f'the networks differ: {key} of {name} is {value} in --low and '
                f'{others.get((name, key))} in --high; {_ADVICE}'
            )


def blend_networks(low: Networks, high: Networks, plan: BlendPlan) -> Networks:
    """Blend G and G_ema of two snapshots alike; D and augment_pipe come from the low one (D from
    the high one where the low one has none). The settings and the lineage of both go into `meta`.

    Raises:
        UserError: see `blend_generators`.
    """
    G_ema = blend_generators(low.G_ema, high.G_ema, plan)
    G = blend_generators(low.G or low.G_ema, high.G or high.G_ema, plan)
    names = {
        side: Path(str(networks.meta.get('path'))).name
        for side, networks in (('low', low), ('high', high))
    }
    blend = {**names, **plan.record(G_ema.synthesis.block_resolutions)}
    meta = {
        'training_set_kwargs': low.meta.get('training_set_kwargs') or {},
        'toonify': {'blend': blend, 'parents': ancestry(low, high)},
    }
    return Networks(G, low.D or high.D, G_ema, low.augment_pipe, meta)


def lineage_warning(low: Networks, high: Networks, plan: BlendPlan | None = None) -> str | None:
    """Say what is suspicious about blending two snapshots, by the lineage they carry; None where
    nothing is.

    Args:
        plan: for rules that say which of the two is the fine-tuned one.
    """
    if is_descendant(low, high):
        return None
    if is_descendant(high, low):
        if plan is not None and plan.rule == 'vtoonify':
            return (
                'with --rule=vtoonify --low is the fine-tuned network and --high its base; here it '
                'is the other way round'
            )
        return None
    known = {row['sha256'] for row in ancestry(high)}
    for row in ancestry(low):
        if row['sha256'] in known:
            return (
                'neither of these networks is known to descend from the other, only both from '
                f'{printable(row.get("name"), 80)}; look at the pictures'
            )
    return (
        'nothing says that one of these networks was fine-tuned from the other; a blend of '
        'strangers is noise'
    )


def _shown(name: str) -> str:
    return '--' + name.replace('_', '-')


def _position(resolution: int, level: int) -> int:
    return 2 * (resolution.bit_length() - 3) + level


def _mix(low: torch.Tensor, high: torch.Tensor, share: float) -> torch.Tensor:
    if share in (0, 1):
        return high if share else low
    return low.double().lerp(high.double(), share).to(low.dtype)
