"""The options of train.py: one table, in the order of its help page.

An option that sets a field of `TrainingConfig` names that field; its type, its choices and its
default are the field's. To add one, add the field to `config.py` and a line here. The table is not
in train.py because an option with its help takes three lines, and scripts have at most 150.
"""

import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import click

from dnnlib import cli, habits

from .config import TrainingConfig

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FIELDS: dict[str, str] = {}  # option → field of TrainingConfig, filled by `_setting`


def _setting(
    flag: str,
    field: str,
    help: str,
    *aliases: str,
    group: str,
    type: Any = None,
    show_default: bool = False,
) -> Decorator:
    """Declare an option that sets a field of `TrainingConfig`.

    Args:
        flag: with its dashes.
        field: dotted path, such as `loss.r1_gamma`.
        aliases: other flags that mean the same.
        group: heading of the help page.
        type: instead of that of the field.
        show_default: print the field's default; False where the preset decides.
    """
    name = flag.lstrip('-').replace('-', '_')
    FIELDS[name] = field
    *path, leaf = field.split('.')
    config = functools.reduce(getattr, path, TrainingConfig())
    kind = typing.get_type_hints(config.__class__)[leaf]
    return cli.option(
        flag,
        *aliases,
        name,
        group=group,
        type=type or _click_type(kind),
        default=getattr(config, leaf) if show_default else None,
        show_default=show_default,
        help=help,
    )


def _click_type(kind: Any) -> Any:
    """Return click's type for the annotation of a field; None in a union is left to the preset."""
    if isinstance(kind, types.UnionType):
        (kind,) = (option for option in typing.get_args(kind) if option is not types.NoneType)
    if typing.get_origin(kind) is Literal:
        return click.Choice(typing.get_args(kind))
    return kind


_general = functools.partial(_setting, group='General')
_data = functools.partial(_setting, group='Data')
_training = functools.partial(_setting, group='Training')
_augmentation = functools.partial(_setting, group='Augmentation')
_output = functools.partial(_setting, group='Output')

