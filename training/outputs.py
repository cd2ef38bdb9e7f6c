"""What a tick leaves behind: snapshots and their metrics, sheets of pictures, the pictures' progress."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from torch_utils.pictures import save_picture, tile, to_uint8

from .checkpoint import Networks, save_networks
from .networks import Generator
from .report import grid_size
from .run_dir import add_snapshot

if TYPE_CHECKING:
    from .training_loop import Run

log = logging.getLogger(__name__)

Evaluate = Callable[[Generator], dict[str, float]]

PROGRESS_ROWS, PROGRESS_COLUMNS, PROGRESS_SIZE, MARGIN = 24, 10, 96, 72  # the last two in pixels


def save_snapshot(run: 'Run', run_dir: Path, sheet: 'Sheet', evaluate: Evaluate | None) -> None:
    """Write the networks as they are, what G_ema draws, and its metrics."""
    number = f'{run.cur_nimg // 1000:06d}'
    name = f'network-snapshot-{number}.pkl'
    sheet.save_fakes(f'fakes{number}')
    save_progress(run_dir, run.dataset.resolution)
    meta = {'training_set_kwargs': run.dataset.kwargs, 'toonify': {**run.meta, 'cur_nimg': run.cur_nimg}}
    save_networks(run_dir / name, Networks(run.G, run.D, run.G_ema, run.augment_pipe, meta))
    results = write_metrics(run, evaluate, run_dir, name) if evaluate is not None else {}
    add_snapshot(run_dir, name, run.cur_nimg, results, metric=next(iter(run.config.metrics), None), keep=run.config.keep_snapshots)


def write_metrics(run: 'Run', evaluate: Evaluate, run_dir: Path, snapshot: str) -> dict[str, float]:
    """Evaluate G_ema and append to `metric-NAME.jsonl`, all results that begin with NAME; a metric that fails is reported, no more."""
    try:
        with torch.random.fork_rng(devices=[run.device] if run.device.type == 'cuda' else []):
            results = evaluate(run.G_ema)
    except Exception as error:  # whatever goes wrong in a metric must not cost the training
        log.warning('metrics failed and are left out (%s: %s)', type(error).__name__, ' '.join(str(error).split()))
        return {}
    rows: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        log.info('%s: %.4f (%s)', key, value, snapshot)
        names = [name for name in run.config.metrics if key == name or key.startswith(f'{name}_')]
        rows.setdefault(max(names, key=len, default=key), {})[key] = value
    for name, row in rows.items():
        with (run_dir / f'metric-{name}.jsonl').open('a', encoding='utf-8') as file:
            file.write(json.dumps({'results': row, 'metric': name, 'snapshot_pkl': snapshot, 'timestamp': time.time()}) + '\n')
    return results


class Sheet:
    """Pictures from the same latents, again and again.

    Attributes:
        reals: uint8 `[N, C, H, W]`, pictures of the data set.
        fakes: the same for the last pictures that were drawn; None before.
    """

    def __init__(self, run: 'Run', run_dir: Path) -> None:
        self._run, self._dir = run, run_dir
        self._columns, rows = grid_size(run.dataset.resolution)
        count = self._columns * rows
        picks = np.random.RandomState(run.config.seed % (1 << 31)).permutation(len(run.dataset))[:count]
        indices = [int(picks[i % len(picks)]) for i in range(count)]
        self._z = torch.randn([count, run.G.z_dim], generator=torch.Generator().manual_seed(run.config.seed))
        self._c = torch.from_numpy(np.stack([run.dataset.label(i) for i in indices]))
        self.reals = np.stack([run.dataset[i][0] for i in indices])
        self.fakes: np.ndarray | None = None

    def save_reals(self) -> None:
        """`reals.png`."""
        save_picture(self._dir / 'reals.png', tile(self.reals, self._columns))

    def save_fakes(self, name: str) -> None:
        """`NAME.png` from G_ema."""
        run = self._run
        with torch.no_grad():
            images = torch.cat([run.G_ema(z.to(run.device), c.to(run.device), noise_mode='const').cpu()
                                for z, c in zip(self._z.split(run.config.batch_gpu), self._c.split(run.config.batch_gpu))])
        self.fakes = to_uint8(images).numpy()
        save_picture(self._dir / f'{name}.png', tile(self.fakes, self._columns))

    def save_if_due(self) -> None:
        """Save a sheet of fakes at a tick that `image_snapshot_ticks` divides, without a snapshot."""
        run = self._run
        every = run.config.image_snapshot_ticks
        if every is not None and run.tick % every == 0:
            self.save_fakes(f'fakes{run.cur_nimg // 1000:06d}')
            save_progress(self._dir, run.dataset.resolution)


def save_progress(run_dir: Path, resolution: int) -> None:
    """`progress.png`: the first pictures of `fakes_init.png` and every `fakes*.png`, a row each, at most so many rows, from old to new.

    Args:
        resolution: of the pictures in the sheets, pixels.
    """
    sheets = [path for path in [run_dir / 'fakes_init.png', *sorted(run_dir.glob('fakes[0-9]*.png'))] if path.exists()]
    picks = np.unique(np.linspace(0, len(sheets) - 1, min(len(sheets), PROGRESS_ROWS)).round().astype(int))
    columns, size = min(PROGRESS_COLUMNS, grid_size(resolution)[0]), min(resolution, PROGRESS_SIZE)
    page = Image.new('RGB', (MARGIN + columns * size, len(picks) * size), 'white')
    for row, pick in enumerate(picks):
        with Image.open(sheets[pick]) as sheet:
            strip = sheet.convert('RGB').crop((0, 0, columns * resolution, resolution)).resize((columns * size, size), Image.Resampling.BOX)
        page.paste(strip, (MARGIN, row * size))
        label = sheets[pick].stem.removeprefix('fakes')
        ImageDraw.Draw(page).text((6, row * size + size // 2 - 5), f'{int(label)} kimg' if label.isdigit() else 'start', fill='black')
    save_picture(run_dir / 'progress.png', np.asarray(page))
