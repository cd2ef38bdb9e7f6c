"""Pictures a second of the generator; against a baseline if one is named."""

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from baseline import build, job_of, median_ms, run_baseline  # noqa: E402

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402


@cli.command(name='generate', help=__doc__)
@option('--resolution', type=int, default=64, help='Size of the pictures.')
@option(
    '--batch',
    'batches',
    type=int,
    multiple=True,
    default=[1, 16],
    help='Pictures at a time; may be given several times.',
)
@option('--cfg', default='auto', help='Preset of configs/.')
@option('--repeats', type=int, default=10, help='Timings; the median counts.')
@option(
    '--baseline',
    default=None,
    show_default=False,
    help='Also time `eager` or the folder of a checkout; see train_step.py.',
)
@cli.device_option()
def command(
    resolution: int,
    batches: tuple[int, ...],
    cfg: str,
    repeats: int,
    baseline: str | None,
    device: str,
) -> None:
    import torch

    from synthesis.sampling import Renderer, render
    from torch_utils.cuda_graphs import WARM_UP
    from torch_utils.misc import select_device
    from training.config import build_config

    target = select_device(device)
    config = build_config(cfg, resolution, 1, {})
    job = job_of('generate', config, resolution, 1, target, repeats)
    G, _, _, _ = build(job, target)
    G = G.eval().requires_grad_(False)
    name = (
        torch.cuda.get_device_name()
        if target.type == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads'
    )
    click.echo(f'{name}; PyTorch {torch.__version__}; {resolution} px, cfg {cfg}')
    renderer = Renderer(G, lambda z, c: render(G, z, c))
    ratio = 1.0
    for batch in batches:
        z, labels = torch.randn([batch, job['z_dim']]), torch.zeros([batch, 0])
        for _ in range(WARM_UP):  # what comes before a graph
            renderer(z, labels, noise={})
        ours = median_ms(lambda z=z, labels=labels: renderer(z, labels, noise={}), repeats, target)
        click.echo(f'batch {batch}: {ours:8.1f} ms, {batch / ours * 1000:.1f} img/s')
        if baseline is not None:
            theirs = run_baseline(baseline, {**job, 'batch': batch})['generate']
            ratio = theirs / ours
            click.echo(
                f'{baseline}, batch {batch}: {theirs:8.1f} ms, {batch / theirs * 1000:.1f} '
                f'img/s; {ratio:.2f}x'
            )
    if baseline is not None:
        click.echo(f'speedup {ratio:.2f}x')


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
