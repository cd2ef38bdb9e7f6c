"""Time what feeds Inception: decoding and resizing on the CPU, against torch-fidelity, pytorch-fid
and clean-fid.
"""

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset


@dataclass(frozen=True)
class Loading:
    """How a tool's data loader reads files.

    Attributes:
        batch: pictures at a time.
        workers: processes.
    """

    batch: int
    workers: int

    def __call__(self, dataset: 'Dataset') -> 'Iterable[torch.Tensor]':
        from torch.utils.data import DataLoader

        return DataLoader(dataset, batch_size=self.batch, num_workers=self.workers)


def by_torch_fidelity(files: list[Path], load: Loading) -> 'Iterable[torch.Tensor]':
    from torch_fidelity.datasets import ImagesPathDataset
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    for pictures in load(ImagesPathDataset(files)):
        resized = interpolate_bilinear_2d_like_tensorflow1x(
            pictures.float(), size=(299, 299), align_corners=False
        )
        yield (resized - 128) / 128


def by_pytorch_fid(files: list[Path], load: Loading) -> 'Iterable[torch.Tensor]':
    from pytorch_fid.fid_score import ImagePathDataset
    from torch.nn.functional import interpolate
    from torchvision.transforms import ToTensor

    for pictures in load(ImagePathDataset(files, ToTensor())):
        yield interpolate(pictures, (299, 299), mode='bilinear', align_corners=False) * 2 - 1


def by_clean_fid(files: list[Path], load: Loading) -> 'Iterable[torch.Tensor]':
    from cleanfid.utils import ResizeDataset

    for pictures in load(ResizeDataset([str(path) for path in files], 'clean')):
        yield (pictures - 128) / 128


def by_us(protocol: str, folder: Path, batch: int) -> 'Iterable[torch.Tensor]':
    from metrics.image_set import PictureSet
    from metrics.protocols import PROTOCOLS

    for pictures in PictureSet(folder).batches(batch):
        yield from PROTOCOLS[protocol].pieces(pictures)


THEIRS = {
    'torch-fidelity': by_torch_fidelity,
    'pytorch-fid': by_pytorch_fid,
    'clean': by_clean_fid,
}


def make_pictures(folder: Path, count: int, resolution: int, suffix: str) -> None:
    for i in range(count):
        small = np.random.RandomState(i).randint(0, 256, [16, 16, 3], dtype=np.uint8)
        picture = Image.fromarray(small).resize((resolution, resolution), Image.Resampling.BICUBIC)
        picture.save(folder / f'{i:05d}.{suffix}')


def speed(make: 'Callable[[], Iterable[torch.Tensor]]', count: int, repeats: int) -> float:
    """Pictures per second of the fastest pass."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        seen = sum(len(pictures) for pictures in make())
        times.append(time.perf_counter() - start)
        assert seen == count
    return count / min(times)


@cli.command(name='fid', help=__doc__)
@option('--resolution', type=click.IntRange(8), default=256, help='Size of the pictures.')
@option('--count', type=click.IntRange(8), default=400, help='Pictures of the made-up set.')
@option(
    '--format', 'suffix', type=click.Choice(['png', 'jpg']), default='png', help='Of the files.'
)
@option('--batch', type=click.IntRange(1), default=32, help='Pictures at a time.')
@option(
    '--workers',
    type=click.IntRange(0),
    default=os.cpu_count() or 1,
    help='Processes that the others decode with; ours are threads.',
)
@option(
    '--repeats', type=click.IntRange(1), default=3, help='Passes over the set; the fastest counts.'
)
def command(
    resolution: int, count: int, suffix: str, batch: int, workers: int, repeats: int
) -> None:
    import torch

    click.echo(
        f'{os.cpu_count()} CPUs, {torch.get_num_threads()} threads of PyTorch '
        f'{torch.__version__}; '
        f'{count} {suffix} of {resolution} px, batch {batch}, {workers} workers'
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder, count, resolution, suffix)
        files = sorted(folder.iterdir())
        for protocol, theirs in THEIRS.items():
            read_ours = functools.partial(by_us, protocol, folder, batch)
            read_theirs = functools.partial(theirs, files, Loading(batch, workers))
            a, b = (speed(read, count, repeats) for read in (read_ours, read_theirs))
            click.echo(
                f'{protocol:15} ours {a:7.0f} img/s   theirs {b:7.0f} img/s   speedup {a / b:.2f}x'
            )


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