OPTIONS: list[Decorator] = [
    cli.option(
        '--outdir',
        group='General',
        type=cli.given_path,
        default=None,
        show_default=False,
        help='Where to make the run folder.',
    ),
    _general(
        '--data',
        'data.path',
        'Folder or zip of pictures, made by prepare_data.py.',
        type=cli.given_text,
    ),
    cli.option(
        '--cfg',
        group='General',
        default='auto',
        help='Preset of configs/: auto, stylegan2, paper256, paper512, paper1024, cifar, '
        'toonify256, fewshot, demo, faces; or a YAML file.',
    ),
    _general(
        '--resume',
        'resume',
        'Snapshot to start from: a file, a URL, or a name such as faces64. It brings its '
        'architecture.',
        type=cli.given_text_or_none,
    ),
    _general(
        '--resume-labels',
        'resume_labels',
        'drop: start the layers that know labels anew, when the classes are others.',
        show_default=True,
    ),
    _general(
        '--resume-missing',
        'resume_missing',
        'fresh: a snapshot without G or D will do; G is then G_ema, D new.',
        show_default=True,
    ),
    cli.trust_option('General'),
    cli.option(
        '--continue',
        'continue_dir',
        group='General',
        type=cli.given_path,
        default=None,
        show_default=False,
        help="Go on with a run, ours exactly, NVIDIA's from its last snapshot; of the options only "
        '--kimg --snap --img-snap --keep --metrics --metrics-kimg --cache --data --device may '
        'change.',
    ),
    cli.device_option('General'),
    _general(
        '--gpus',
        'gpus',
        'Processes, with a GPU each, or start them with torchrun.',
        show_default=True,
    ),
    _general('--seed', 'seed', 'Random seed.', show_default=True),
    cli.option(
        '-n',
        '--dry-run',
        group='General',
        is_flag=True,
        help='Print settings, cost and advice, and stop.',
    ),
    habits.nvidia_switches,
    _data(
        '--cond',
        'data.cond',
        'Use the labels of dataset.json, or the names of subfolders.',
        show_default=True,
    ),
    _data('--subset', 'data.subset', 'Use at most this many pictures (default: all).'),
    _data('--mirror', 'data.xflip', 'Add mirror images.', show_default=True),
    _data('--mirrory', 'data.yflip', 'Add upside-down images.', show_default=True),
    _data('--workers', 'data.workers', 'Processes that read pictures (default: 3, on a CPU 0).'),
    _data(
        '--cache',
        'data.cache',
        'Where decoded pictures are kept; auto decides by their size.',
        show_default=True,
    ),
    _training(
        '--kimg',
        'total_kimg',
        'Counter at which the run ends, thousands of pictures (default: 25000).',
    ),
    _training('--nkimg', 'start_kimg', 'Counter at which it starts (default: preset, 0).'),
    _training('--batch', 'batch_size', 'Pictures a step (default: preset).'),
    _training(
        '--batch-gpu',
        'batch_gpu',
        'Pictures at a time, a part of --batch (default: preset).',
    ),
    _training('--lrate', 'optimizer.lr', 'Learning rate of both networks (default: preset).'),
    _training('--glr', 'optimizer.g_lr', 'Learning rate of G (default: --lrate).'),
    _training('--dlr', 'optimizer.d_lr', 'Learning rate of D (default: --lrate).'),
    _training('--gamma', 'loss.r1_gamma', 'R1 weight (default: preset).'),
    _training(
        '--freezed',
        'network.freeze_layers',
        'FreezeD: fix so many layers of D, from the image side (default: 0).',
    ),
    _training(
        '--freezed-res',
        'network.freeze_resolution',
        'FreezeD by resolution: fix all blocks of D from so many pixels up.',
    ),
    _training('--ema-kimg', 'ema.kimg', 'Half-life of the average of G, kimg (default: preset).'),
    _training(
        '--style-mix',
        'loss.style_mixing_prob',
        'Probability of style mixing (default: preset, 0.9).',
    ),
    _training(
        '--pl-weight',
        'loss.pl_weight',
        'Weight of path length regularisation (default: preset, 2).',
    ),
    _training(
        '--cbase',
        'network.channel_base',
        'New networks: channels times resolution, at most (default: preset).',
    ),
    _training(
        '--cmax',
        'network.channel_max',
        'New networks: channels at most (default: preset, 512).',
    ),
    _training(
        '--map-depth',
        'network.mapping_layers',
        'New networks: layers of the mapping (default: preset).',
    ),
    _training(
        '--mbstd-group',
        'network.mbstd_group_size',
        "New networks: group of D's minibatch statistics (default: preset).",
    ),
    _training('--fp32', 'fp32', 'No float16 and no TF32.', show_default=True),
    _training(
        '--tf32',
        'tf32',
        'On a GPU, TF32 in the convolutions that are not in float16.',
        show_default=True,
    ),
    _training(
        '--graphs',
        'graphs',
        'On a GPU, replay each phase as a CUDA graph, which saves the launches of its '
        'kernels. Written and not yet tried on a GPU.',
        show_default=True,
    ),
    _augmentation(
        '--aug',
        'augment.mode',
        'Adaptive, none, or with a fixed --p (default: ada).',
        type=click.Choice(['ada', 'noaug', 'fixed']),  # in the order of the help's words
    ),
    _augmentation('--p', 'augment.p', 'Probability for --aug=fixed.'),
    _augmentation(
        '--aug-strength',
        'augment.p',
        'Probability at which ada starts (default: 0).',
        '--initstrength',
    ),
    _augmentation(
        '--ada-max',
        'augment.p_max',
        'Probability that ada never exceeds (default: 1).',
    ),
    _augmentation(
        '--ada-kimg',
        'augment.kimg',
        'Thousands of pictures in which ada could go from 0 to 1 (default: 500, with --resume '
        '100).',
    ),
    _augmentation(
        '--target',
        'augment.target',
        'What ada steers E[sign(D(real))] to (default: 0.6).',
    ),
    _augmentation('--augpipe', 'augment.pipe', 'Which transforms (default: preset, bgc).'),
    _output('--snap', 'snapshot_ticks', 'Ticks between snapshots (default: preset, 50).'),
    _output(
        '--img-snap',
        'image_snapshot_ticks',
        'Ticks between sheets of pictures without a snapshot (default: none).',
    ),
    _output(
        '--keep',
        'keep_snapshots',
        'Delete all snapshots but the newest so many and the best (default: none).',
    ),
    _output('--tick', 'tick_kimg', 'Thousands of pictures a tick (default: preset, 4).'),
    _output('--desc', 'desc', "Text at the end of the run folder's name."),
    _output(
        '--metrics',
        'metrics',
        'Comma-separated, or none. The first ranks the snapshots. Default: fid50k_full; for '
        'fewer than 2,048 pictures kid5k_full,fid5k_full; on a CPU none.',
        type=str,
    ),
    _output(
        '--metrics-kimg',
        'metrics_kimg',
        'Evaluate at the first snapshot after every so many thousand pictures (default: '
        'preset, at each snapshot).',
    ),
]


def train_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator that adds the options of train.py to its command."""
    for decorate in reversed(OPTIONS):
        function = decorate(function)
    return function
