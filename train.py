"""Train a StyleGAN2 from pictures or fine-tune a snapshot, with ADA and FreezeD."""

import dnnlib  # isort: skip (first: Ctrl-C during the other imports is one line, too)
import copy
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli, habits
from dnnlib.cli import option

if TYPE_CHECKING:
    from training.outputs import Evaluation
    from training.plan import Plan

AUGPIPES = [
    'blit',
    'geom',
    'color',
    'filter',
    'noise',
    'cutout',
    'bg',
    'bgc',
    'bgcf',
    'bgcfn',
    'bgcfnc',
]
NOTHING = {'show_default': False, 'default': None}  # the preset decides, or nothing is to be said


@cli.command(name='train', help=__doc__)
@option(
    '--outdir',
    group='General',
    type=cli.given_path,
    help='Where to make the run folder.',
    **NOTHING,
)
@option(
    '--data',
    group='General',
    type=cli.given_text,
    help='Folder or zip of pictures, made by prepare_data.py.',
    **NOTHING,
)
@option(
    '--cfg',
    group='General',
    default='auto',
    help='Preset of configs/: auto, stylegan2, paper256, paper512, paper1024, cifar, '
    'toonify256, fewshot, demo; or a YAML file.',
)
@option(
    '--resume',
    group='General',
    type=cli.given_text_or_none,
    help='Snapshot to start from: a file, a URL, or a name such as ffhq256. It brings its '
    'architecture.',
    **NOTHING,
)
@option(
    '--resume-labels',
    group='General',
    type=click.Choice(['keep', 'drop']),
    default='keep',
    help='drop: start the layers that know labels anew, when the classes are others.',
)
@option(
    '--resume-missing',
    group='General',
    type=click.Choice(['error', 'fresh']),
    default='error',
    help='fresh: a snapshot without G or D will do; G is then G_ema, D new.',
)
@cli.trust_option('General')
@option(
    '--continue',
    'continue_dir',
    group='General',
    type=cli.given_path,
    help="Go on with a run, ours exactly, NVIDIA's from its last snapshot; of the options only "
    '--kimg --snap --img-snap --keep '
    '--metrics --metrics-kimg --cache --data --device may change.',
    **NOTHING,
)
@cli.device_option('General')
@option(
    '--gpus',
    group='General',
    type=int,
    default=1,
    help='Processes, with a GPU each, or start them with torchrun.',
)
@option('--seed', group='General', type=int, default=0, help='Random seed.')
@option('-n', '--dry-run', group='General', is_flag=True, help='Print the settings and stop.')
@habits.nvidia_switches
@option(
    '--cond',
    group='Data',
    type=bool,
    default=False,
    help='Use the labels of dataset.json, or the names of subfolders.',
)
@option(
    '--subset', group='Data', type=int, help='Use only so many pictures (default: all).', **NOTHING
)
@option('--mirror', group='Data', type=bool, default=False, help='Add mirror images.')
@option('--mirrory', group='Data', type=bool, default=False, help='Add upside-down images.')
@option(
    '--workers',
    group='Data',
    type=int,
    help='Processes that read pictures (default: 3, on a CPU 0).',
    **NOTHING,
)
@option(
    '--cache',
    group='Data',
    type=click.Choice(['auto', 'gpu', 'ram', 'none']),
    default='auto',
    help='Where decoded pictures are kept; auto decides by their size.',
)
@option(
    '--kimg',
    group='Training',
    type=float,
    help='Counter at which the run ends, thousands of pictures (default: 25000).',
    **NOTHING,
)
@option(
    '--nkimg',
    group='Training',
    type=float,
    help='Counter at which it starts (default: preset, 0).',
    **NOTHING,
)
@option('--batch', group='Training', type=int, help='Pictures a step (default: preset).', **NOTHING)
@option(
    '--batch-gpu',
    group='Training',
    type=int,
    help='Pictures at a time, a part of --batch (default: preset).',
    **NOTHING,
)
@option(
    '--lrate',
    group='Training',
    type=float,
    help='Learning rate of both networks (default: preset).',
    **NOTHING,
)
@option(
    '--glr', group='Training', type=float, help='Learning rate of G (default: --lrate).', **NOTHING
)
@option(
    '--dlr', group='Training', type=float, help='Learning rate of D (default: --lrate).', **NOTHING
)
@option('--gamma', group='Training', type=float, help='R1 weight (default: preset).', **NOTHING)
@option(
    '--freezed',
    group='Training',
    type=int,
    help='FreezeD: fix so many layers of D, from the image side (default: 0).',
    **NOTHING,
)
@option(
    '--freezed-res',
    group='Training',
    type=int,
    help='FreezeD by resolution: fix all blocks of D from so many pixels up.',
    **NOTHING,
)
@option(
    '--ema-kimg',
    group='Training',
    type=float,
    help='Half-life of the average of G, kimg (default: preset).',
    **NOTHING,
)
@option(
    '--style-mix',
    group='Training',
    type=float,
    help='Probability of style mixing (default: preset, 0.9).',
    **NOTHING,
)
@option(
    '--pl-weight',
    group='Training',
    type=float,
    help='Weight of path length regularisation (default: preset, 2).',
    **NOTHING,
)
@option(
    '--cbase',
    group='Training',
    type=int,
    help='New networks: channels times resolution, at most (default: preset).',
    **NOTHING,
)
@option(
    '--cmax',
    group='Training',
    type=int,
    help='New networks: channels at most (default: preset, 512).',
    **NOTHING,
)
@option(
    '--map-depth',
    group='Training',
    type=int,
    help='New networks: layers of the mapping (default: preset).',
    **NOTHING,
)
@option(
    '--mbstd-group',
    group='Training',
    type=int,
    help="New networks: group of D's minibatch statistics (default: preset).",
    **NOTHING,
)
@option('--fp32', group='Training', type=bool, default=False, help='No float16 and no TF32.')
@option(
    '--tf32',
    group='Training',
    type=bool,
    default=True,
    help='On a GPU, TF32 in the convolutions that are not in float16.',
)
@option(
    '--graphs',
    group='Training',
    type=bool,
    default=False,
    help='On a GPU, replay each phase as a CUDA graph, which saves the launches of its '
    'kernels. Written and not yet tried on a GPU.',
)
@option(
    '--aug',
    group='Augmentation',
    type=click.Choice(['ada', 'noaug', 'fixed']),
    help='Adaptive, none, or with a fixed --p (default: ada).',
    **NOTHING,
)
@option('--p', group='Augmentation', type=float, help='Probability for --aug=fixed.', **NOTHING)
@option(
    '--aug-strength',
    '--initstrength',
    'aug_strength',
    group='Augmentation',
    type=float,
    help='Probability at which ada starts (default: 0).',
    **NOTHING,
)
@option(
    '--ada-max',
    group='Augmentation',
    type=float,
    help='Probability that ada never exceeds (default: 1).',
    **NOTHING,
)
@option(
    '--ada-kimg',
    group='Augmentation',
    type=float,
    help='Thousands of pictures in which ada could go from 0 to 1 (default: 500, with --resume '
    '100).',
    **NOTHING,
)
@option(
    '--target',
    group='Augmentation',
    type=float,
    help='What ada steers E[sign(D(real))] to (default: 0.6).',
    **NOTHING,
)
@option(
    '--augpipe',
    group='Augmentation',
    type=click.Choice(AUGPIPES),
    help='Which transforms (default: preset, bgc).',
    **NOTHING,
)
@option(
    '--snap',
    group='Output',
    type=int,
    help='Ticks between snapshots (default: preset, 50).',
    **NOTHING,
)
@option(
    '--img-snap',
    group='Output',
    type=int,
    help='Ticks between sheets of pictures without a snapshot (default: none).',
    **NOTHING,
)
@option(
    '--keep',
    group='Output',
    type=int,
    help='Delete all snapshots but the newest so many and the best (default: none).',
    **NOTHING,
)
@option(
    '--tick',
    group='Output',
    type=float,
    help='Thousands of pictures a tick (default: preset, 4).',
    **NOTHING,
)
@option('--desc', group='Output', help="Text at the end of the run folder's name.", **NOTHING)
@option(
    '--metrics',
    group='Output',
    help='Comma-separated, or none. The first ranks the snapshots. Default: fid50k_full; for '
    'fewer than 2,048 pictures '
    'kid5k_full,fid5k_full; on a CPU none.',
    **NOTHING,
)
@option(
    '--metrics-kimg',
    group='Output',
    type=float,
    help='Evaluate at the first snapshot after every so many thousand pictures (default: '
    'preset, at each snapshot).',
    **NOTHING,
)
def command(
    outdir: Path | None,
    continue_dir: Path | None,
    cfg: str,
    device: str,
    dry_run: bool,
    **options: Any,
) -> int:
    from torch_utils.misc import select_device
    from training.plan import plan_continuation, plan_new_run, processes_of, try_plan
    from training.run_dir import options_text
    from training.start import start

    context = click.get_current_context()
    target = select_device(device)
    given = given_options(context, options)
    if continue_dir is not None:
        if (
            outdir is not None
            or context.get_parameter_source('cfg') != click.core.ParameterSource.DEFAULT
        ):
            raise dnnlib.UserError(
                '--outdir and --cfg belong to new runs; --continue takes them from the run'
            )
        make_plan: Callable[[], Plan] = functools.partial(plan_continuation, continue_dir, given)
        gpus = processes_of(continue_dir, given)
    else:
        if 'data' not in given or (outdir is None and not dry_run):
            raise dnnlib.UserError(
                '--data and --outdir are needed (or --continue, to go on with a run)'
            )
        new_plan = plan_new_run(cfg, given, outdir, on_cpu=target.type == 'cpu')
        make_plan = functools.partial(copy.copy, new_plan)  # nothing is left to do
        gpus = new_plan.config.gpus
    if dry_run:
        plan = make_plan()
        notes = try_plan(plan, target.type)
        click.echo(options_text(plan.config))
        for line in notes:
            click.echo(line, err=True)
        return 0
    command = [sys.executable, str(Path(__file__).resolve()), *context.obj]
    return start(make_plan, gpus, target, make_evaluation, command, continue_dir)


