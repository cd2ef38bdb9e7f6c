"""Time prepare_data.py on JPEGs of 512 px that become a zip of 256 px, against one process that
does the same with Pillow alone.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dataset_tools.workers import default_workers  # noqa: E402
from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


@cli.command(name='prepare', help=__doc__)
@option('--count', type=click.IntRange(2), default=10_000, help='Pictures.')
@option('--size', type=click.IntRange(16), default=512, help='Their width and height.')
@option('--resolution', type=click.IntRange(8), default=256, help='Of the data set.')
@option(
    '--repeats',
    type=click.IntRange(1),
    default=3,
    help='Runs of each, in turns; the median counts.',
)
@option(
    '--plain',
    type=click.Path(),
    hidden=True,
    nargs=2,
    help='Do what is compared with: source and zip.',
)
def command(
    count: int, size: int, resolution: int, repeats: int, plain: tuple[str, str] | None
) -> None:
    if plain:
        convert_plainly(Path(plain[0]), Path(plain[1]), resolution)
        return
    with tempfile.TemporaryDirectory() as folder:
        source, dest = Path(folder, 'pictures'), Path(folder, 'set.zip')
        make_pictures(source, count, size)
        ours = [
            sys.executable,
            str(ROOT / 'prepare_data.py'),
            f'--source={source}',
            f'--dest={dest}',
            f'--resolution={resolution}',
        ]
        theirs = [
            sys.executable,
            __file__,
            '--plain',
            str(source),
            str(dest),
            f'--resolution={resolution}',
        ]
        times: dict[str, list[float]] = {'ours': [], 'theirs': []}
        for _ in range(repeats):
            for name, words in (('theirs', theirs), ('ours', ours)):
                times[name].append(measure(words)[0])
        middle = {name: float(np.median(values)) for name, values in times.items()}
        load = f', load {os.getloadavg()[0]:.1f}' if hasattr(os, 'getloadavg') else ''
        click.echo(
            f'{count} JPEGs of {size} px to {resolution} px, {default_workers()} workers{load}'
        )
        click.echo(
            f'Pillow in one process: {count / middle["theirs"]:7.0f} img/s, '
            f'{measure(theirs)[1] / 1e6:.0f} MB'
        )
        few, many = (
            measure([*ours, f'--max-images={number}'])[1] / 1e6 for number in (count // 2, count)
        )
        click.echo(
            f'prepare_data.py:       {count / middle["ours"]:7.0f} img/s, {many:.0f} MB in '
            f'its largest process '
            f'({few:.0f} MB for half as many)'
        )
        click.echo(f'speedup {middle["theirs"] / middle["ours"]:.2f}x')


def make_pictures(folder: Path, count: int, size: int) -> None:
    """Pictures with as much detail as photographs have: about 60 kB at 512 px."""
    folder.mkdir()
    random = np.random.RandomState(0)
    layers = [
        Image.fromarray(random.randint(0, 256, [side, side, 3], dtype=np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        for side in (size // 32, size // 8, size // 4)
    ]
    pixels = np.average([np.asarray(layer) for layer in layers], axis=0, weights=[4, 2, 1]).astype(
        np.uint8
    )
    for i in range(count):
        Image.fromarray(np.roll(pixels, (i * 7, i * 13), axis=(0, 1))).save(
            folder / f'{i:06d}.jpg', quality=90
        )


def convert_plainly(source: Path, dest: Path, resolution: int) -> None:
    """One loop over the files: open, cut the middle, resize with Lanczos's filter, uncompressed
    PNG, stored zip.
    """
    with zipfile.ZipFile(dest, 'w', zipfile.ZIP_STORED) as file:
        for i, path in enumerate(sorted(source.rglob('*.jpg'))):
            pixels = np.asarray(Image.open(path))
            side = min(pixels.shape[:2])
            top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
            picture = Image.fromarray(pixels[top : top + side, left : left + side])
            buffer = io.BytesIO()
            picture.resize((resolution, resolution), Image.Resampling.LANCZOS).save(
                buffer, 'PNG', compress_level=0, optimize=False
            )
            file.writestr(f'{i // 1000:05d}/img{i:08d}.png', buffer.getvalue())


def measure(words: list[str]) -> tuple[float, int]:
    """Seconds, and the most bytes that its largest process held; 0 where that can't be told."""
    if sys.platform == 'win32':
        start = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start, 0
    # In a process of its own, whose children are only these.
    code = (
        'import resource, subprocess, sys, time; start = time.perf_counter(); '
        'subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); '
        'print(time.perf_counter() - start, '
        'resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'
    )
    seconds, peak = subprocess.run(
        [sys.executable, '-c', code, *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    return float(seconds), int(peak) * (1 if sys.platform == 'darwin' else 1024)


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
