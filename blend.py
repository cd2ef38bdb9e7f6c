"""Blend two snapshots: structure (low resolutions) of one, texture (high resolutions) of the
other.
"""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from dnnlib import cli
from dnnlib.cli import echo, option

inputs = partial(option, group='Input')
blend = partial(option, group='Blend')
outputs = partial(option, group='Output')


@cli.command(name='blend', help=__doc__)
@inputs(
    '--low',
    required=True,
    type=cli.given_text,
    help='Snapshot that gives the resolutions up to --swap-resolution.',
)
@inputs(
    '--high', required=True, type=cli.given_text, help='Snapshot that gives the resolutions above.'
)
@cli.trust_option('Input')
@blend('--swap-resolution', type=int, help='The last resolution that --low gives: 4, 8, 16 …')
@blend(
    '--swap-level',
    type=click.IntRange(0, 1),
    help='Where in --swap-resolution: 0 at its up-convolution (unless given), 1 at its second '
    'convolution. A smooth swap is half done '
    'there. A hard one leaves the half-block after it to --low as well: 1 adds the '
    'up-convolution of the next resolution.',
)
@blend(
    '--blend-width',
    type=cli.finite,
    help='Smooth swap: the share of --high is 1/(1+exp(-distance/width)), in half-blocks. '
    'Unless given, the swap is hard.',
)
@blend(
    '--weights',
    type=cli.given_text,
    help='Instead of a swap, the share of --high (0…1) in each resolution: 4:0,8:0.2,16:1 …',
)
@blend(
    '--mapping',
    type=cli.given_text,
    metavar='low|high|SHARE',
    help='Which gives the mapping network and w_avg: low (unless given), high, or a share of '
    '--high, 0…1.',
)
@blend(
    '--rule',
    type=click.Choice(['pinkney', 'dvschultz', 'vtoonify']),
    help='What another project does. pinkney: a hard or smooth swap, dvschultz: a hard one; in '
    'both, mapping, w_avg and noise stay '
    'those of --low. vtoonify: --low is the fine-tuned network, for 4-32 px; --high its '
    'base, for the rest and the mapping.',
)
@outputs(
    '--output',
    type=cli.given_path,
    help='Snapshot to write (.pkl, .pt or .safetensors); an existing one is replaced at the end.',
)
@outputs(
    '--preview',
    type=cli.given_path,
    help='Also draw a picture: --low, the blend and --high for the same seeds, a row each.',
)
@outputs(
    '--grid',
    type=cli.given_path,
    help='Draw a labelled picture: --low, the swap at every resolution, --high. Needs no '
    '--swap-resolution and no --output.',
)
@outputs('--seeds', default='0-5', help='Seeds of the pictures.')
@outputs('--trunc', type=cli.finite, default=0.7, help='Truncation psi of the pictures.')
@outputs(
    '--class',
    'class_idx',
    type=int,
    help='Class of the pictures, for conditional networks; 0 unless given.',
)
@cli.device_option('Output')
def command(
    low: str,
    high: str,
    trust_pickle: bool,
    output: Path | None,
    preview: Path | None,
    grid: Path | None,
    seeds: str,
    trunc: float,
    class_idx: int | None,
    device: str,
    **settings: Any,
) -> None:
    from synthesis.blend_figures import BlendFiles, RenderSpec, choose_plans, write_blend
    from torch_utils.misc import select_device
    from training.snapshots import load_networks

    files = BlendFiles(low, high, output, preview, grid)
    files.check(class_idx)
    plans = choose_plans(files, **settings)
    spec = RenderSpec(cli.parse_seeds(seeds), trunc, class_idx, select_device(device))
    low_nets, high_nets = (load_networks(path, trust_pickle=trust_pickle) for path in (low, high))
    warn = partial(echo, err=True)
    for line in write_blend(low_nets, high_nets, files, plans, spec, warn):
        echo(line)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv, saves_memory='pictures of fewer --seeds need less')


if __name__ == '__main__':
    sys.exit(main())
