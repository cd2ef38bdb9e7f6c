"""Time what feeds Inception: decoding and resizing on the CPU, against torch-fidelity, pytorch-fid
and clean-fid.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402


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
    from torch.utils.data import DataLoader, Dataset

    from metrics.image_set import PictureSet
    from metrics.protocols import PROTOCOLS

    def loader(dataset: Dataset) -> Iterable[torch.Tensor]:
        return DataLoader(dataset, batch_size=batch, num_workers=workers)

    def fidelity(files: list[Path]) -> Iterable[torch.Tensor]:
        from torch_fidelity.datasets import ImagesPathDataset
        from torch_fidelity.interpolate_compat_tensorflow import (
            interpolate_bilinear_2d_like_tensorflow1x,
        )

        return (
            (
                interpolate_bilinear_2d_like_tensorflow1x(
                    pictures.float(), size=(299, 299), align_corners=False
                )
                - 128
            )
            / 128
            for pictures in loader(ImagesPathDataset(files))
        )

    def mseitzer(files: list[Path]) -> Iterable[torch.Tensor]:
        from pytorch_fid.fid_score import ImagePathDataset
        from torchvision.transforms import ToTensor

        return (
            torch.nn.functional.interpolate(
                pictures, (299, 299), mode='bilinear', align_corners=False
            )
            * 2
            - 1
            for pictures in loader(ImagePathDataset(files, ToTensor()))
        )

    def clean(files: list[Path]) -> Iterable[torch.Tensor]:
        from cleanfid.utils import ResizeDataset

        return (
            (pictures - 128) / 128
            for pictures in loader(ResizeDataset([str(path) for path in files], 'clean'))
        )

    def ours(protocol: str, folder: Path) -> Iterable[torch.Tensor]:
        return (
            part
            for pictures in PictureSet(folder).batches(batch)
            for part in PROTOCOLS[protocol].pieces(pictures)
        )

    def speed(make: Callable[[], Iterable[torch.Tensor]]) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            seen = sum(len(pictures) for pictures in make())
            times.append(time.perf_counter() - start)
            assert seen == count
        return count / min(times)

    click.echo(
        f'{os.cpu_count()} CPUs, {torch.get_num_threads()} threads of PyTorch '
        f'{torch.__version__}; '
        f'{count} {suffix} of {resolution} px, batch {batch}, {workers} workers'
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(count):
            small = np.random.RandomState(i).randint(0, 256, [16, 16, 3], dtype=np.uint8)
            Image.fromarray(small).resize((resolution, resolution), Image.Resampling.BICUBIC).save(
                folder / f'{i:05d}.{suffix}'
            )
        files = sorted(folder.iterdir())
        for protocol, theirs in (
            ('torch-fidelity', fidelity),
            ('pytorch-fid', mseitzer),
            ('clean', clean),
        ):
            a, b = (
                speed(lambda protocol=protocol: ours(protocol, folder)),
                speed(lambda theirs=theirs: theirs(files)),
            )
            click.echo(
                f'{protocol:15} ours {a:7.0f} img/s   theirs {b:7.0f} img/s   speedup {a / b:.2f}x'
            )


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
