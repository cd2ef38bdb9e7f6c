"""Photographs in, toons out: cut out the face, find it in the network that was trained on
photographs, draw it with a blended one.
"""

import dnnlib  # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from dnnlib import cli
from dnnlib.cli import echo, option

NOTHING = {'default': None, 'show_default': False}


@cli.command(name='toonify', help=__doc__)
@click.argument('photos', nargs=-1, type=cli.given_path, metavar='PHOTO|FOLDER...')
@option(
    '--network',
    group='Networks',
    type=cli.given_text,
    help='Snapshot that draws photographs, such as ffhq256.',
    **NOTHING,
)
@option(
    '--toon',
    group='Networks',
    type=cli.given_text,
    help='Snapshot that was fine-tuned from it on toons.',
    **NOTHING,
)
@option(
    '--swap-resolution',
    group='Networks',
    type=int,
    help='Up to here the blend is like one of them, above like the other: 4, 8, 16 …',
    **NOTHING,
)
@option(
    '--structure',
    group='Networks',
    type=click.Choice(['network', 'toon']),
    help="Which gives the blend's low resolutions, up to --swap-resolution: network keeps the "
    "person's own shape and takes the toons' "
    'colours and lines (unless given); toon takes their shapes, and looks of a '
    'photograph.',
    **NOTHING,
)
@option(
    '--blend-width', group='Networks', type=cli.finite, help='Smooth swap; see blend.py.', **NOTHING
)
@option(
    '--blended',
    group='Networks',
    type=cli.given_text,
    help='A blended snapshot, instead of --toon and --swap-resolution.',
    **NOTHING,
)
@option(
    '--class',
    'class_idx',
    group='Networks',
    type=int,
    help='Class of conditional networks.',
    **NOTHING,
)
@cli.trust_option('Networks')
@cli.face_options('ffhq')
@option(
    '--projected-w',
    group='Projection',
    type=cli.given_path,
    help='Draw the ws of an .npz, instead of photographs.',
    **NOTHING,
)
@option(
    '--space',
    group='Projection',
    type=click.Choice(['w', 'w+']),
    default='w+',
    help='See project.py; w+ is more like the person.',
)
@option(
    '--num-steps',
    group='Projection',
    type=click.IntRange(1),
    default=1000,
    help='Steps of the projection.',
)
@option(
    '--loss',
    group='Projection',
    type=click.Choice(['auto', 'lpips', 'pyramid']),
    default='auto',
    help='See project.py.',
)
@option(
    '--lpips-weights',
    group='Projection',
    type=cli.given_path,
    help="torchvision's vgg16-397923af.pth; see project.py.",
    **NOTHING,
)
@option(
    '--trunc',
    group='Output',
    type=cli.finite,
    default=1.0,
    help='Truncation psi: below 1 the toon is less extreme.',
)
@option(
    '--outdir',
    group='Output',
    required=True,
    type=cli.given_path,
    help='Folder for NAME.png, the toon; NAME-steps.png, photograph, projection and toon; and '
    'NAME.npz, for --projected-w.',
)
@option('--batch', group='Output', type=click.IntRange(1), default=4, help='Photographs at a time.')
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
    **networks: Any,
) -> None:
    check_options(photos, projected_w, networks)
    from dataset_tools.faces.targets import check_alignment, find_targets, load_targets
    from synthesis.latents import read_ws, save_ws
    from synthesis.projection import Settings
    from synthesis.projection_losses import choose_embedding
    from synthesis.sampling import class_labels
    from synthesis.toonify import (
        Portrait,
        picture_of_steps,
        project_portraits,
        saved_portraits,
        toon_network,
    )
    from torch_utils.image_io import save_picture
    from torch_utils.misc import select_device

    def warn(line: str) -> None:
        echo(line, err=True)

    place = select_device(device)
    found = find_targets(photos)
    if found:
        check_alignment(align, landmarks, say=warn)
    base, toon, info, warning = toon_network(trust_pickle=trust_pickle, **networks)
    if warning is not None:
        warn(f'warning: {warning}')
    G, G_toon = None if base is None else base.to(place), toon.to(place)
    portraits: Iterator[Portrait]
    if projected_w is not None:
        portraits = saved_portraits(projected_w.stem, *read_ws(projected_w, G_toon))
    else:
        assert G is not None
        pictures = load_targets(
            found,
            G.img_resolution,
            G.img_channels,
            align=align == 'ffhq',
            landmarks=landmarks,
            warn=warn,
        )
        _, embed = choose_embedding(loss, lpips_weights, G.img_resolution, place)
        settings = Settings(space=space, num_steps=num_steps)
        portraits = project_portraits(
            G, pictures, class_labels(G, class_idx, 1), embed, settings, batch, cli.progress
        )
    dnnlib.make_output_folder(outdir)
    count = 0
    for portrait in portraits:
        # first: it takes longest, and whatever fails later can be done again from it
        if projected_w is None:
            save_ws(outdir / f'{portrait.name}.npz', [portrait.ws], [portrait.noise])
        drawn, steps = picture_of_steps(portrait, G, G_toon, trunc)
        save_picture(
            outdir / f'{portrait.name}.png', drawn, {**info, 'photo': portrait.name, 'trunc': trunc}
        )
        save_picture(outdir / f'{portrait.name}-steps.png', steps)
        count += 1
    echo(
        f'{count} {"toon" if count == 1 else "toons"} of '
        f'{G_toon.img_resolution}×{G_toon.img_resolution} in {outdir}'
    )


def check_options(
    photos: Sequence[Path], projected_w: Path | None, networks: dict[str, Any]
) -> None:
    """Refuse options that are missing or contradict each other, before anything is read."""
    if bool(photos) == (projected_w is not None):
        raise dnnlib.UserError(
            'photographs are missing: name files or folders (or give --projected-w)'
            if not photos
            else f'--projected-w={projected_w} takes the place of photographs; leave '
            f'one of the two out'
        )
    if networks['blended'] is None:
        for name in ('network', 'toon', 'swap_resolution'):
            if networks[name] is None:
                raise dnnlib.UserError(
                    f'--{name.replace("_", "-")} is missing: toonify blends '
                    f'--network and --toon at --swap-resolution '
                    '(or give --blended)'
                )
        return
    for name in ('toon', 'swap_resolution', 'structure', 'blend_width'):
        if networks[name] is not None:
            raise dnnlib.UserError(
                f'--{name.replace("_", "-")}={networks[name]} contradicts '
                f'--blended, which is blended already'
            )
    if networks['network'] is None and projected_w is None:
        raise dnnlib.UserError(
            '--network is missing: the network that draws photographs, in which they are looked for'
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    sys.exit(main())
