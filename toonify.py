"""Photographs in, toons out: cut out the face, find it in the network that was trained on
photographs, draw it with a blended one.
"""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from dnnlib import cli
from dnnlib.cli import echo, option

networks = partial(option, group='Networks')
projection = partial(option, group='Projection')
output = partial(option, group='Output')


@cli.command(name='toonify', help=__doc__)
@click.argument('photos', nargs=-1, type=cli.given_path, metavar='PHOTO|FOLDER...')
@networks(
    '--network', type=cli.given_text, help='Snapshot that draws photographs, such as ffhq256.'
)
@networks('--toon', type=cli.given_text, help='Snapshot that was fine-tuned from it on toons.')
@networks(
    '--swap-resolution',
    type=int,
    help='Up to here the blend is like one of them, above like the other: 4, 8, 16 …',
)
@networks(
    '--structure',
    type=click.Choice(['network', 'toon']),
    help="Which gives the blend's low resolutions, up to --swap-resolution: network keeps the "
    "person's own shape and takes the toons' "
    'colours and lines (unless given); toon takes their shapes, and looks of a '
    'photograph.',
)
@networks('--blend-width', type=cli.finite, help='Smooth swap; see blend.py.')
@networks(
    '--blended',
    type=cli.given_text,
    help='A blended snapshot, instead of --toon and --swap-resolution.',
)
@networks('--class', 'class_idx', type=int, help='Class of conditional networks.')
@cli.trust_option('Networks')
@cli.face_options('ffhq')
@projection(
    '--projected-w', type=cli.given_path, help='Draw the ws of an .npz, instead of photographs.'
)
@projection(
    '--space',
    type=click.Choice(['w', 'w+']),
    default='w+',
    help='See project.py; w+ is more like the person.',
)
@projection('--num-steps', type=click.IntRange(1), default=1000, help='Steps of the projection.')
@projection(
    '--loss',
    type=click.Choice(['auto', 'lpips', 'pyramid']),
    default='auto',
    help='See project.py.',
)
@projection(
    '--lpips-weights', type=cli.given_path, help="torchvision's vgg16-397923af.pth; see project.py."
)
@output(
    '--trunc',
    type=cli.finite,
    default=1.0,
    help='Truncation psi: below 1 the toon is less extreme.',
)
@output(
    '--outdir',
    required=True,
    type=cli.given_path,
    help='Folder for NAME.png, the toon; NAME-steps.png, photograph, projection and toon; and '
    'NAME.npz, for --projected-w.',
)
@output('--batch', type=click.IntRange(1), default=4, help='Photographs at a time.')
@cli.device_option('Output')
def command(
    photos: Sequence[Path],
    align: str,
    landmarks: Path | None,
    class_idx: int | None,
    trust_pickle: bool,
    projected_w: Path | None,
    space: Any,
    num_steps: int,
    loss: str,
    lpips_weights: Path | None,
    trunc: float,
    outdir: Path,
    batch: int,
    device: str,
    **named: Any,
) -> None:
    from dataset_tools.faces.targets import check_alignment, find_targets, load_targets
    from synthesis import toonify
    from synthesis.latents import read_ws
    from synthesis.projection import Settings
    from synthesis.projection_losses import choose_embedding
    from synthesis.sampling import class_labels
    from torch_utils.misc import select_device

    options = toonify.ToonOptions(**named)
    options.check(photos, projected_w)
    place = select_device(device)
    warn = partial(echo, err=True)
    found = find_targets(photos)
    outputs = (outdir / f'{name}{end}' for name in found for end in toonify.ENDINGS)
    dnnlib.require_outputs_beside_inputs(outputs, found.values())
    if found:
        check_alignment(align, landmarks, say=warn)
    nets = options.load(trust_pickle=trust_pickle)
    if nets.warning is not None:
        warn(f'warning: {nets.warning}')
    G, G_toon = None if nets.base is None else nets.base.to(place), nets.toon.to(place)
    portraits: Iterator[toonify.Portrait]
    if projected_w is not None:
        portraits = toonify.saved_portraits(projected_w.stem, *read_ws(projected_w, G_toon))
    else:
        assert G is not None
        size = G.img_resolution, G.img_channels
        pictures = load_targets(found, *size, align=align == 'ffhq', landmarks=landmarks, warn=warn)
        _, embed = choose_embedding(loss, lpips_weights, G.img_resolution, place)
        settings = Settings(space=space, num_steps=num_steps)
        label = class_labels(G, class_idx, 1)
        portraits = toonify.project_portraits(G, pictures, label, embed, settings, batch)
    save_found = projected_w is None
    echo(toonify.write_toons(portraits, nets, outdir, trunc=trunc, save_found=save_found))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    sys.exit(main())
