"""Convert networks between formats: NVIDIA's .pkl, rosinality's .pt, .safetensors; TensorFlow's
.pkl is read.
"""

import dnnlib  # isort: skip (first: Ctrl-C during the other imports is one line, too)
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from dnnlib import cli
from dnnlib.cli import echo, option


@cli.command(name='convert', help=__doc__)
@option(
    '--source',
    required=True,
    type=cli.given_text,
    help='File, URL or name of networks; the format is told by its content.',
)
@option(
    '--dest',
    type=cli.given_path,
    default=None,
    show_default=False,
    help='File to write: .pkl (NVIDIA), .pt (rosinality) or .safetensors.',
)
@option(
    '--resolution',
    type=int,
    default=None,
    show_default=False,
    help='Carry the networks to another resolution, as the start of a new run: they begin with the '
    'old pictures, enlarged or reduced.',
)
@option('--ema-only', is_flag=True, help='Keep G_ema alone, which is all that drawing needs.')
@option('--half', is_flag=True, help='Store float16, half the size. Only .safetensors can.')
@cli.trust_option()
@option('--list', 'list_only', is_flag=True, help='Print what --source holds.')
def command(
    source: str,
    dest: Path | None,
    resolution: int | None,
    ema_only: bool,
    half: bool,
    list_only: bool,
    trust_pickle: bool,
) -> None:
    from training.growing import change_resolution
    from training.snapshots import (
        WRITERS,
        compare_networks,
        describe_networks,
        in_half,
        load_networks,
        save_networks,
    )

    if list_only == (dest is not None):
        raise dnnlib.UserError('give either --dest or --list')
    for name, given in [
        (f'--resolution={resolution}', resolution is not None),
        ('--ema-only', ema_only),
        ('--half', half),
    ]:
        if given and dest is None:
            raise dnnlib.UserError(f'{name}: give --dest, the file to write')
    if half and dest is not None and dest.suffix != '.safetensors':
        raise dnnlib.UserError(f'--half: --dest={dest} must end in .safetensors')
    if dest is not None and dest.suffix not in WRITERS:
        raise dnnlib.UserError(f'--dest={dest}: networks are saved as {", ".join(WRITERS)}')
    if dest is not None:
        dnnlib.require_other_file('--dest', dest, source)
    networks = load_networks(source, trust_pickle=trust_pickle)
    echo(f'{source}')
    for name, text in describe_networks(networks).items():
        echo(f'  {name:13} {text}')
    if dest is None:
        return
    if resolution is not None:
        networks = change_resolution(networks, resolution)
    if ema_only:
        networks = dataclasses.replace(networks, G=None, D=None, augment_pipe=None)
    save_networks(dest, in_half(networks) if half else networks)
    echo(f'{dest}')
    saved = load_networks(dest)
    if half:
        echo('  rounded to float16')
        networks = saved
    for name, text in compare_networks(networks, saved).items():
        echo(f'  {name:13} {text}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
