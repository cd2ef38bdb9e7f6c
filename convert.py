"""Convert networks between formats: NVIDIA's .pkl, rosinality's .pt, .safetensors; TensorFlow's
.pkl is read.
"""

import dnnlib  # isort: skip (first: Ctrl-C during the other imports is one line, too)
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
@cli.trust_option()
@option('--list', 'list_only', is_flag=True, help='Print what --source holds.')
def command(source: str, dest: Path | None, list_only: bool, trust_pickle: bool) -> None:
    from training.snapshots import (
        WRITERS,
        compare_networks,
        describe_networks,
        load_networks,
        save_networks,
    )

    if list_only == (dest is not None):
        raise dnnlib.UserError('give either --dest or --list')
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
    save_networks(dest, networks)
    echo(f'{dest}')
    for name, text in compare_networks(networks, load_networks(dest)).items():
        echo(f'  {name:13} {text}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
