"""Draw pictures with a trained network: of seeds or of saved ws, style mixtures, videos, and the
directions in which pictures change.
"""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dnnlib import cli, make_output_folder
from dnnlib.cli import echo, option

NOTHING = {'default': None, 'show_default': False}


@cli.command(name='generate', help=__doc__)
@option(
    '--network',
    group='Input',
    required=True,
    type=cli.given_text,
    help='Snapshot: a file, a URL, or a name such as ffhq256.',
)
@option(
    '--projected-w',
    group='Input',
    type=cli.given_path,
    multiple=True,
    show_default=False,
    help='Draw the ws of an .npz instead of seeds: of a projection, or of --save-w. May be '
    'given several times.',
)
@cli.trust_option('Input')
@option(
    '--seeds',
    group='Pictures',
    help='Seeds: 0-35 or 1,5,8-10 (default: 0-35; of --sweep 0, of --sefa 0-5).',
    **NOTHING,
)
@option(
    '--trunc',
    group='Pictures',
    type=cli.finite,
    default=1.0,
    help='Truncation psi: 1 for variety, less for quality.',
)
@option(
    '--class',
    'class_idx',
    group='Pictures',
    type=int,
    help='Class of a conditional network.',
    **NOTHING,
)
@option(
    '--noise-mode',
    group='Pictures',
    type=click.Choice(['const', 'random', 'none', 'loop']),
    default='const',
    help='Noise inputs; random: other noise for every picture and frame, by its seed. loop: '
    'noise of a video goes round a circle.',
)
@option(
    '--style-mix',
    group='Style mixing',
    metavar='ROWS/COLS',
    help='Seeds, such as 85,100/55,821: a picture for each pair, and a grid.',
    **NOTHING,
)
@option(
    '--styles',
    group='Style mixing',
    help='Layers whose style is that of the column (default: the first half, at most 0-6).',
    **NOTHING,
)
@option(
    '--interpolate',
    group='Videos',
    metavar='SEEDS|w',
    help='From seed to seed: 1,2,3,1; w: through the ws of --projected-w.',
    **NOTHING,
)
@option(
    '--space',
    group='Videos',
    type=click.Choice(['w', 'z']),
    default='w',
    help='Of --interpolate: straight in w, or on the sphere in z.',
)
@option(
    '--sweep',
    group='Videos',
    metavar='WHAT',
    help='trunc=-1:1 (psis to go through), noise (a round trip), circle (once round a circle '
    'in z), class (all), class=0,2,1. '
    'All seeds side by side.',
    **NOTHING,
)
@option(
    '--radius',
    group='Videos',
    type=cli.finite,
    default=1.0,
    help='Of --sweep circle: 1 for a great circle of the sphere, less to stay near the seed.',
)
@option('--frames', group='Videos', type=click.IntRange(1), default=120, help='Of the whole video.')
@option(
    '--fps',
    group='Videos',
    type=cli.finite,
    default=30.0,
    help='Frames a second; of a GIF at most 50.',
)
@option(
    '--easing',
    group='Videos',
    type=click.Choice(['linear', 'smooth', 'circular']),
    default='linear',
    help='Speed between two stops: even, or slow at the stops and quick between them.',
)
@option(
    '--loop',
    group='Videos',
    is_flag=True,
    help='Go on from the last stop to the first, so that the video can be repeated.',
)
@option(
    '--video',
    group='Videos',
    metavar='PATH',
    type=cli.given_path,
    help='The .mp4 or .gif to write.',
    **NOTHING,
)
@option(
    '--sefa',
    group='SeFa',
    metavar='N',
    type=click.IntRange(1),
    help='A strip for each of the N directions that change most: a row a seed, in the middle '
    'untouched.',
    **NOTHING,
)
@option(
    '--sefa-scale',
    group='SeFa',
    type=cli.finite,
    default=3.0,
    help='How far to go, in w, to both sides.',
)
@option(
    '--sefa-layers',
    group='SeFa',
    help='Which layers to change: 0-3 for shapes, higher ones for colours (default: all).',
    **NOTHING,
)
@option(
    '--outdir',
    group='Output',
    type=cli.given_path,
    help='Folder for the pictures: seed0000.png …',
    **NOTHING,
)
@option(
    '--format',
    group='Output',
    type=click.Choice(['png', 'jpg', 'webp']),
    default='png',
    help='Of the pictures.',
)
@option(
    '--quality',
    group='Output',
    type=click.IntRange(1, 100),
    help='Of .jpg (default: 95), .webp (90) and .mp4 (67).',
    **NOTHING,
)
@option(
    '--save-w',
    group='Output',
    is_flag=True,
    help='Also save the w of each picture beside it, for --projected-w: seed0000.npz …',
)
@option(
    '--grid',
    group='Output',
    help='Also tile the first pictures into one, columns x rows: 6x6.',
    **NOTHING,
)
@option('--batch', group='Output', type=click.IntRange(1), default=16, help='Pictures at a time.')
@cli.device_option('Output')
def command(network: str, trust_pickle: bool, device: str, **options: Any) -> None:
    from synthesis.generate.request import parse_request

    context = click.get_current_context()
    given = [
        name
        for name in options
        if context.get_parameter_source(name) != click.core.ParameterSource.DEFAULT
    ]
    request = parse_request(options, given)

    from synthesis.drawing import draw
    from synthesis.generate.scenes import make_scene
    from synthesis.generate.writing import save_images, save_video
    from torch_utils.misc import select_device
    from training.snapshots import load_networks

    target = select_device(device)
    networks = load_networks(network, trust_pickle=trust_pickle)
    G = networks.G_ema.to(target)
    scene = make_scene(G, request)
    if request.outdir is not None:
        make_output_folder(request.outdir)
    drawn = cli.progress(
        draw(G, scene.pictures, request.noise_mode, request.batch),
        total=scene.total,
        desc='Drawing',
        unit='img',
    )
    if request.video is not None:
        width, height = save_video(drawn, scene, request)
        echo(
            f'{request.video}: {request.frames} frames of {width}×{height}, '
            f'{request.frames / request.fps:.1f} s'
        )
    else:
        info = {
            'network': Path(networks.meta['path']).name,
            'network_sha256': networks.meta['sha256'],
            'trunc': request.trunc,
            'class': request.class_idx,
            'noise_mode': request.noise_mode,
        }
        count = save_images(drawn, scene, request, info)
        what, tiles = (
            ('strip', f' of {scene.tiles} pictures') if request.mode == 'sefa' else ('picture', '')
        )
        echo(
            f'{count} {what}{"s" * (count != 1)}{tiles} of {G.img_resolution}×{G.img_resolution} '
            f'in {request.outdir}'
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    sys.exit(main())
