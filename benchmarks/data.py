"""Time what feeds the training: how long a set takes to open, pictures a second from each cache and
with each number of workers.
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402


@cli.command(name='data', help=__doc__)
@option(
    '--resolution',
    type=click.Choice(['32', '64', '128', '256', '512', '1024']),
    default='256',
    help='Size of the pictures.',
)
@option(
    '--count',
    type=click.IntRange(1),
    default=600,
    help='Pictures of the made-up set, a zip as prepare_data.py writes it.',
)
@option('--batch', type=click.IntRange(1), default=16, help='Pictures a step.')
@option(
    '--workers',
    type=click.IntRange(0),
    multiple=True,
    default=[0, 1, 2, 4],
    help='Processes that decode, besides the default.',
)
@option('--folder', is_flag=True, help='A folder of pictures instead of a zip.')
@option('--open-only', is_flag=True, help='Only time the opening.')
@option('--mirror', is_flag=True, help='With mirror images.')
@option(
    '--repeats',
    type=click.IntRange(1),
    default=3,
    help='Timings of each, of at least the whole set; the median counts.',
)
@cli.device_option()
def command(
    resolution: str,
    count: int,
    batch: int,
    workers: tuple[int, ...],
    mirror: bool,
    repeats: int,
    folder: bool,
    open_only: bool,
    device: str,
) -> None:
    import torch

    from torch_utils.misc import select_device
    from training.config import DataConfig
    from training.dataset import ImageFolderDataset, batches

    target, size, default = select_device(device), int(resolution), DataConfig().workers
    num_batches = max(count // batch, 30)  # many more than what waits already when the clock starts

    def speed(dataset: ImageFolderDataset, cache: str, workers: int) -> float:
        start = time.perf_counter()
        stream = batches(dataset, batch, seed=0, workers=workers, device=target, cache=cache)
        if cache != 'none':
            click.echo(f'{cache}: decoded at {count / (time.perf_counter() - start):.0f} img/s')
        next(stream)  # starts the processes
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in islice(stream, num_batches):
                pass
            if target.type == 'cuda':
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return num_batches * batch / float(np.median(times))

    name = (
        torch.cuda.get_device_name()
        if target.type == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads'
    )
    click.echo(f'{name}; PyTorch {torch.__version__}; {count} pictures of {size} px, batch {batch}')
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, 'set' if folder else 'set.zip')
        make_set(path, count, size)
        dataset = ImageFolderDataset(path, xflip=mirror)
        opening, reading = time_opening(path, repeats)
        click.echo(
            f'opened in {opening:.2f} s; to read every byte takes {reading / opening:.1f} '
            f'times as long'
        )
        if open_only:
            return
        speeds = {}
        for number in sorted({*workers, default}):
            speeds['none', number] = speed(dataset, 'none', number)
            click.echo(
                f'none, {number} workers: {speeds["none", number]:8.0f} '
                f'img/s{" (the default)" if number == default else ""}'
            )
        for cache in ['ram', *['gpu'] * (target.type == 'cuda')]:
            speeds[cache, 0] = speed(dataset, cache, 0)
            click.echo(f'{cache}:            {speeds[cache, 0]:8.0f} img/s')
        dataset.archive.close()  # Windows removes no open file
    click.echo(f'speedup {speeds["ram", 0] / speeds["none", default]:.2f}x')


def make_set(path: Path, count: int, size: int) -> None:
    """Write pictures of noise, as prepare_data.py does; to a folder where there is no suffix."""
    from dataset_tools.encode import encode_png
    from dataset_tools.writer import DatasetWriter

    if not path.suffix:
        path.mkdir()
    with DatasetWriter(path) as writer:
        for i in range(count):
            noise = np.random.RandomState(i).randint(0, 256, [size, size, 3], dtype=np.uint8)
            writer.add(encode_png(noise), b'')


def time_opening(path: Path, repeats: int) -> tuple[float, float]:
    """Seconds to open a set, and to read every byte of it."""
    from training.dataset import ImageFolderDataset

    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        dataset = ImageFolderDataset(path)
        opened = time.perf_counter()
        for name in dataset.archive.picture_names:
            dataset.archive.read(name)
        seconds.append((opened - start, time.perf_counter() - opened))
        dataset.archive.close()  # Windows removes no open file
    opening, reading = np.median(seconds, axis=0)
    return float(opening), float(reading)


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
