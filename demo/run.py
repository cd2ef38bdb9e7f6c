"""The whole way in one go, on drawn faces: two looks, a source network, a fine-tuned one, blends, a
report.

Each step is one of the project's scripts, called and printed as one would type it.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import dnnlib  # noqa: E402
from demo.report import Command, Figure, PictureTable, Section, Table, tile_pictures, write_report  # noqa: E402
from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402

SEEDS = range(6)  # of the table of blends
TRUNC = 0.8


@dataclass(frozen=True)
class Size:
    """How much is done: what two CPU cores manage in ten minutes, or what a GPU does."""

    resolution: int
    source_count: int
    target_count: int
    source_kimg: float
    target_kimg: float
    fakes: int


CPU = Size(
    resolution=32, source_count=2000, target_count=200, source_kimg=19, target_kimg=6, fakes=160
)
GPU = Size(
    resolution=64, source_count=10000, target_count=200, source_kimg=400, target_kimg=60, fakes=2000
)


def _short(word: str) -> str:
    """A path below the project as one would type it there."""
    return word.removeprefix(f'{ROOT}{os.sep}')


@dataclass
class Demo:
    """Runs the steps and remembers what was typed and how long it took."""

    out: Path
    device: str
    size: Size
    commands: list[Command] = field(default_factory=list)

    def call(self, script: str, *arguments: str | Path, capture: bool = False) -> str:
        """Run one script; its errors end the demo with its exit code."""
        words = [script, *map(str, arguments)]
        line = ' '.join(['python', *(shlex.quote(_short(word)) for word in words)])
        click.secho(f'\n$ {line}', bold=True)
        start = time.time()
        result = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE if capture else None,
        )
        if result.returncode != 0:
            sys.exit(result.returncode)
        self.commands.append(Command(line, time.time() - start))
        return result.stdout or ''

    def data(self, style: str, count: int) -> Path:
        """Draw a set and prepare it."""
        folder, archive = (
            self.out / f'faces-{style}',
            self.out / f'{style}{self.size.resolution}.zip',
        )
        self.call(
            'demo/render_faces.py',
            '--out',
            folder,
            '--style',
            style,
            '--count',
            str(count),
            '--size',
            str(self.size.resolution * 2),
        )
        self.call(
            'prepare_data.py',
            '--source',
            folder,
            '--dest',
            archive,
            '--resolution',
            str(self.size.resolution),
        )
        return archive

    def train(self, archive: Path, *options: str | Path) -> Path:
        """Train and return the last snapshot."""
        runs = self.out / 'training-runs'
        self.call(
            'train.py',
            '--outdir',
            runs,
            '--data',
            archive,
            '--cfg=demo',
            '--mirror=1',
            '--device',
            self.device,
            '--metrics=none',
            *options,
        )
        return max(max(runs.iterdir()).glob('network-snapshot-*.pkl'))

    def generate(self, network: Path, name: str, seeds: str) -> Path:
        """Draw pictures into a folder of their own."""
        folder = self.out / 'pictures' / name
        self.call(
            'generate.py',
            '--network',
            network,
            '--seeds',
            seeds,
            '--trunc',
            str(TRUNC),
            '--outdir',
            folder,
            '--device',
            self.device,
        )
        return folder

    def distance(self, real: Path, fake: Path) -> float:
        """The Fréchet distance that needs no downloaded weights."""
        text = self.call(
            'calc_fid.py',
            '--real',
            real,
            '--fake',
            fake,
            '--num',
            str(self.size.fakes),
            '--detector',
            'random-vgg',
            '--device',
            self.device,
            '--json',
            capture=True,
        )
        return float(json.loads(text.splitlines()[-1])['results']['fd_random_vgg'])


@cli.command(name='run', help=__doc__)
@option('--out', type=Path, default=Path('out/demo'), help='Folder for everything.')
@cli.device_option()
def command(out: Path, device: str) -> None:
    from torch_utils.misc import select_device

    kind = select_device(device).type
    size = GPU if kind == 'cuda' else CPU
    demo = Demo(out.resolve(), kind, size)
    start = time.time()

    plain, toon = demo.data('plain', size.source_count), demo.data('toon', size.target_count)
    source = demo.train(plain, '--aug=noaug', f'--kimg={size.source_kimg:g}')
    tuned = demo.train(
        toon,
        '--resume',
        source,
        '--aug=ada',
        '--aug-strength=0.05',
        '--augpipe=bg',
        '--freezed=2',
        '--lrate=0.002',
        f'--kimg={size.target_kimg:g}',
    )

    fakes = f'0-{size.fakes - 1}'
    folders = {'source': demo.generate(source, 'source', fakes)}
    resolutions = [2**i for i in range(2, size.resolution.bit_length())]
    for resolution in resolutions:
        blended = demo.out / f'blend-{resolution}.pkl'
        demo.call(
            'blend.py',
            '--low',
            source,
            '--high',
            tuned,
            '--swap-resolution',
            str(resolution),
            '--output',
            blended,
        )
        folders[f'swap at {resolution}'] = demo.generate(
            blended, f'blend-{resolution}', f'{SEEDS[0]}-{SEEDS[-1]}'
        )
    folders['fine-tuned'] = demo.generate(tuned, 'tuned', fakes)

    distances = [
        [f'{name} pictures against the {style} set', demo.distance(real, folders[name])]
        for name, style, real in [
            ('source', 'plain', plain),
            ('source', 'toon', toon),
            ('fine-tuned', 'toon', toon),
        ]
    ]
    report(demo, {'plain': plain, 'toon': toon}, folders, distances, time.time() - start)


def report(
    demo: Demo, sets: dict[str, Path], folders: dict[str, Path], distances: list, seconds: float
) -> None:
    """Write `report.html`."""
    import torch

    scale = 64 // demo.size.resolution
    figures = {}
    for name, place in [
        *sets.items(),
        ('source', folders['source']),
        ('tuned', folders['fine-tuned']),
    ]:
        figures[name] = demo.out / f'{name}.png'
        tile_pictures(place, figures[name], count=64, columns=8)
    rows = {
        f'seed {seed}': [folder / f'seed{seed:04d}.png' for folder in folders.values()]
        for seed in SEEDS
    }
    facts = {
        'device': demo.device if demo.device == 'cuda' else f'CPU, {os.cpu_count()} cores',
        'PyTorch': torch.__version__,
        'time': dnnlib.format_time(seconds),
        'resolution': f'{demo.size.resolution} px',
    }
    page = demo.out / 'report.html'
    write_report(
        page,
        title='From faces to toons',
        facts=facts,
        lead='A small StyleGAN2 learns one look from thousands of drawn faces, a '
        'fine-tuned copy learns another from a few '
        'hundred, and layer swapping puts the two together.',
        sections=[
            Section(
                'The pictures',
                [
                    Figure(
                        'The plain set, from which the source network learns.',
                        figures['plain'],
                        scale,
                    ),
                    Figure('The toon set, on which it is fine-tuned.', figures['toon'], scale),
                ],
            ),
            Section(
                'What the networks draw',
                [
                    Figure('The source network.', figures['source'], scale),
                    Figure('The network fine-tuned with ADA and FreezeD.', figures['tuned'], scale),
                ],
            ),
            Section(
                'Layer swapping',
                [
                    'Up to the resolution named, the blocks come from the source network, '
                    'above it from the fine-tuned one: '
                    'the lower the swap, the more of the toon.',
                    PictureTable('The same latents in every column.', list(folders), rows, cell=96),
                ],
            ),
            Section(
                'Distances',
                [
                    Table(
                        'Fréchet distance in a random VGG-16 embedding; lower is closer. '
                        'These numbers compare with each other '
                        'and with nothing else.',
                        ['pictures', 'distance'],
                        distances,
                    )
                ],
            ),
            Section('The commands', list(demo.commands)),
        ],
    )
    click.secho(f'\n{page}: open it in a browser ({dnnlib.format_time(seconds)} in all)', bold=True)


def main() -> int:
    """Run the demo; returns its exit code."""
    return cli.run(command, sys.argv[1:])


if __name__ == '__main__':
    sys.exit(main())
