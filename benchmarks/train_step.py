"""Time the phases of a training step and the s/kimg that follow from them; against a baseline if
one is named.
"""

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from baseline import PHASES, job_of, median_ms, run_baseline  # noqa: E402

import dnnlib  # noqa: E402
from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402
from training.config import AUGPIPES, build_config  # noqa: E402


@cli.command(name='train_step', help=__doc__)
@option('--resolution', type=int, default=64, help='Size of the pictures.')
@option('--batch', type=int, default=8, help='Pictures a step.')
@option('--cfg', default='auto', help='Preset of configs/.')
@option(
    '--augpipe',
    type=click.Choice(['none', *AUGPIPES]),
    default='bgc',
    help='Which augmentations; none for none.',
)
@option('--p', type=float, default=0.3, help='Their probability.')
@option('--graphs', type=bool, default=False, help='Replay the phases as CUDA graphs.')
@option('--repeats', type=int, default=10, help='Timings a phase; the median counts.')
@option(
    '--baseline',
    default=None,
    show_default=False,
    help='Also time `eager`, this project with '
    "PyTorch's plain ops only, or the "
    "folder of a checkout of NVIDIA's or of this project, and print the ratio.",
)
@cli.device_option()
def command(
    resolution: int,
    batch: int,
    cfg: str,
    augpipe: str,
    p: float,
    graphs: bool,
    repeats: int,
    baseline: str | None,
    device: str,
) -> None:
    import torch

    from torch_utils.cuda_graphs import WARM_UP
    from torch_utils.misc import select_device
    from training.dataset import ImageFolderDataset
    from training.phases import Batch
    from training.run import draw_latents, setup

    target = select_device(device)
    if graphs and target.type != 'cuda':
        raise dnnlib.UserError('--graphs=1: there are none without a CUDA GPU')
    augment = {'mode': 'noaug'} if augpipe == 'none' else {'mode': 'fixed', 'pipe': augpipe, 'p': p}
    config = build_config(
        cfg,
        resolution,
        1,
        {
            'batch_size': batch,
            'batch_gpu': batch,
            'augment': augment,
            'graphs': graphs,
            'data': {'workers': 0},
            'network': {'mbstd_group_size': min(batch, 4)},
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        for i in range(batch):
            noise = np.random.RandomState(i).randint(
                0, 256, [resolution, resolution, 3], dtype=np.uint8
            )
            Image.fromarray(noise).save(Path(folder, f'{i}.png'))
        run = setup(config, ImageFolderDataset(folder), target)
        images, labels = next(run.data)

    name = (
        torch.cuda.get_device_name()
        if target.type == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads'
    )
    click.echo(
        f'{name}; PyTorch {torch.__version__}; {resolution} px, batch {batch}, cfg {cfg}, '
        f'augpipe {augpipe}, p {p:g}, '
        f'graphs {graphs}'
    )
    if target.type == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    works: dict[str, Callable[[], object]] = {}
    for phase in run.phases:
        inputs = Batch(images, labels, *draw_latents(run, batch))
        works[phase.name] = functools.partial(phase.run, inputs, batch)
        if run.graphs is not None:
            works[phase.name] = functools.partial(run.graphs.run, phase, inputs)
    for work in works.values():
        for _ in range(WARM_UP if run.graphs is not None else 0):  # what comes before the graphs
            work()
    times = {}
    for phase in run.phases:
        work = works[phase.name]
        times[phase.name] = median_ms(work, repeats, target)
        share = gpu_share(work) if target.type == 'cuda' else ''
        click.echo(
            f'{phase.name}: {times[phase.name]:8.1f} ms, every {phase.interval} steps{share}'
        )
    if target.type == 'cuda':
        click.echo(f'peak memory: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB')
    ours = report('step', times, batch)
    if baseline is not None:
        strengths = {} if augpipe == 'none' else dict.fromkeys(AUGPIPES[augpipe], 1)
        theirs = run_baseline(
            baseline,
            job_of('step', config, resolution, batch, target, repeats, augment=strengths, p=p),
        )
        for phase_name, value in theirs.items():
            click.echo(f'{baseline}, {phase_name}: {value:8.1f} ms')
        click.echo(f'speedup {report(baseline, theirs, batch) / ours:.2f}x')


def report(name: str, times: dict[str, float], batch: int) -> float:
    """Print and return the milliseconds of an average step."""
    step = sum(value / PHASES[phase] for phase, value in times.items())
    click.echo(f'{name}: {step:8.1f} ms, {step / batch:.2f} s/kimg')
    return step


def gpu_share(work: Callable[[], object]) -> str:
    """How long the GPU computes in one run, in how many kernels."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
    kernels = [event for event in profiler.events() if event.device_type.name == 'CUDA']
    busy = sum(event.self_device_time_total for event in kernels) / 1000
    return f', the GPU busy for {busy:.1f} ms with {len(kernels)} kernels'


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
