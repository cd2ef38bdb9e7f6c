"""Training configuration: defaults, preset, command line.

A few lines over 400: settings, their limits and their merging are read together.
"""

import dataclasses
import difflib
import operator
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from dnnlib import UserError

from .presets import load_preset

C = TypeVar('C')

Cache = Literal['auto', 'gpu', 'ram', 'none']
AugmentMode = Literal['ada', 'fixed', 'noaug']
AugmentPipeName = Literal[
    'blit', 'geom', 'color', 'filter', 'noise', 'cutout', 'bg', 'bgc', 'bgcf', 'bgcfn', 'bgcfnc'
]
Architecture = Literal['orig', 'skip', 'resnet']


@dataclass(frozen=True)
class DataConfig:
    """The pictures."""

    path: str = ''  # folder or zip
    cond: bool = False  # use the labels of dataset.json, or the names of subfolders
    xflip: bool = False  # add mirror images
    yflip: bool = False  # add upside-down images
    subset: int | None = None  # at most so many pictures, chosen by the seed
    workers: int = 3  # processes that decode; 0 decodes in the main one
    cache: Cache = 'auto'  # decoded pictures are kept: gpu, ram, none; auto decides by their size


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture of new networks; a snapshot brings its own."""

    z_dim: int = 512
    w_dim: int = 512
    channel_base: int = 32768
    channel_max: int = 512
    mapping_layers: int = 8
    num_fp16_res: int = 4  # the highest resolutions that compute in float16 on a GPU
    conv_clamp: float | None = 256
    g_architecture: Architecture = 'skip'
    d_architecture: Architecture = 'resnet'
    mbstd_group_size: int | None = 4  # None for the whole batch
    freeze_layers: int = 0  # of D, counted from the image side: FreezeD
    freeze_resolution: int | None = None  # instead: all blocks of D from this resolution up


@dataclass(frozen=True)
class LossConfig:
    """Weights and intervals of the loss terms."""

    r1_gamma: float = 10.0
    pl_weight: float = 2.0
    pl_decay: float = 0.01
    pl_batch_shrink: int = 2  # path length sees a part of the batch
    style_mixing_prob: float = 0.9
    g_reg_interval: int = 4  # steps between path length regularisations
    d_reg_interval: int = 16  # steps between R1 regularisations


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, for both networks."""

    lr: float = 0.002
    g_lr: float | None = None  # for G alone
    d_lr: float | None = None  # for D alone
    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of what D sees."""

    mode: AugmentMode = 'ada'
    pipe: AugmentPipeName = 'bgc'
    p: float = 0.0  # where ada starts, or what fixed keeps
    target: float = 0.6  # of E[sign(D(real))]
    interval: int = 4  # steps between moves of p
    kimg: float = 500.0  # in which p could rise from 0 to 1
    p_max: float = 1.0


@dataclass(frozen=True)
class EmaConfig:
    """The running average of G."""

    kimg: float = 10.0  # half-life
    # half-life at most this share of the training so far; None for no ramp
    rampup: float | None = 0.05


@dataclass(frozen=True)
class TrainingConfig:
    """One run."""

    preset: str = 'auto'
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    resume: str | None = None  # a snapshot to start from
    # or drop: the layers that know labels start anew
    resume_labels: Literal['keep', 'drop'] = 'keep'
    # or fresh: a G or D that the snapshot lacks is G_ema or new
    resume_missing: Literal['error', 'fresh'] = 'error'
    batch_size: int = 32
    batch_gpu: int = 32  # pictures at a time; gradients add up to the batch
    gpus: int = 1  # processes, each with a GPU of its own where there are GPUs
    start_kimg: float = 0.0  # where the counter starts
    total_kimg: float = 25000.0  # where it ends
    tick_kimg: float = 4.0
    snapshot_ticks: int = 50
    # between sheets of pictures without a snapshot; None for none
    image_snapshot_ticks: int | None = None
    keep_snapshots: int | None = None  # the newest so many, and the best; None keeps all
    metrics: tuple[str, ...] = ()
    # thousands of pictures between evaluations; None: at every snapshot
    metrics_kimg: float | None = None
    desc: str = ''  # the end of the run folder's name
    seed: int = 0
    fp32: bool = False  # neither float16 nor TF32
    tf32: bool = True  # in convolutions that compute in float32
    graphs: bool = False  # replay the phases as CUDA graphs

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for `training_options.json`."""
        return dataclasses.asdict(self)


AUGPIPES: dict[str, tuple[str, ...]] = {
    'blit': ('xflip', 'rotate90', 'xint'),
    'geom': ('scale', 'rotate', 'aniso', 'xfrac'),
    'color': ('brightness', 'contrast', 'lumaflip', 'hue', 'saturation'),
    'filter': ('imgfilter',),
    'noise': ('noise',),
    'cutout': ('cutout',),
}
for _name, _parts in {
    'bg': 'blit geom',
    'bgc': 'bg color',
    'bgcf': 'bgc filter',
    'bgcfn': 'bgcf noise',
    'bgcfnc': 'bgcfn cutout',
}.items():
    AUGPIPES[_name] = tuple(transform for part in _parts.split() for transform in AUGPIPES[part])


