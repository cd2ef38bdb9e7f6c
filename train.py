"""Train a StyleGAN2 from pictures or fine-tune a snapshot, with ADA and FreezeD."""

import dnnlib  # isort: skip (first: Ctrl-C during the other imports is one line, too)
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli, habits
from training.presets import load_preset
from training.train_options import train_options

if TYPE_CHECKING:
    from training.networks import Generator
    from training.outputs import Evaluation
    from training.run import Run


@cli.command(name='train', help=__doc__)
@train_options
def command(
    outdir: Path | None,
    continue_dir: Path | None,
    cfg: str,
    device: str,
    dry_run: bool,
    **options: Any,
) -> int:
    context = click.get_current_context()
    check_what_is_named(context, outdir, continue_dir, cfg, options['data'], dry_run=dry_run)

    from torch_utils.misc import select_device
    from training.plan import Continuation, Plan, plan_continuation, plan_new_run, try_plan
    from training.run_dir import options_text
    from training.start import start

    target = select_device(device)
    job: Plan | Continuation
    given = given_options(context, options)
    if continue_dir is not None:
        job = Continuation(continue_dir, given)
    else:
        job = plan_new_run(cfg, given, outdir, on_cpu=target.type == 'cpu')
    if dry_run:
        plan = job if isinstance(job, Plan) else plan_continuation(job)
        notes = try_plan(plan, target.type)
        click.echo(options_text(plan.config))
        for line in notes:
            cli.echo(line, err=True)
        return 0
    command = [sys.executable, str(Path(__file__).resolve()), *context.obj]
    return start(job, target, make_evaluation, command)


def check_what_is_named(
    context: click.Context,
    outdir: Path | None,
    continue_dir: Path | None,
    cfg: str,
    data: str | None,
    *,
    dry_run: bool,
) -> None:
    """Refuse missing options, presets and files before PyTorch is imported, which takes seconds.

    Raises:
        UserError: naming the option.
    """
    if continue_dir is not None:
        if (
            outdir is not None
            or context.get_parameter_source('cfg') != click.core.ParameterSource.DEFAULT
        ):
            raise dnnlib.UserError(
                '--outdir and --cfg belong to new runs; --continue takes them from the run'
            )
        return
    if data is None or (outdir is None and not dry_run):
        raise dnnlib.UserError(
            '--data and --outdir are needed (or --continue, to go on with a run)'
        )
    load_preset(cfg)
    if not Path(data).exists():
        raise dnnlib.UserError(f'--data={data}: no such file or folder')


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


def make_evaluation(run: 'Run') -> 'Evaluation | None':
    """Return how the snapshots of a run are evaluated and ranked; None without metrics."""
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

    def evaluate(G_ema: 'Generator') -> dict[str, float]:
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