def given_options(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave, as opposed to defaults."""
    from metrics.metric import parse_names

    default = click.core.ParameterSource.DEFAULT
    given = {
        name: value
        for name, value in options.items()
        if value is not None and ctx.get_parameter_source(name) != default
    }
    for line in habits.settle_nvidia_switches(given):
        click.echo(line, err=True)
    if 'metrics' in given:
        given['metrics'] = parse_names(given['metrics'])
    return given


def make_evaluation(run: Any) -> 'Evaluation | None':
    """How the snapshots of a run are judged; None without metrics."""
    if not run.config.metrics:
        return None
    from metrics.compare import make_evaluator
    from metrics.metric import validate_metrics
    from metrics.ppl import path_length_metric
    from synthesis.sampling import path_pairs, sample_images
    from training.outputs import Evaluation
    from training.ranking import Criterion

    evaluator = make_evaluator(
        run.config.metrics, run.config.data.path, device=run.device, mirror=run.config.data.xflip
    )
    label_fn = run.dataset.random_labels

    def evaluate(G_ema: Any) -> Any:
        path_length = path_length_metric(
            functools.partial(path_pairs, G_ema, label_fn=label_fn), device=run.device
        )
        return evaluator(lambda count: sample_images(G_ema, count, label_fn=label_fn), path_length)

    return Evaluation(evaluate, Criterion(*validate_metrics(run.config.metrics)[0].main))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory='a smaller --batch-gpu, or --cache=none, needs less')


if __name__ == '__main__':
    sys.exit(main())
