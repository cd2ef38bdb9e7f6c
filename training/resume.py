"""`--resume`: start a new run from the networks of a snapshot, and report every tensor."""

import dataclasses
import logging
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dnnlib import UserError
from torch_utils import persistence
from torch_utils.misc import named_tensors

from .config import NetworkConfig, TrainingConfig, check
from .dataset import ImageFolderDataset
from .networks import Discriminator, Generator
from .snapshots import ancestry, load_networks

log = logging.getLogger(__name__)

M = TypeVar('M', Generator, Discriminator)


@dataclass
class StartingPoint:
    """The networks that a run begins with.

    Attributes:
        config: the settings, with the architecture that the networks have.
        parents: lineage, as `ancestry` makes it.
        notes: lines for the log: what was copied, what is new, what overrides the preset.
    """

    G: Generator
    D: Discriminator
    G_ema: Generator
    config: TrainingConfig
    parents: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def new_source(config: TrainingConfig, dataset: ImageFolderDataset) -> StartingPoint:
    """Make randomly initialised networks."""
    G = new_generator(config.network, dataset)
    return StartingPoint(
        G, new_discriminator(config.network, dataset), persistence.clone(G), config
    )


def load_source(
    config: TrainingConfig, dataset: ImageFolderDataset, *, trust_pickle: bool = False
) -> StartingPoint:
    """Load the networks of `config.resume`, with all tensors unless the user asked for less.

    Raises:
        UserError: the file can't be read, lacks G or D, or disagrees with the data about
            resolution, channels or labels.
    """
    assert config.resume is not None
    name = f'--resume={config.resume}'
    networks = load_networks(config.resume, trust_pickle=trust_pickle)
    missing = [key for key in ('G', 'D') if getattr(networks, key) is None]
    if missing and config.resume_missing != 'fresh':
        raise UserError(
            f'{name}: it has no {" and no ".join(missing)}; with '
            f'--resume-missing=fresh training starts from G_ema, '
            'with a new D where there is none'
        )
    notes = [f'{name}: sha256 {networks.meta["sha256"]}']
    G = networks.G if networks.G is not None else persistence.clone(networks.G_ema)
    for part in (G, networks.D, networks.G_ema):
        if part is not None:
            _check_fit(name, part, dataset, config)
    parts: dict[str, Any] = {'G': G, 'D': networks.D, 'G_ema': networks.G_ema}
    if config.resume_labels == 'drop' and (dataset.label_dim or G.c_dim):
        for key, network in parts.items():
            if network is not None:
                parts[key], count = relabel(network, dataset.label_dim)
                notes.append(f'{key}: {count}')
    else:
        if config.resume_labels == 'drop':
            notes.append('--resume-labels=drop: neither the snapshot nor the data has labels')
        notes += [
            f'{key}: {CopyReport(copied=len(list(named_tensors(part))))}'
            for key, part in parts.items()
            if part is not None
        ]
    if networks.G is None:
        notes.append('G: G_ema, since the file has no G')
    if parts['D'] is None:
        parts['D'] = new_discriminator(config.network, dataset)
        notes.append('D: new, since the file has none')
    network = _resumed_architecture(config.network, parts['G'], parts['D'], notes)
    if networks.augment_pipe is not None and config.augment.mode == 'ada':
        notes.append(
            f"The snapshot's augmentation probability was "
            f'{float(networks.augment_pipe.p):.3f}; this run starts at '
            f'{config.augment.p:.3f} (--aug-strength)'
        )
    return StartingPoint(
        parts['G'],
        parts['D'],
        parts['G_ema'],
        check(dataclasses.replace(config, network=network)),
        ancestry(networks),
        notes,
    )


def _resumed_architecture(
    preset: NetworkConfig, G: Generator, D: Discriminator, notes: list[str]
) -> NetworkConfig:
    """Return the architecture that the networks have; add a note on what overrides the preset."""
    network = dataclasses.replace(preset, **architecture_of(G, D))
    # there are no more blocks
    if network.num_fp16_res == min(preset.num_fp16_res, len(D.block_resolutions)):
        network = dataclasses.replace(network, num_fp16_res=preset.num_fp16_res)
    overridden = [
        f'{key} {value} (preset {getattr(preset, key)})'
        for key, value in vars(network).items()
        if value != getattr(preset, key)
    ]
    if overridden:
        notes.append(f"The snapshot's architecture overrides the preset's: {', '.join(overridden)}")
    return network


def _check_fit(
    name: str,
    network: Generator | Discriminator,
    dataset: ImageFolderDataset,
    config: TrainingConfig,
) -> None:
    labels = 'number of classes'
    for what, theirs, ours in [
        ('resolution', network.img_resolution, dataset.resolution),
        ('number of channels', network.img_channels, dataset.num_channels),
        (labels, network.c_dim, dataset.label_dim),
    ]:
        if theirs != ours and not (what == labels and config.resume_labels == 'drop'):
            hint = {
                labels: '; --resume-labels=drop starts its label layers anew, --cond=1 or 0 '
                'uses or ignores the labels of the data',
                'resolution': f'; prepare the pictures with prepare_data.py --resolution {theirs}',
            }.get(what, '')
            continued = config.preset == 'nvidia'  # whose options are not to be chosen
            raise UserError(
                f'{name}: its {what} is {theirs}, that of {config.data.path} is '
                f'{ours}{"" if continued else hint}'
            )


