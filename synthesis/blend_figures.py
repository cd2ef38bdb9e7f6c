"""Files of `blend.py`: the blended snapshot, a preview, a table of swaps at every resolution."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib import UserError, cli, printable, require_other_file
from torch_utils.image_io import (
    LEGIBLE,
    labelled_table,
    require_picture_suffix,
    save_picture,
    tile,
)
from training.networks import Generator
from training.snapshots import WRITERS, Networks, save_networks

from .blending import (
    BlendPlan,
    blend_generators,
    blend_networks,
    lineage_warning,
    parse_mapping,
    parse_weights,
)
from .sampling import class_labels, latents_from_seeds, render

BATCH = 16  # pictures drawn at a time
MAX_PIXELS = 1 << 28  # of a table; 0.8 GB in memory


@dataclasses.dataclass(frozen=True)
class BlendFiles:
    """Paths that `blend.py` reads and writes.

    Attributes:
        low, high: snapshots to read: files, URLs or names.
        output: the snapshot to write, or None.
        preview, grid: pictures to write, or None.
    """

    low: str
    high: str
    output: Path | None
    preview: Path | None
    grid: Path | None

    def check(self, class_idx: int | None) -> None:
        """Refuse names that can't be written, and too few of them, before anything is read.

        Args:
            class_idx: as given; only pictures have a class.

        Raises:
            UserError: nothing to write, an unknown suffix, an input that would be overwritten, or a
                class without a picture.
        """
        outputs = {'--output': self.output, '--preview': self.preview, '--grid': self.grid}
        given = {option: path for option, path in outputs.items() if path is not None}
        if not given:
            raise UserError(
                '--output is missing: the snapshot to write (or --preview or '
                '--grid, for pictures alone)'
            )
        if self.output is not None and self.output.suffix not in WRITERS:
            raise UserError(f'--output={self.output}: a snapshot ends in {", ".join(WRITERS)}')
        pictures = [path for option, path in given.items() if option != '--output']
        for path in pictures:
            require_picture_suffix(path)
        if class_idx is not None and not pictures:
            raise UserError(
                f'--class={class_idx}: no picture is drawn; leave it out, or add --preview or '
                f'--grid'
            )
        for option, path in given.items():
            require_other_file(option, path, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class RenderSpec:
    """What to draw with each generator of a preview or table.

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
        """Draw the seeds with a generator: uint8 `[len(seeds), C, H, W]`."""
        G, z, label = G.to(self.device), latents_from_seeds(self.seeds, G.z_dim), self._label(G)
        parts = [
            render(G, part, label.repeat(len(part), 1), truncation_psi=self.truncation_psi).cpu()
            for part in z.split(BATCH)
        ]
        return torch.cat(parts).numpy()

    def _label(self, G: Generator) -> torch.Tensor:
        return class_labels(G, 0 if self.class_idx is None and G.c_dim > 0 else self.class_idx, 1)


def choose_plans(
    files: BlendFiles,
    *,
    swap_resolution: int | None,
    weights: str | None,
    mapping: str | None,
    **settings: Any,
) -> tuple[BlendPlan | None, BlendPlan | None]:
    """Make the plans of the blend and of the table of swaps; None for what is not written.

    Args:
        swap_resolution, weights, mapping: the options of these names.
        settings: the other attributes of `BlendPlan`.

    Raises:
        UserError: options that contradict each other or can't be read.
    """
    settings['mapping'] = None if mapping is None else parse_mapping(mapping)
    table_plan = None
    if files.grid is not None:
        if weights is not None or settings['rule'] == 'vtoonify':
            other = '--rule=vtoonify' if weights is None else '--weights'
            raise UserError(
                f'--grid draws the swap at every resolution, and {other} has '
                f'none; draw that with --preview'
            )
        if swap_resolution is not None and files.output is None and files.preview is None:
            raise UserError(
                f'--swap-resolution={swap_resolution}: --grid alone draws all '
                f'resolutions; leave it out or add --output'
            )
        table_plan = BlendPlan(swap_resolution=4, **settings)
    if files.output is None and files.preview is None:
        return None, table_plan
    shares = None if weights is None else parse_weights(weights)
    return BlendPlan(swap_resolution=swap_resolution, weights=shares, **settings), table_plan


