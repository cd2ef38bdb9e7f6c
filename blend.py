"""Blend two snapshots: structure (low resolutions) of one, texture (high resolutions) of the other."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import dnnlib
from dnnlib import cli
from dnnlib.cli import option


@cli.command(name='blend', help=__doc__)
@option('--low', group='Input', required=True, type=cli.given_text, help='Snapshot that gives the resolutions up to --swap-resolution.')
@option('--high', group='Input', required=True, type=cli.given_text, help='Snapshot that gives the resolutions above.')
@cli.trust_option('Input')
@option('--swap-resolution', group='Blend', required=True, type=int, help='The last resolution that --low gives: 4, 8, 16 …')
@option('--mapping', group='Blend', type=click.Choice(['low', 'high']), default='low', help='Which gives the mapping network and w_avg.')
@option('--output', group='Output', required=True, type=cli.given_path,
        help='Snapshot to write (.pkl, .pt or .safetensors); an existing one is replaced at the end.')
@option('--preview', group='Output', type=cli.given_path, default=None, show_default=False,
        help='Also draw a picture: --low, the blend and --high for the same seeds, a row each.')
@option('--seeds', group='Output', default='0-5', help='Seeds of the preview.')
@option('--trunc', group='Output', type=cli.finite, default=0.7, help='Truncation psi of the preview.')
@cli.device_option('Output')
def command(low: str, high: str, swap_resolution: int, mapping: Any, output: Path, preview: Path | None, seeds: str, trunc: float,
            device: str, trust_pickle: bool) -> None:
    from synthesis.blending import blend_networks
    from torch_utils.misc import select_device
    from training.checkpoint import WRITERS, are_related, load_networks, save_networks

    target = select_device(device)
    numbers = cli.parse_seeds(seeds)
    if output.suffix not in WRITERS:
        raise dnnlib.UserError(f"--output={output}: a snapshot ends in {', '.join(WRITERS)}")
    parents = [load_networks(path, trust_pickle) for path in (low, high)]
    blended = blend_networks(parents[0], parents[1], swap_resolution, mapping)
    if not are_related(parents[0], parents[1]):
        click.echo('warning: nothing says that one of these networks was fine-tuned from the other; '
                   'a blend of strangers is noise', err=True)
    save_networks(output, blended)
    if preview is not None:
        save_preview(preview, [parents[0].G_ema, blended.G_ema, parents[1].G_ema], numbers, trunc, target)
    click.echo(f'{output}: up to {swap_resolution} px from {low}, above that from {high}, mapping from {low if mapping == "low" else high}')


def save_preview(path: Path, generators: Sequence[Any], seeds: Sequence[int], trunc: float, device: Any) -> None:
    """One row of pictures a generator."""
    import numpy as np

    from synthesis.images import class_labels, latents_from_seeds, render
    from torch_utils.pictures import save_picture, tile
    G = generators[0]
    z, c = latents_from_seeds(seeds, G.z_dim), class_labels(G, 0 if G.c_dim > 0 else None, len(seeds))
    rows = [render(network.to(device), z, c, truncation_psi=trunc).cpu().numpy() for network in generators]
    save_picture(path, tile(np.concatenate(rows), columns=len(seeds)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
