"""Find the latents with which a network draws given pictures."""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from dnnlib import UserError, cli, make_output_folder, require_outputs_beside_inputs
from dnnlib.cli import echo, option

W_PLUS_REG = 0.003


inputs = partial(option, group='Input')
projection = partial(option, group='Projection')
output = partial(option, group='Output')


@cli.command(name='project', help=__doc__)
@inputs(
    '--target',
    'targets',
    required=True,
    multiple=True,
    type=cli.given_path,
    show_default=False,
    help='A picture, or a folder of pictures; may be given several times.',
)
@cli.face_options('none')
@inputs(
    '--network',
    required=True,
    type=cli.given_text,
    help='Snapshot: a file, a URL, or a name such as faces64 or ffhq256.',
)
@inputs('--class', 'class_idx', type=int, help='Class of a conditional network.')
@cli.trust_option('Input')
@projection(
    '--space',
    type=click.Choice(['w', 'w+']),
    default='w',
    help="w: one latent for all layers, so the network's own idea of the picture. w+: one for "
    'each, which comes closer to it.',
)
@projection(
    '--noise',
    type=click.Choice(['const', 'optimise', 'none']),
    default='const',
    help="const: the network's noise. optimise: noise of the picture's own, as in the paper; "
    'detail goes there rather than into w.',
)
@projection(
    '--w-plus-reg',
    type=cli.finite,
    help='Weight that holds the latents of w+ near those that the network knows '
    f'(default: {W_PLUS_REG}; not with --space=w).',
)
@projection('--num-steps', type=click.IntRange(1), default=1000, help='Steps of the optimisation.')
@projection('--seed', type=click.IntRange(0, 2**32 - 1), default=303, help='Of the noise.')
@projection(
    '--loss',
    type=click.Choice(['auto', 'lpips', 'pyramid']),
    default='auto',
    help='lpips: LPIPS and multi-scale L2. pyramid: multi-scale L2 alone, which needs no '
    'weights. auto: lpips where that can be had.',
)
@projection(
    '--lpips-weights',
    type=cli.given_path,
    help="torchvision's vgg16-397923af.pth. Without it caches are searched and, unless it is "
    'there, 528 MB downloaded.',
)
@output(
    '--outdir',
    required=True,
    type=cli.given_path,
    help='Folder for target.png, proj.png, projected_w.npz and proj.mp4; with several targets '
    'for a folder of each.',
)
@output(
    '--save-video',
    type=bool,
    default=True,
    help='Write proj.mp4: target and projection side by side, step by step.',
)
@output('--batch', type=click.IntRange(1), default=4, help='Targets at a time.')
@cli.device_option('Output')
def command(
    targets: Sequence[Path],
    align: str,
    landmarks: Path | None,
    network: str,
    class_idx: int | None,
    trust_pickle: bool,
    w_plus_reg: float | None,
    loss: str,
    lpips_weights: Path | None,
    outdir: Path,
    save_video: bool,
    batch: int,
    device: str,
    **options: Any,
) -> None:
    from dataset_tools.faces.targets import check_alignment, find_targets, load_targets
    from synthesis.projection import FILES, Settings, write_projections
    from synthesis.projection_losses import choose_embedding
    from synthesis.sampling import class_labels
    from torch_utils.misc import select_device
    from training.snapshots import load_networks

    if w_plus_reg is not None and options['space'] == 'w':
        raise UserError(
            f'--w-plus-reg={w_plus_reg:g}: it has no effect on --space=w; '
            'leave it out, or add --space=w+'
        )
    weight = W_PLUS_REG if w_plus_reg is None else w_plus_reg
    settings = Settings(w_plus_weight=weight, **options)
    place = select_device(device)
    warn = partial(echo, err=True)
    found = find_targets(targets)
    folders = {target: outdir / target if len(found) > 1 else outdir for target in found}
    outputs = (folder / name for folder in folders.values() for name in FILES)
    require_outputs_beside_inputs(outputs, found.values())
    check_alignment(align, landmarks, say=warn)
    G = load_networks(network, trust_pickle=trust_pickle).G_ema.to(place)
    label = class_labels(G, class_idx, 1)
    size = G.img_resolution, G.img_channels
    pictures = load_targets(found, *size, align=align == 'ffhq', landmarks=landmarks, warn=warn)
    name, embed = choose_embedding(loss, lpips_weights, G.img_resolution, place)
    make_output_folder(outdir)
    by_folder = {folders[target]: picture for target, picture in pictures.items()}
    write_projections(G, by_folder, label, embed, settings, batch=batch, save_video=save_video)
    echo(
        f'{len(pictures)} {"picture" if len(pictures) == 1 else "pictures"} projected to '
        f'{settings.space} by {name}, noise {settings.noise}: {outdir}'
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    sys.exit(main())
