"""What FreezeD saves: time of D's phases with more and more blocks frozen, measured in turns."""

import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402


@cli.command(name='freezed', help=__doc__)
@option('--resolution', type=int, default=64, help='Size of the pictures.')
@option('--batch', type=int, default=8, help='Pictures a step.')
@option('--cfg', default='demo', help='Preset of configs/.')
@option('--repeats', type=int, default=5, help='Timings; the median counts.')
@cli.device_option()
def command(resolution: int, batch: int, cfg: str, repeats: int, device: str) -> None:
    import torch

    from torch_utils.misc import select_device
    from training.config import build_config
    from training.dataset import ImageFolderDataset
    from training.phases import Batch
    from training.run import Run, draw_latents, setup

    target = select_device(device)
    rows = [None, *(resolution >> i for i in range(resolution.bit_length() - 3))]
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(batch):
            noise = np.random.RandomState(i).randint(
                0, 256, [resolution, resolution, 3], dtype=np.uint8
            )
            Image.fromarray(noise).save(Path(folder, f'{i}.png'))
        for frozen in rows:
            config = build_config(
                cfg,
                resolution,
                1,
                {
                    'batch_size': batch,
                    'batch_gpu': batch,
                    'augment': {'mode': 'noaug'},
                    'data': {'workers': 0, 'cache': 'none'},
                    'network': {'mbstd_group_size': min(batch, 4), 'freeze_resolution': frozen},
                },
            )
            runs.append(setup(config, ImageFolderDataset(folder), target))
        images, labels = next(runs[0].data)
    inputs = Batch(images, labels, *draw_latents(runs[0], batch))
    times: dict[tuple[int, str], list[float]] = {}
    for repeat in range(repeats + 1):
        for i, run in enumerate(runs):
            for phase in (phase for phase in run.phases if phase.module is run.D):
                start = time.perf_counter()
                phase.run(inputs, batch)
                if target.type == 'cuda':
                    torch.cuda.synchronize()
                if repeat > 0:
                    times.setdefault((i, phase.name), []).append(time.perf_counter() - start)
    name = (
        torch.cuda.get_device_name()
        if target.type == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads'
    )
    click.echo(f'{name}; PyTorch {torch.__version__}; {resolution} px, batch {batch}, cfg {cfg}')
    medians = {key: float(np.median(values)) for key, values in times.items()}
    for i, frozen in enumerate(rows):
        parts = [
            f'{phase} {medians[i, phase] * 1000:8.1f} ms '
            f'({medians[0, phase] / medians[i, phase]:.2f}x)'
            for phase in ('Dmain', 'Dreg')
        ]
        trained = sum(parameter.numel() for parameter in runs[i].D.parameters())
        what = f'{frozen} px and above' if frozen else 'nothing'
        click.echo(f'{what:16} frozen, {trained:11,} parameters train: {", ".join(parts)}')
    click.echo(f'speedup {medians[0, "Dmain"] / medians[len(rows) - 1, "Dmain"]:.2f}x')


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
