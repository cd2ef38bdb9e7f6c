"""Draw pictures with a trained network."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import dnnlib
from dnnlib import cli
from dnnlib.cli import option


@cli.command(name='generate', help=__doc__)
@option('--network', group='Input', required=True, type=cli.given_text, help='Snapshot: a file, a URL, or a name such as ffhq256.')
@cli.trust_option('Input')
@option('--seeds', group='Pictures', default='0-35', help='Seeds: 0-35 or 1,5,8-10.')
@option('--trunc', group='Pictures', type=cli.finite, default=1.0, help='Truncation psi: 1 for variety, less for quality.')
@option('--class', 'class_idx', group='Pictures', type=int, default=None, show_default=False, help='Class of a conditional network.')
@option('--noise-mode', group='Pictures', type=click.Choice(['const', 'random', 'none']), default='const', help='Noise inputs.')
@option('--outdir', group='Output', required=True, type=cli.given_path, help='Folder for seed0000.png …')
@option('--grid', group='Output', default=None, show_default=False, help='Also tile the first pictures into grid.png, columns x rows: 6x6.')
@option('--batch', group='Output', type=click.IntRange(1), default=16, help='Pictures at a time.')
@cli.device_option('Output')
def command(network: str, trust_pickle: bool, seeds: str, trunc: float, class_idx: int | None, noise_mode: str, outdir: Path,
            grid: str | None, batch: int, device: str) -> None:
    import numpy as np
    import torch

    from synthesis.images import class_labels, latents_from_seeds, render
    from torch_utils.misc import select_device
    from torch_utils.pictures import save_picture, tile
    from training.checkpoint import load_networks

    numbers = cli.parse_seeds(seeds)
    columns, rows = parse_grid(grid) if grid is not None else (0, 0)
    columns = min(columns, len(numbers))
    target = select_device(device)
    G = load_networks(network, trust_pickle).G_ema.to(target)
    label = class_labels(G, class_idx, 1)
    first: list[np.ndarray] = []
    for start in cli.progress(range(0, len(numbers), batch), desc='Drawing', unit='batch'):
        chosen = numbers[start:start + batch]
        torch.manual_seed(chosen[0])  # so that --noise-mode=random gives the same pictures again
        images = render(G, latents_from_seeds(chosen, G.z_dim), label.repeat(len(chosen), 1), truncation_psi=trunc, noise_mode=noise_mode)
        for seed, image in zip(chosen, images.cpu().numpy()):
            save_picture(outdir / f'seed{seed:04d}.png', image.transpose(1, 2, 0))
            if len(first) < columns * rows:
                first.append(image)
    if first:
        save_picture(outdir / 'grid.png', tile(np.stack(first), columns))
    click.echo(f'{len(numbers)} pictures of {G.img_resolution}×{G.img_resolution} in {outdir}')


def parse_grid(text: str) -> tuple[int, int]:
    """`6x4` to columns and rows."""
    match = re.fullmatch(r'([1-9]\d{0,3})[x×]([1-9]\d{0,3})', text)
    if match is None:
        raise dnnlib.UserError(f'--grid={text}: columns x rows, such as 6x6')
    return int(match[1]), int(match[2])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
