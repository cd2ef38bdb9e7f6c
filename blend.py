"""Blend two snapshots: structure (low resolutions) of one, texture (high resolutions) of the other."""

import dnnlib  # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dnnlib import cli
from dnnlib.cli import echo, option


@cli.command(name='blend', help=__doc__)
@option(
    '--low',
    group='Input',
    required=True,
    type=cli.given_text,
    help='Snapshot that gives the resolutions up to --swap-resolution.',
)
@option(
    '--high',
    group='Input',
    required=True,
    type=cli.given_text,
    help='Snapshot that gives the resolutions above.',
)
@cli.trust_option('Input')
@option(
    '--swap-resolution',
    group='Blend',
    type=int,
    default=None,
    show_default=False,
    help='The last resolution that --low gives: 4, 8, 16 …',
)
@option(
    '--swap-level',
    group='Blend',
    type=click.IntRange(0, 1),
    default=None,
    show_default=False,
    help='Where in --swap-resolution: 0 at its up-convolution (unless given), 1 at its second '
    'convolution. A smooth swap is half done '
    'there. A hard one leaves the half-block after it to --low as well: 1 adds the '
    'up-convolution of the next resolution.',
)
@option(
    '--blend-width',
    group='Blend',
    type=cli.finite,
    default=None,
    show_default=False,
    help='Smooth swap: the share of --high is 1/(1+exp(-distance/width)), in half-blocks. '
    'Unless given, the swap is hard.',
)
@option(
    '--weights',
    group='Blend',
    type=cli.given_text,
    default=None,
    show_default=False,
    help='Instead of a swap, the share of --high (0…1) in each resolution: 4:0,8:0.2,16:1 …',
)
@option(
    '--mapping',
    group='Blend',
    type=cli.given_text,
    default=None,
    show_default=False,
    metavar='low|high|SHARE',
    help='Which gives the mapping network and w_avg: low (unless given), high, or a share of '
    '--high, 0…1.',
)
@option(
    '--rule',
    group='Blend',
    type=click.Choice(['pinkney', 'dvschultz', 'vtoonify']),
    default=None,
    show_default=False,
    help='What another project does. pinkney: a hard or smooth swap, dvschultz: a hard one; in '
    'both, mapping, w_avg and noise stay '
    'those of --low. vtoonify: --low is the fine-tuned network, for 4-32 px; --high its '
    'base, for the rest and the mapping.',
)
@option(
    '--output',
    group='Output',
    type=cli.given_path,
    default=None,
    show_default=False,
    help='Snapshot to write (.pkl, .pt or .safetensors); an existing one is replaced at the end.',
)
@option(
    '--preview',
    group='Output',
    type=cli.given_path,
    default=None,
    show_default=False,
    help='Also draw a picture: --low, the blend and --high for the same seeds, a row each.',
)
@option(
    '--grid',
    group='Output',
    type=cli.given_path,
    default=None,
    show_default=False,
    help='Draw a labelled picture: --low, the swap at every resolution, --high. Needs no '
    '--swap-resolution and no --output.',
)
@option('--seeds', group='Output', default='0-5', help='Seeds of the pictures.')
@option(
    '--trunc', group='Output', type=cli.finite, default=0.7, help='Truncation psi of the pictures.'
)
@option(
    '--class',
    'class_idx',
    group='Output',
    type=int,
    default=None,
    show_default=False,
    help='Class of the pictures, for conditional networks; 0 unless given.',
)
@cli.device_option('Output')
def command(
    low: str,
    high: str,
    trust_pickle: bool,
    swap_resolution: int | None,
    weights: str | None,
    mapping: str | None,
    output: Path | None,
    preview: Path | None,
    grid: Path | None,
    seeds: str,
    trunc: float,
    class_idx: int | None,
    device: str,
    **settings: Any,
) -> None:
    from synthesis import blend_figures
    from synthesis.blending import (
        BlendPlan,
        blend_networks,
        lineage_warning,
        parse_mapping,
        parse_weights,
    )
    from torch_utils.image_io import save_picture
    from torch_utils.misc import select_device
    from training.snapshots import load_networks, save_networks

    check_outputs(output, preview, grid, class_idx)
    for option_name, path in (('--output', output), ('--preview', preview), ('--grid', grid)):
        if path is not None:
            dnnlib.require_other_file(option_name, path, low, high)
    settings['mapping'] = None if mapping is None else parse_mapping(mapping)
    plan = every = None
    if grid is not None:
        if weights is not None or settings['rule'] == 'vtoonify':
            other = '--rule=vtoonify' if weights is None else '--weights'
            raise dnnlib.UserError(
                f'--grid draws the swap at every resolution, and {other} has '
                f'none; draw that with --preview'
            )
        if swap_resolution is not None and output is None and preview is None:
            raise dnnlib.UserError(
                f'--swap-resolution={swap_resolution}: --grid alone draws all '
                f'resolutions; leave it out or add --output'
            )
        every = BlendPlan(swap_resolution=4, **settings)
    if output is not None or preview is not None:
        plan = BlendPlan(
            swap_resolution=swap_resolution,
            weights=None if weights is None else parse_weights(weights),
            **settings,
        )
    row = blend_figures.Row(cli.parse_seeds(seeds), trunc, class_idx, select_device(device))

    parents = [load_networks(path, trust_pickle=trust_pickle) for path in (low, high)]
    G_low, G_high = (networks.G_ema for networks in parents)
    if preview is not None or grid is not None:
        row.require(G_low)
    blended = None if plan is None else blend_networks(parents[0], parents[1], plan)
    warning = lineage_warning(parents[0], parents[1], plan or every)
    if warning is not None:
        echo(f'warning: {warning}', err=True)
    if plan is not None and blended is not None and output is not None:
        save_networks(output, blended)
        echo(
            f'{output}: {low}, with these shares of {high}: '
            f'{plan.describe(G_low.synthesis.block_resolutions)}'
        )
    if blended is not None and preview is not None:
        save_picture(preview, blend_figures.preview(G_low, blended.G_ema, G_high, row))
    if every is not None and grid is not None:
        save_picture(grid, blend_figures.swap_table(parents[0], parents[1], every, row))
    for path in (preview, grid):
        if path is not None:
            echo(f'{path}: {len(row.seeds)} seeds')


def check_outputs(
    output: Path | None, preview: Path | None, grid: Path | None, class_idx: int | None
) -> None:
    """Refuse names that can't be written, and too few of them, before anything is read."""
    from torch_utils.image_io import require_picture_suffix
    from training.snapshots import WRITERS

    if output is None and preview is None and grid is None:
        raise dnnlib.UserError(
            '--output is missing: the snapshot to write (or --preview or '
            '--grid, for pictures alone)'
        )
    if output is not None and output.suffix not in WRITERS:
        raise dnnlib.UserError(f'--output={output}: a snapshot ends in {", ".join(WRITERS)}')
    pictures = [path for path in (preview, grid) if path is not None]
    for path in pictures:
        require_picture_suffix(path)
    if class_idx is not None and not pictures:
        raise dnnlib.UserError(
            f'--class={class_idx}: no picture is drawn; leave it out, or add --preview or --grid'
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory='pictures of fewer --seeds need less')


if __name__ == '__main__':
    sys.exit(main())