def write_blend(
    low: Networks,
    high: Networks,
    files: BlendFiles,
    plans: tuple[BlendPlan | None, BlendPlan | None],
    spec: RenderSpec,
    warn: Callable[[str], None],
) -> Iterator[str]:
    """Blend, and write each of the files.

    Args:
        plans: see `choose_plans`.
        spec: of the pictures.
        warn: takes one line where the networks don't seem to be relatives.

    Yields:
        A line for each file.

    Raises:
        UserError: the networks don't fit each other, the plans or the pictures.
    """
    plan, table_plan = plans
    if files.preview is not None or files.grid is not None:
        spec.require(low.G_ema)
    blended = None if plan is None else blend_networks(low, high, plan)
    warning = lineage_warning(low, high, plan or table_plan)
    if warning is not None:
        warn(f'warning: {warning}')
    if plan is not None and blended is not None and files.output is not None:
        save_networks(files.output, blended)
        shares = plan.describe(low.G_ema.synthesis.block_resolutions)
        yield f'{files.output}: {files.low}, with these shares of {files.high}: {shares}'
    if blended is not None and files.preview is not None:
        save_picture(files.preview, preview(low.G_ema, blended.G_ema, high.G_ema, spec))
        yield f'{files.preview}: {len(spec.seeds)} seeds'
    if table_plan is not None and files.grid is not None:
        save_picture(files.grid, swap_table(low, high, table_plan, spec))
        yield f'{files.grid}: {len(spec.seeds)} seeds'


def preview(low: Generator, blended: Generator, high: Generator, spec: RenderSpec) -> np.ndarray:
    """Draw a row of pictures for each of --low, the blend and --high: uint8 `[H, W, C]`."""
    return tile(
        np.concatenate([spec.draw(G) for G in (low, blended, high)]), columns=len(spec.seeds)
    )


def swap_table(low: Networks, high: Networks, plan: BlendPlan, spec: RenderSpec) -> np.ndarray:
    """Draw a labelled table: --low, the swap at every resolution, --high; a column a seed. Swaps
    that take nothing from --high are left out: they are --low.

    Args:
        plan: how to swap; its `swap_resolution` stands for each.

    Returns:
        uint8 `[H, W, 3]`.
    """
    resolutions = low.G_ema.synthesis.block_resolutions
    plans = {
        f'swap at {res}': dataclasses.replace(plan, swap_resolution=res) for res in resolutions
    }
    rows = {'low': spec.draw(low.G_ema)}
    for label, each in cli.progress(plans.items(), desc='Drawing', unit='row'):
        if each.takes_any(resolutions):
            rows[label] = spec.draw(blend_generators(low.G_ema, high.G_ema, each))
    rows['high'] = spec.draw(high.G_ema)
    names = [f'{name}: {_short(networks)}' for name, networks in [('low', low), ('high', high)]]
    return labelled_table(
        rows, [f'seed {seed}' for seed in spec.seeds], [*names, _settings(plan, spec)]
    )


def _settings(plan: BlendPlan, spec: RenderSpec) -> str:
    share = plan.mapping_share
    parts = [
        'hard swap' if plan.blend_width is None else f'smooth swap, width {plan.blend_width:g}',
        '' if plan.swap_level is None else f'level {plan.swap_level}',
        f'rule {plan.rule}'
        if plan.rule is not None
        else 'mapping from low'
        if share == 0
        else f'mapping {share:.0%} from high',
        f'truncation psi {spec.truncation_psi:g}',
        '' if spec.class_idx is None else f'class {spec.class_idx}',
    ]
    return ', '.join(part for part in parts if part)


def _short(networks: Networks) -> str:
    """The file and its folder, which is the run's; the end of it where it is long."""
    text = printable('/'.join(Path(str(networks.meta.get('path'))).parts[-2:]), 1000)
    return text if len(text) <= 80 else '…' + text[-79:]
