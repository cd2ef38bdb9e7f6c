"""Pictures that show what blends come to: a preview of one, and the table of the swaps at every
resolution.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from dnnlib import UserError, cli, printable
from torch_utils.image_io import LEGIBLE, labelled_table, tile
from training.networks import Generator
from training.snapshots import Networks

from .blending import BlendPlan, blend_generators
from .sampling import class_labels, latents_from_seeds, render

BATCH = 16  # pictures drawn at a time
MAX_PIXELS = 1 << 28  # of a table; 0.8 GB in memory


@dataclasses.dataclass(frozen=True)
class Row:
    """What is drawn from every generator alike.

    Attributes:
        seeds: 0…2³²−1, a picture each.
        truncation_psi: 1 for none.
        class_idx: class of conditional networks, 0 unless given; must be None for others.
        device: where to compute.
    """

    seeds: list[int]
    truncation_psi: float
    class_idx: int | None
    device: torch.device

    def require(self, G: Generator) -> None:
        """Refuse what these networks cannot draw, or not in a reasonable picture.

        Raises:
            UserError: a class that they don't have, too many seeds.
        """
        self._label(G)
        rows = len(G.synthesis.block_resolutions) + 1
        size = max(G.img_resolution, LEGIBLE)
        if len(self.seeds) * rows * size**2 > MAX_PIXELS:
            most = max(1, MAX_PIXELS // (rows * size**2))
            raise UserError(
                f'--seeds: {len(self.seeds):,} pictures of {G.img_resolution} px in a '
                f'row are too many for one picture; '
                f'choose {most:,} at most'
            )

    def draw(self, G: Generator) -> np.ndarray:
        """uint8 `[len(seeds), C, H, W]`."""
        G, z, label = G.to(self.device), latents_from_seeds(self.seeds, G.z_dim), self._label(G)
        parts = [
            render(G, part, label.repeat(len(part), 1), truncation_psi=self.truncation_psi).cpu()
            for part in z.split(BATCH)
        ]
        return torch.cat(parts).numpy()

    def _label(self, G: Generator) -> torch.Tensor:
        return class_labels(G, 0 if self.class_idx is None and G.c_dim > 0 else self.class_idx, 1)


def preview(low: Generator, blended: Generator, high: Generator, row: Row) -> np.ndarray:
    """A row of pictures for --low, the blend and --high: uint8 `[H, W, C]`."""
    return tile(np.concatenate([row.draw(G) for G in (low, blended, high)]), columns=len(row.seeds))


def swap_table(low: Networks, high: Networks, plan: BlendPlan, row: Row) -> np.ndarray:
    """A labelled table: --low, the swap at every resolution, --high; a column a seed. Swaps that
    take nothing from --high are left out: they are --low.

    Args:
        plan: how to swap; its `swap_resolution` stands for each.

    Returns:
        uint8 `[H, W, 3]`.
    """
    resolutions = low.G_ema.synthesis.block_resolutions
    plans = {
        f'swap at {res}': dataclasses.replace(plan, swap_resolution=res) for res in resolutions
    }
    rows = {'low': row.draw(low.G_ema)}
    for label, each in cli.progress(plans.items(), desc='Drawing', unit='row'):
        if each.takes_any(resolutions):
            rows[label] = row.draw(blend_generators(low.G_ema, high.G_ema, each))
    rows['high'] = row.draw(high.G_ema)
    names = [f'{name}: {_short(networks)}' for name, networks in [('low', low), ('high', high)]]
    return labelled_table(
        rows, [f'seed {seed}' for seed in row.seeds], [*names, _settings(plan, row)]
    )


def _settings(plan: BlendPlan, row: Row) -> str:
    share = plan.mapping_share
    parts = [
        'hard swap' if plan.blend_width is None else f'smooth swap, width {plan.blend_width:g}',
        '' if plan.swap_level is None else f'level {plan.swap_level}',
        f'rule {plan.rule}'
        if plan.rule is not None
        else 'mapping from low'
        if share == 0
        else f'mapping {share:.0%} from high',
        f'truncation psi {row.truncation_psi:g}',
        '' if row.class_idx is None else f'class {row.class_idx}',
    ]
    return ', '.join(part for part in parts if part)


def _short(networks: Networks) -> str:
    """The file and its folder, which is the run's; the end of it where it is long."""
    text = printable('/'.join(Path(str(networks.meta.get('path'))).parts[-2:]), 1000)
    return text if len(text) <= 80 else '…' + text[-79:]
