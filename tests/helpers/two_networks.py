"""Two small random networks of one shape, and snapshots of them: what the tests of blends blend."""

from pathlib import Path
from typing import Any

import torch

import blend
from torch_utils.misc import named_tensors
from training.networks import Discriminator, Generator
from training.snapshots import Networks, save_networks


def generator(
    log2: int, architecture: str, c_dim: int, layers: int, seed: int, **others: Any
) -> Generator:
    torch.manual_seed(seed)
    G = Generator(
        8,
        c_dim,
        8,
        2**log2,
        3,
        mapping_kwargs=dict(num_layers=layers),
        architecture=architecture,
        channel_base=64,
        channel_max=8,
        **others,
    )
    with torch.no_grad():
        for _, tensor in named_tensors(G):
            # filters, noise and w_avg too: every tensor must tell its parent
            tensor.copy_(torch.randn_like(tensor))
    return G.eval()


def pair(
    log2: int = 4, architecture: str = 'skip', c_dim: int = 0, layers: int = 2
) -> tuple[Generator, Generator]:
    low, high = (generator(log2, architecture, c_dim, layers, seed) for seed in (0, 1))
    return low, high


def networks(seed: int) -> Networks:
    torch.manual_seed(100 + seed)
    D = Discriminator(0, 16, 3, channel_base=64, channel_max=8)
    return Networks(
        generator(4, 'skip', 0, 2, seed), D, generator(4, 'skip', 0, 2, seed + 10), None
    )


def snapshots(tmp_path: Path) -> tuple[Path, Path]:
    for name, seed in [('low', 0), ('high', 1)]:
        save_networks(tmp_path / f'{name}.pkl', networks(seed))
    return tmp_path / 'low.pkl', tmp_path / 'high.pkl'


def run(low: Path | str, high: Path | str, *options: str | Path) -> int:
    return blend.main(['--low', str(low), '--high', str(high), '--device=cpu', *map(str, options)])