# ----------------------------------------------------------------------------
# Labels


@dataclass
class CopyReport:
    """Which of a network's tensors were copied, and which not.

    Attributes:
        copied: how many are as they were.
        mismatched: names of those whose shape is another, so that they are new or adapted.
        skipped: names of those that the new network has no place for.
        new: names of those that the file doesn't have.
    """

    copied: int = 0
    mismatched: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lists = [
            (self.mismatched, 'of another shape'),
            (self.skipped, 'skipped'),
            (self.new, 'new'),
        ]
        return ', '.join(
            [
                f'{self.copied} tensors copied',
                *(f'{len(names)} {what} ({" ".join(names)})' for names, what in lists if names),
            ]
        )


def relabel(network: M, c_dim: int) -> tuple[M, CopyReport]:
    """Copy a network for other classes: layers that know labels are new, the others as they were.

    The generator's first mapping layer takes the latent and, in conditional networks, the embedded
    label. Its columns for the latent are kept, those for a label that was not there start at 0: all
    classes begin with the pictures of the source.

    Args:
        c_dim: number of classes, 0 for none.

    Returns:
        The network, and a report of copied, skipped and mismatched tensors.
    """
    other = (
        persistence.construct(
            type(network), {**persistence.constructor_kwargs(network), 'c_dim': c_dim}
        )
        .eval()
        .requires_grad_(False)
    )
    old, new = dict(named_tensors(network)), dict(named_tensors(other))
    count = CopyReport(skipped=sorted(old.keys() - new.keys()))
    for key, tensor in new.items():
        if key.startswith('mapping.embed.') or key not in old:
            count.new.append(key)
        elif old[key].shape == tensor.shape:
            tensor.copy_(old[key])
            count.copied += 1
        else:
            count.mismatched.append(key)
            if key == 'mapping.fc0.weight' and isinstance(network, Generator):
                # the gain divides by the root of the number of columns, which changes
                tensor.zero_()
                tensor[:, : network.z_dim] = old[key][:, : network.z_dim] * math.sqrt(
                    tensor.shape[1] / old[key].shape[1]
                )
    return other, count


# ----------------------------------------------------------------------------
# Architecture


def new_generator(n: NetworkConfig, dataset: ImageFolderDataset) -> Generator:
    """Make a randomly initialised generator for these data."""
    return Generator(
        n.z_dim,
        dataset.label_dim,
        n.w_dim,
        dataset.resolution,
        dataset.num_channels,
        mapping_kwargs=dict(num_layers=n.mapping_layers),
        synthesis_kwargs=dict(
            architecture=n.g_architecture,
            channel_base=n.channel_base,
            channel_max=n.channel_max,
            num_fp16_res=n.num_fp16_res,
            conv_clamp=n.conv_clamp,
        ),
    )


def new_discriminator(n: NetworkConfig, dataset: ImageFolderDataset) -> Discriminator:
    """Make a randomly initialised discriminator for these data."""
    return Discriminator(
        dataset.label_dim,
        dataset.resolution,
        dataset.num_channels,
        architecture=n.d_architecture,
        channel_base=n.channel_base,
        channel_max=n.channel_max,
        num_fp16_res=n.num_fp16_res,
        conv_clamp=n.conv_clamp,
        epilogue_kwargs=dict(mbstd_group_size=n.mbstd_group_size),
    )


def architecture_of(G: Generator, D: Discriminator) -> dict[str, Any]:
    """Return the fields of `NetworkConfig` that two networks decide, G's where they differ."""
    blocks = [getattr(G.synthesis, f'b{res}') for res in G.synthesis.block_resolutions]
    kwargs = persistence.constructor_kwargs(G)
    kwargs = {**kwargs, **(kwargs.get('synthesis_kwargs') or {})}
    return dict(
        z_dim=G.z_dim,
        w_dim=G.w_dim,
        channel_base=kwargs.get('channel_base', 32768),
        channel_max=kwargs.get('channel_max', 512),
        mapping_layers=G.mapping.num_layers,
        num_fp16_res=sum(block.use_fp16 for block in blocks),
        conv_clamp=blocks[-1].conv1.conv_clamp,
        g_architecture=blocks[-1].architecture,
        d_architecture=getattr(D, f'b{D.img_resolution}').architecture,
        mbstd_group_size=D.b4.mbstd.group_size if D.b4.mbstd is not None else 1,
    )


def without_fp16(network: M) -> M:
    """Copy a network so that it computes in float32 throughout."""
    if isinstance(network, Generator):
        nested = persistence.constructor_kwargs(network).get('synthesis_kwargs') or {}
        return persistence.clone(network, synthesis_kwargs={**nested, 'num_fp16_res': 0})
    return persistence.clone(network, num_fp16_res=0)
