"""Time the phases of a training step: wall time and the s/kimg that follow from it."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402


@cli.command(name='train_step', help=__doc__)
@option('--resolution', type=int, default=64, help='Size of the pictures.')
@option('--batch', type=int, default=8, help='Pictures a step.')
@option('--cfg', default='auto', help='Preset of configs/.')
@option('--augpipe', default='bgc', help='Which augmentations; none for none.')
@option('--p', type=float, default=0.3, help='Their probability.')
@option('--repeats', type=int, default=10, help='Timings a phase; the median counts.')
@cli.device_option()
def command(resolution: int, batch: int, cfg: str, augpipe: str, p: float, repeats: int, device: str) -> None:
    import torch

    from torch_utils.misc import select_device
    from training.config import build_config
    from training.dataset import ImageFolderDataset
    from training.phases import Batch
    from training.training_loop import draw_latents, setup

    target = select_device(device)
    augment = {'mode': 'noaug'} if augpipe == 'none' else {'mode': 'fixed', 'pipe': augpipe, 'p': p}
    config = build_config(cfg, resolution, 1, {'batch_size': batch, 'batch_gpu': batch, 'augment': augment, 'data': {'workers': 0},
                                               'network': {'mbstd_group_size': min(batch, 4)}})
    with tempfile.TemporaryDirectory() as folder:
        for i in range(batch):
            noise = np.random.RandomState(i).randint(0, 256, [resolution, resolution, 3], dtype=np.uint8)
            Image.fromarray(noise).save(Path(folder, f'{i}.png'))
        run = setup(config, ImageFolderDataset(folder), target)
        images, labels = next(run.data)

    def synchronized(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        if target.type == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter() - start

    name = torch.cuda.get_device_name() if target.type == 'cuda' else f'CPU, {torch.get_num_threads()} threads'
    click.echo(f'{name}; PyTorch {torch.__version__}; {resolution} px, batch {batch}, cfg {cfg}, augpipe {augpipe}, p {p:g}')
    step = 0.0
    for phase in run.phases:
        inputs = Batch(images, labels, *draw_latents(run, batch))
        times = [synchronized(lambda phase=phase, inputs=inputs: phase.run(inputs, batch)) for _ in range(repeats + 2)][2:]
        median = float(np.median(times))
        step += median / phase.interval
        click.echo(f'{phase.name}: {median * 1000:8.1f} ms, every {phase.interval} steps')
    click.echo(f'step: {step * 1000:8.1f} ms, {step / batch * 1000:.2f} s/kimg')


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
