"""Train a StyleGAN2 from pictures or fine-tune a snapshot, with ADA and FreezeD."""

import dataclasses
import json
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import dnnlib
from dnnlib import cli
from dnnlib.cli import option

AUGPIPES = ['blit', 'geom', 'color', 'filter', 'noise', 'cutout', 'bg', 'bgc', 'bgcf', 'bgcfn', 'bgcfnc']
NOTHING = {'show_default': False, 'default': None}  # the preset decides, or nothing is to be said

# Options that set one field of training.config, which comes second.
FIELDS = {
    'cond': 'data.cond', 'mirror': 'data.xflip', 'mirrory': 'data.yflip', 'subset': 'data.subset', 'workers': 'data.workers',
    'aug': 'augment.mode', 'p': 'augment.p', 'aug_strength': 'augment.p', 'target': 'augment.target', 'augpipe': 'augment.pipe',
    'freezed': 'network.freeze_layers', 'gamma': 'loss.r1_gamma', 'lrate': 'optimizer.lr', 'batch': 'batch_size', 'batch_gpu': 'batch_gpu',
    'kimg': 'total_kimg', 'nkimg': 'start_kimg', 'tick': 'tick_kimg', 'snap': 'snapshot_ticks', 'seed': 'seed', 'fp32': 'fp32',
    'resume': 'resume',
}


@cli.command(name='train', help=__doc__)
@option('--outdir', group='General', required=True, type=Path, help='Where to make the run folder.')
@option('--data', group='General', required=True, type=Path, help='Folder or zip of pictures, made by prepare_data.py.')
@option('--cfg', group='General', default='auto',
        help='Preset of configs/: auto, stylegan2, paper256, paper512, paper1024, cifar, toonify256, demo.')
@option('--resume', group='General', type=str, help='Snapshot (.pkl) to start from; it brings its architecture.', **NOTHING)
@cli.device_option('General')
@option('--gpus', group='General', type=int, default=1, help='Number of GPUs; only 1 for now.')
@option('--seed', group='General', type=int, default=0, help='Random seed.')
@option('-n', '--dry-run', group='General', is_flag=True, help='Print the settings and stop.')
@option('--cond', group='Data', type=bool, default=False, help='Use the labels of dataset.json.')
@option('--subset', group='Data', type=int, help='Use only so many pictures (default: all).', **NOTHING)
@option('--mirror', group='Data', type=bool, default=False, help='Add mirror images.')
@option('--mirrory', group='Data', type=bool, default=False, help='Add upside-down images.')
@option('--workers', group='Data', type=int, help='Processes that read pictures (default: 3, on a CPU 0).', **NOTHING)
@option('--kimg', group='Training', type=float, help='Counter at which the run ends, thousands of pictures (default: 25000).', **NOTHING)
@option('--nkimg', group='Training', type=float, help='Counter at which it starts (default: preset, 0).', **NOTHING)
@option('--batch', group='Training', type=int, help='Pictures a step (default: preset).', **NOTHING)
@option('--batch-gpu', group='Training', type=int, help='Pictures at a time, a part of --batch (default: preset).', **NOTHING)
@option('--lrate', group='Training', type=float, help='Learning rate of both networks (default: preset).', **NOTHING)
@option('--gamma', group='Training', type=float, help='R1 weight (default: preset).', **NOTHING)
@option('--freezed', group='Training', type=int, help="FreezeD: fix so many layers of D, from the image side (default: 0).", **NOTHING)
@option('--fp32', group='Training', type=bool, default=False, help='No float16 and no TF32.')
@option('--aug', group='Augmentation', type=click.Choice(['ada', 'noaug', 'fixed']),
        help='Adaptive, none, or with a fixed --p (default: ada).', **NOTHING)
