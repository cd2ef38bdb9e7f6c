"""Find the latents with which a network draws given pictures."""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from dnnlib import UserError, cli, make_output_folder
from dnnlib.cli import echo, option

W_PLUS_REG = 0.003
FRAMES, FPS = 250, 25  # of the video, at most


@cli.command(name='project', help=__doc__)
@option(
    '--target',
    'targets',
    group='Input',
    required=True,
    multiple=True,
    type=cli.given_path,
    show_default=False,
    help='A picture, or a folder of pictures; may be given several times.',
)
@cli.face_options('none')
@option(
    '--network',
    group='Input',
    required=True,
    type=cli.given_text,
    help='Snapshot: a file, a URL, or a name such as ffhq256.',
)
@option(
    '--class',
    'class_idx',
    group='Input',
    type=int,
    default=None,
    show_default=False,
    help='Class of a conditional network.',
)
@cli.trust_option('Input')
@option(
    '--space',
    group='Projection',
    type=click.Choice(['w', 'w+']),
    default='w',
    help="w: one latent for all layers, so the network's own idea of the picture. w+: one for "
    'each, which comes closer to it.',
)
@option(
    '--noise',
    group='Projection',
    type=click.Choice(['const', 'optimise', 'none']),
    default='const',
    help="const: the network's noise. optimise: noise of the picture's own, as in the paper; "
    'detail goes there rather than into w.',
)
@option(
    '--w-plus-reg',
    group='Projection',
    type=cli.finite,
    default=None,
    show_default=False,
    help='Weight that holds the latents of w+ near those that the network knows '
    f'(default: {W_PLUS_REG}; not with --space=w).',
)
@option(
    '--num-steps',
    group='Projection',
    type=click.IntRange(1),
    default=1000,
    help='Steps of the optimisation.',
)
@option(
    '--seed',
    group='Projection',
    type=click.IntRange(0, 2**32 - 1),
    default=303,
    help='Of the noise.',
)
@option(
    '--loss',
    group='Projection',
    type=click.Choice(['auto', 'lpips', 'pyramid']),
    default='auto',
    help='lpips: LPIPS and multi-scale L2. pyramid: multi-scale L2 alone, which needs no '
    'weights. auto: lpips where that can be had.',
)
@option(
    '--lpips-weights',
    group='Projection',
    type=cli.given_path,
    default=None,
    show_default=False,
    help="torchvision's vgg16-397923af.pth. Without it caches are searched and, unless it is "
    'there, 528 MB downloaded.',
)
@option(
    '--outdir',
    group='Output',
    required=True,
    type=cli.given_path,
    help='Folder for target.png, proj.png, projected_w.npz and proj.mp4; with several targets '
    'for a folder of each.',
)
@option(
    '--save-video',
    group='Output',
    type=bool,
    default=True,
    help='Write proj.mp4: target and projection side by side, step by step.',
)
@option('--batch', group='Output', type=click.IntRange(1), default=4, help='Targets at a time.')
@cli.device_option('Output')
def command(
    targets: Sequence[Path],
    align: str,
    landmarks: Path | None,
    network: str,
    class_idx: int | None,
    trust_pickle: bool,
    space: Any,
    noise: Any,
    w_plus_reg: float | None,
    num_steps: int,
    seed: int,
    loss: str,
    lpips_weights: Path | None,
    outdir: Path,
    save_video: bool,
    batch: int,
    device: str,
) -> None:
    from dataset_tools.faces.targets import check_alignment, find_targets, load_targets
    from synthesis.projection import Settings
    from synthesis.projection_losses import choose_embedding
    from synthesis.sampling import class_labels
    from torch_utils.misc import select_device
    from training.snapshots import load_networks

    if w_plus_reg is not None and space == 'w':
        raise UserError(
            f'--w-plus-reg={w_plus_reg:g}: it has no effect on --space=w; '
            'leave it out, or add --space=w+'
        )
    settings = Settings(
        space=space,
        noise=noise,
        num_steps=num_steps,
        seed=seed,
        w_plus_weight=W_PLUS_REG if w_plus_reg is None else w_plus_reg,
    )
    place = select_device(device)

    def warn(line: str) -> None:
        echo(line, err=True)

    found = find_targets(targets)
    check_alignment(align, landmarks, say=warn)
    G = load_networks(network, trust_pickle).G_ema.to(place)
    label = class_labels(G, class_idx, 1)
    pictures = load_targets(
        found,
        G.img_resolution,
        G.img_channels,
        align=align == 'ffhq',
        landmarks=landmarks,
        warn=warn,
    )
    name, embed = choose_embedding(loss, lpips_weights, G.img_resolution, place)
    folders = [outdir / name for name in pictures] if len(found) > 1 else [outdir]
    make_output_folder(outdir)
    for folder in folders:
        make_output_folder(folder)
    for start in range(0, len(pictures), batch):
        chosen = slice(start, start + batch)
        project_batch(
            G,
            label,
            np.stack(list(pictures.values())[chosen]),
            folders[chosen],
            embed,
            settings,
            save_video,
        )
    echo(
        f'{len(pictures)} {"picture" if len(pictures) == 1 else "pictures"} projected to {space} '
        f'by {name}, noise {noise}: {outdir}'
    )


def project_batch(
    G: Any,
    label: Any,
    pictures: np.ndarray,
    folders: Sequence[Path],
    embed: Any,
    settings: Any,
    save_video: bool,
) -> None:
    """Project pictures, uint8 `[N, H, W, C]`, and write each one's files into its folder."""
    import torch

    from synthesis.latents import save_ws
    from synthesis.projection import project, render_projection
    from synthesis.video import VideoWriter
    from torch_utils.image_io import save_picture

    size = pictures.shape[2] * 2, pictures.shape[1]
    every = -(-settings.num_steps // FRAMES)
    with contextlib.ExitStack() as stack:
        videos = [
            stack.enter_context(VideoWriter(folder / 'proj.mp4', size, FPS))
            for folder in folders
            if save_video
        ]
        bar = stack.enter_context(
            cli.progress(list[int](), total=settings.num_steps, desc='Projecting', unit='step')
        )
        for state in project(
            G, torch.from_numpy(pictures).permute(0, 3, 1, 2), embed, settings, label, every
        ):
            bar.set_postfix(distance=f'{state.distance.mean():.4f}', refresh=False)
            bar.update(state.step - bar.n)
            drawn = [
                render_projection(G, ws, noise).permute(1, 2, 0).cpu().numpy()
                for ws, noise in zip(state.ws, state.noises)
                if save_video or state.step == settings.num_steps
            ]
            for video, target, picture in zip(videos, pictures, drawn):
                video.add(np.concatenate([target, picture], axis=1))
        # before the videos' end, which may fail
        for folder, ws, noise in zip(folders, state.ws.cpu(), state.noises):
            save_ws(
                folder / 'projected_w.npz',
                [ws],
                [{layer: values.cpu() for layer, values in noise.items()}],
            )
    for folder, target, picture in zip(folders, pictures, drawn):
        save_picture(folder / 'target.png', target)
        save_picture(folder / 'proj.png', picture)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    sys.exit(main())