def auto_rule(resolution: int, gpus: int) -> dict[str, Any]:
    """The `auto` preset: settings that work for most pictures, from their size.

    Args:
        resolution: of the pictures, pixels.
        gpus: number of processes.

    Returns:
        A preset, as in `configs/`.
    """
    batch_size = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    return {
        'batch_size': batch_size,
        'batch_gpu': batch_size // gpus,
        'network': {
            'channel_base': 32768 if resolution >= 512 else 16384,
            'mapping_layers': 2,
            'mbstd_group_size': min(batch_size // gpus, 4),
        },
        'optimizer': {'lr': 0.002 if resolution >= 1024 else 0.0025},
        'loss': {'r1_gamma': 0.0002 * resolution**2 / batch_size},
        'ema': {'kimg': batch_size * 10 / 32, 'rampup': 0.05},
    }


def build_config(
    preset: str, resolution: int, gpus: int, overrides: dict[str, Any]
) -> TrainingConfig:
    """Build the settings of a run: defaults < preset < command line.

    Args:
        preset: a name of `preset_names`, or a YAML file.
        resolution: of the pictures, pixels; the `auto` rule asks for it.
        gpus: number of processes.
        overrides: nested like the dataclasses; only what the user gave.

    Raises:
        UserError: an unknown preset or key (naming the nearest one), or a value of the wrong type.
    """
    base = load_preset(preset)
    settings = dict(base.settings)
    config = TrainingConfig(preset=base.name)
    rule = settings.pop('rule', None)
    if rule == 'auto':
        config = merge(config, auto_rule(resolution, gpus), 'auto_rule')
    elif rule is not None:
        raise UserError(f'{base.source}: rule: {rule!r} must be auto, or left out')
    config = merge(config, settings, base.source)
    config = merge(config, overrides, 'the command line')
    if config.resume is None and config.network.channel_base < resolution:
        raise UserError(
            f'--cbase={config.network.channel_base}: at least {resolution}, or the '
            f'last layer has no channels'
        )
    if 'batch_gpu' not in overrides:
        config = dataclasses.replace(config, batch_gpu=_largest_part(config, gpus))
    return check(dataclasses.replace(config, gpus=gpus), networks_known=config.resume is None)


def _largest_part(config: TrainingConfig, gpus: int) -> int:
    """Return the largest `batch_gpu` up to the preset's that divides the batch of one process.

    A multiple of the group of the minibatch standard deviation is preferred to a larger part.
    """
    share = max(config.batch_size // gpus, 1)
    limit = max(min(config.batch_gpu, share), 1)
    parts = [size for size in range(1, limit + 1) if share % size == 0]
    group = config.network.mbstd_group_size or 1
    return max(parts, key=lambda size: (size % group == 0, size))


class _Range(NamedTuple):
    option: str  # or the setting's name in a YAML file, where there is no option
    low: float
    high: float


# Field of TrainingConfig → what it may be. None is allowed where the field may be None.
RANGES = {
    'optimizer.lr': _Range('lrate', 1e-12, 1.0),
    'optimizer.g_lr': _Range('glr', 1e-12, 1.0),
    'optimizer.d_lr': _Range('dlr', 1e-12, 1.0),
    'augment.p_max': _Range('ada-max', 0, 1),
    'augment.kimg': _Range('ada-kimg', 1e-3, 1e9),
    'ema.kimg': _Range('ema-kimg', 0, 1e9),
    'loss.style_mixing_prob': _Range('style-mix', 0, 1),
    'loss.pl_weight': _Range('pl-weight', 0, 1e9),
    'gpus': _Range('gpus', 1, 4096),
    'loss.g_reg_interval': _Range('g_reg_interval', 1, 1e6),
    'loss.d_reg_interval': _Range('d_reg_interval', 1, 1e6),
    'augment.interval': _Range('ada_interval', 1, 1e6),
    'loss.pl_batch_shrink': _Range('pl_batch_shrink', 1, 1e6),
    'loss.r1_gamma': _Range('gamma', 0, 1e9),
    'augment.target': _Range('target', -1, 1),
    'total_kimg': _Range('kimg', 0, 1e9),
    'start_kimg': _Range('nkimg', 0, 1e9),
    'tick_kimg': _Range('tick', 1e-6, 1e9),
    'snapshot_ticks': _Range('snap', 1, 1e9),
    'metrics_kimg': _Range('metrics-kimg', 1e-6, 1e9),
    'image_snapshot_ticks': _Range('img-snap', 1, 1e9),
    'network.channel_base': _Range('cbase', 1, 1 << 20),
    'network.channel_max': _Range('cmax', 1, 1 << 14),
    'network.mapping_layers': _Range('map-depth', 1, 64),
    'network.mbstd_group_size': _Range('mbstd-group', 1, 65536),
    'keep_snapshots': _Range('keep', 1, 1e9),
    'seed': _Range('seed', 0, (1 << 31) - 1),
    'network.freeze_layers': _Range('freezed', 0, 1000),
    'data.workers': _Range('workers', 0, 1024),
    'batch_size': _Range('batch', 1, 65536),
    'batch_gpu': _Range('batch-gpu', 1, 65536),
}


def check(config: TrainingConfig, networks_known: bool = True) -> TrainingConfig:
    """Refuse what cannot be trained.

    Args:
        networks_known: False while a snapshot may still bring another architecture.

    Raises:
        UserError: naming option, value and what is allowed.
    """
    c = config
    mbstd = c.network.mbstd_group_size or c.batch_gpu
    for field_path, (option, low, high) in RANGES.items():
        value = operator.attrgetter(field_path)(config)
        if value is not None and not low <= value <= high:  # NaN is in no range
            raise UserError(f'--{option}={value:g} must be in {low:g}…{high:g}')
    if c.batch_size % (c.batch_gpu * c.gpus) != 0:
        times = f' times --gpus={c.gpus}' if c.gpus > 1 else ''
        raise UserError(
            f'--batch={c.batch_size} must be a multiple of --batch-gpu={c.batch_gpu}{times}'
        )
    if networks_known and c.batch_gpu % min(mbstd, c.batch_gpu) != 0:
        raise UserError(
            f'--batch-gpu={c.batch_gpu} must be a multiple of {mbstd}, the group of '
            f'the minibatch standard deviation'
        )
    if c.total_kimg <= c.start_kimg:
        raise UserError(
            f'--kimg={c.total_kimg:g} must be more than {c.start_kimg:g}, where the '
            f'counter starts (--nkimg)'
        )
    for option, choice, usual in [
        ('resume-labels', c.resume_labels, 'keep'),
        ('resume-missing', c.resume_missing, 'error'),
    ]:
        if choice != usual and not c.resume:
            raise UserError(f'--{option}={choice} needs --resume')
    if c.augment.mode == 'ada' and 1 >= c.augment.p > c.augment.p_max:
        raise UserError(f'--aug-strength={c.augment.p:g} is above --ada-max={c.augment.p_max:g}')
    if c.network.freeze_layers and c.network.freeze_resolution:
        raise UserError(
            'give either --freezed, which counts layers, or --freezed-res, which names a resolution'
        )
    if not 0 <= c.augment.p <= 1:
        raise UserError(f'an augmentation probability is in 0…1, not {c.augment.p:g}')
    return config


def merge(config: C, settings: dict[str, Any], source: str) -> C:
    """Copy a config dataclass with some fields replaced, recursively.

    Args:
        settings: nested like the dataclass.
        source: where they come from, for errors.

    Raises:
        UserError: an unknown key or a value of the wrong type.
    """
    if not isinstance(settings, dict):
        raise UserError(f'{source}: {settings!r} where a group of settings is expected')
    types_of = typing.get_type_hints(type(config))
    changes = {}
    for key, value in settings.items():
        if key not in types_of:
            near = difflib.get_close_matches(key, types_of, n=1)
            raise UserError(
                f'{source}: unknown setting {key!r}{f"; did you mean {near[0]!r}?" if near else ""}'
            )
        old = getattr(config, key)
        changes[key] = (
            merge(old, value, source)
            if dataclasses.is_dataclass(old)
            else _convert(value, types_of[key], f'{source}: {key}')
        )
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def _convert(value: Any, kind: Any, what: str) -> Any:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    for option in options:
        if typing.get_origin(option) is Literal:
            words = typing.get_args(option)
            if value in words:
                return value
            near = difflib.get_close_matches(str(value), words, n=1)
            raise UserError(
                f'{what}: {value!r} is not one of '
                f'{", ".join(words)}{f"; did you mean {near[0]!r}?" if near else ""}'
            )
        if option is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                return float(value)  # YAML reads 1e-3 as text
            except ValueError:
                continue
        if typing.get_origin(option) is tuple and isinstance(value, (list, tuple)):
            return tuple(value)
        if typing.get_origin(option) is not None or (option is int and isinstance(value, bool)):
            continue
        if isinstance(option, type) and isinstance(value, option):
            return value
    raise UserError(f'{what}: {value!r} is not of type {getattr(kind, "__name__", kind)}')


def run_name(config: TrainingConfig) -> str:
    """Return what follows the number in a run folder's name: data set, preset, changed settings."""
    parts = [Path(config.data.path).stem, re.sub(r'\.ya?ml$', '', config.preset)]
    parts += (
        ['cond'] * config.data.cond
        + ['mirror'] * config.data.xflip
        + ['mirrory'] * config.data.yflip
    )
    mode = config.augment.mode
    parts += [
        f'gamma{config.loss.r1_gamma:g}',
        mode if mode == 'noaug' else f'{mode}-{config.augment.pipe}',
    ]
    if config.resume:
        parts.append(f'resume-{Path(config.resume).stem}')
    if config.network.freeze_layers:
        parts.append(f'freezed{config.network.freeze_layers}')
    if config.network.freeze_resolution:
        parts.append(f'freezed_res{config.network.freeze_resolution}')
    parts += [config.desc] * bool(config.desc)
    return '-'.join(
        ''.join(ch if ch.isalnum() or ch in '._' else '_' for ch in part) for part in parts
    )
