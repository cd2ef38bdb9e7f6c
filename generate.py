"""Draw pictures with a trained network: of seeds or of saved ws, style mixtures, videos, and the
directions in which pictures change.
"""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from dnnlib import cli
from dnnlib.cli import echo, option

inputs = partial(option, group='Input')
pictures = partial(option, group='Pictures')
mixing = partial(option, group='Style mixing')
videos = partial(option, group='Videos')
sefa = partial(option, group='SeFa')
output = partial(option, group='Output')


@cli.command(name='generate', help=__doc__)
@inputs(
    '--network',
    required=True,
    type=cli.given_text,
    help='Snapshot: a file, a URL, or a name such as faces64 or ffhq256.',
)
@inputs(
    '--projected-w',
    type=cli.given_path,
    multiple=True,
    show_default=False,
    help='Draw the ws of an .npz instead of seeds: of a projection, or of --save-w. May be '
    'given several times.',
)
@cli.trust_option('Input')
@pictures('--seeds', help='Seeds: 0-35 or 1,5,8-10 (default: 0-35; of --sweep 0, of --sefa 0-5).')
@pictures(
    '--trunc', type=cli.finite, default=1.0, help='Truncation psi: 1 for variety, less for quality.'
)
@pictures('--class', 'class_idx', type=int, help='Class of a conditional network.')
@pictures(
    '--noise-mode',
    type=click.Choice(['const', 'random', 'none', 'loop']),
    default='const',
    help='Noise inputs; random: other noise for every picture and frame, by its seed. loop: '
    'noise of a video goes round a circle.',
)
@mixing(
    '--style-mix',
    metavar='ROWS/COLS',
    help='Seeds, such as 85,100/55,821: a picture for each pair, and a grid.',
)
@mixing(
    '--styles',
    help='Layers whose style is that of the column (default: the first half, at most 0-6).',
)
@videos(
    '--interpolate',
    metavar='SEEDS|w',
    help='From seed to seed: 1,2,3,1; w: through the ws of --projected-w.',
)
@videos(
    '--space',
    type=click.Choice(['w', 'z']),
    default='w',
    help='Of --interpolate: straight in w, or on the sphere in z.',
)
@videos(
    '--sweep',
    metavar='WHAT',
    help='trunc=-1:1 (psis to go through), noise (a round trip), circle (once round a circle '
    'in z), class (all), class=0,2,1. All seeds side by side.',
)
@videos(
    '--radius',
    type=cli.finite,
    default=1.0,
    help='Of --sweep circle: 1 for a great circle of the sphere, less to stay near the seed.',
)
@videos('--frames', type=click.IntRange(1), default=120, help='Of the whole video.')
@videos('--fps', type=cli.finite, default=30.0, help='Frames a second; of a GIF at most 50.')
@videos(
    '--easing',
    type=click.Choice(['linear', 'smooth', 'circular']),
    default='linear',
    help='Speed between two stops: even, or slow at the stops and quick between them.',
)
@videos(
    '--loop',
    is_flag=True,
    help='Go on from the last stop to the first, so that the video can be repeated.',
)
@videos('--video', metavar='PATH', type=cli.given_path, help='The .mp4 or .gif to write.')
@sefa(
    '--sefa',
    metavar='N',
    type=click.IntRange(1),
    help='A strip for each of the N directions that change most: a row a seed, in the middle '
    'untouched.',
)
@sefa('--sefa-scale', type=cli.finite, default=3.0, help='How far to go, in w, to both sides.')
@sefa(
    '--sefa-layers',
    help='Which layers to change: 0-3 for shapes, higher ones for colours (default: all).',
)
@output('--outdir', type=cli.given_path, help='Folder for the pictures: seed0000.png …')
@output(
    '--format', type=click.Choice(['png', 'jpg', 'webp']), default='png', help='Of the pictures.'
)
@output(
    '--quality',
    type=click.IntRange(1, 100),
    help='Of .jpg (default: 95), .webp (90) and .mp4 (67).',
)
@output(
    '--save-w',
    is_flag=True,
    help='Also save the w of each picture beside it, for --projected-w: seed0000.npz …',
)
@output('--grid', help='Also tile the first pictures into one, columns x rows: 6x6.')
@output('--batch', type=click.IntRange(1), default=16, help='Pictures at a time.')
@cli.device_option('Output')
def command(network: str, trust_pickle: bool, device: str, **options: Any) -> None:
    from synthesis.generate.request import parse_request

    source = click.get_current_context().get_parameter_source
    given = [name for name in options if source(name) != ParameterSource.DEFAULT]
    request = parse_request(options, given)

    from synthesis.generate.writing import write_request
    from torch_utils.misc import select_device
    from training.snapshots import load_networks

    target = select_device(device)
    networks = load_networks(network, trust_pickle=trust_pickle)
    echo(write_request(networks, request, target))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    sys.exit(main())