@option('--p', group='Augmentation', type=float, help='Probability for --aug=fixed.', **NOTHING)
@option('--aug-strength', group='Augmentation', type=float, help='Probability at which ada starts (default: 0).', **NOTHING)
@option('--target', group='Augmentation', type=float, help='What ada steers E[sign(D(real))] to (default: 0.6).', **NOTHING)
@option('--augpipe', group='Augmentation', type=click.Choice(AUGPIPES), help='Which transforms (default: preset, bgc).', **NOTHING)
@option('--snap', group='Output', type=int, help='Ticks between snapshots (default: preset, 50).', **NOTHING)
@option('--tick', group='Output', type=float, help='Thousands of pictures a tick (default: preset, 4).', **NOTHING)
@option('--metrics', group='Output', help='Comma-separated, or none (default: fid50k_full, on a CPU none).', **NOTHING)
def command(outdir: Path, data: Path, cfg: str, device: str, gpus: int, dry_run: bool, metrics: str | None, **options: Any) -> None:
    from torch_utils.misc import select_device
    from training.config import build_config, run_name
    from training.dataset import ImageFolderDataset

    if gpus != 1:
        raise dnnlib.UserError(f'--gpus={gpus}: training runs on one GPU for now; use --gpus=1')
    target = select_device(device)
    overrides = nested_overrides(click.get_current_context(), options, on_cpu=target.type == 'cpu')
    cond, mirror, mirrory, subset = (options[name] for name in ('cond', 'mirror', 'mirrory', 'subset'))
    dataset = ImageFolderDataset(data, use_labels=cond, max_size=subset, xflip=mirror, yflip=mirrory, seed=options['seed'])
    config = build_config(cfg, dataset.resolution, gpus, overrides)
    names = metric_names(metrics, on_cpu=target.type == 'cpu')
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(data)), metrics=names)
    settings = json.dumps(config.to_dict(), indent=2)
    if dry_run:
        click.echo(settings)
        return

    from training.training_loop import setup, train
    run = setup(config, dataset, target)  # before anything is written: the snapshot may not fit
    evaluate = make_evaluate(config.metrics, data, target) if config.metrics else None
    run_dir = make_run_dir(outdir, run_name(config))
    (run_dir / 'training_options.json').write_text(settings + '\n', encoding='utf-8')
    with dnnlib.Logger(run_dir / 'log.txt'):
        handler = logging.StreamHandler(sys.stdout)
        logging.basicConfig(level=logging.INFO, format='%(message)s', handlers=[handler], force=True)
        logging.info('Run: %s', run_dir)
        train(run, run_dir, evaluate)


def nested_overrides(ctx: click.Context, options: dict[str, Any], on_cpu: bool) -> dict[str, Any]:
    """What the user gave, nested as training.config has it, and what follows from it."""
    default = click.core.ParameterSource.DEFAULT
    given = {name: value for name, value in options.items() if value is not None and ctx.get_parameter_source(name) != default}
    if (given.get('aug') == 'fixed') != ('p' in given):
        raise dnnlib.UserError('--aug=fixed needs --p, and --p needs --aug=fixed (--aug-strength is where ada starts)')
    if 'aug_strength' in given and given.get('aug', 'ada') != 'ada':
        raise dnnlib.UserError(f"--aug-strength={given['aug_strength']} is where ada starts; it does nothing with --aug={given['aug']}")
    nested: dict[str, Any] = {'data': {'workers': 0}} if on_cpu else {}
    if 'resume' in given:
        nested.update({'augment': {'kimg': 100.0}, 'ema': {'rampup': None}})  # the networks are past their beginnings
    for name, value in given.items():
        *path, field = FIELDS[name].split('.')
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[field] = value
    return nested


def metric_names(metrics: str | None, on_cpu: bool) -> tuple[str, ...]:
    """The metrics to compute at snapshots."""
    from metrics.evaluate import validate_metrics
    text = ('none' if on_cpu else 'fid50k_full') if metrics is None else metrics
    names = () if text == 'none' else tuple(part for part in re.split(r'[,\s]+', text) if part)
    validate_metrics(names)
    return names


def make_evaluate(names: Sequence[str], data: Path, device: Any) -> Any:
    """G_ema to metrics by name."""
    from metrics.evaluate import make_evaluator
    from synthesis.images import sample_images
    evaluator = make_evaluator(names, data, device=device)
    return lambda G_ema: evaluator(lambda count: sample_images(G_ema, count, noise_mode='const'))


def make_run_dir(outdir: Path, name: str) -> Path:
    """A new folder `00000-NAME` with the next free number."""
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        numbers = [int(match[0]) for entry in outdir.iterdir() if (match := re.match(r'\d+', entry.name))]
        path = outdir / f'{max(numbers, default=-1) + 1:05d}-{name}'
        path.mkdir()
    except OSError as error:
        raise dnnlib.UserError(f'--outdir={outdir}: cannot be written: {error.strerror or error}') from error
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
