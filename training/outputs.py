"""Rank-0 outputs: status line, warnings, snapshots and their metrics, sheets of pictures."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from dnnlib import UserError
from dnnlib.image_decoding import decode_picture
from torch_utils.image_io import save_picture, tile, to_uint8

from .health import HealthMonitor
from .logging import Reporter, log_start
from .networks import Generator
from .ranking import Criterion
from .run import Run
from .run_dir import SHEET_NAME, add_snapshot, counter_name, load_snapshots, own_files
from .signals import Signals, Stopped
from .snapshots import Networks, save_networks

log = logging.getLogger(__name__)

Evaluate = Callable[[Generator], dict[str, float]]

PROGRESS_ROWS, PROGRESS_COLUMNS, PROGRESS_SIZE, MARGIN = 24, 10, 96, 72  # the last two in pixels


@dataclass(frozen=True)
class Evaluation:
    """How snapshots are evaluated and ranked.

    Attributes:
        compute: G_ema to results by name.
        criterion: which of them decides what is best.
    """

    compute: Evaluate
    criterion: Criterion


class MainProcess:
    """Writes what rank 0 alone writes: status line, statistics, warnings, snapshots, metrics."""

    def __init__(self, run: Run, run_dir: Path, evaluation: Evaluation | None) -> None:
        self._run = run
        self._dir = run_dir
        self._evaluation = evaluation
        log_start(run)
        self.reporter = Reporter(run_dir, run.device, run.elapsed, run.p, run.end_nimg)
        self.sheet = SampleSheet(run, run_dir)
        self.monitor = HealthMonitor()
        self.metrics_stopped = False  # by a signal
        if run.step == 0:
            self.sheet.save_reals()
            self.sheet.save_fakes('fakes_init')

    def report(self, stats: dict[str, dict[str, float]]) -> None:
        """Close a tick."""
        run, p = self._run, self._run.p
        log.info(self.reporter.tick(run.tick, run.cur_nimg, run.cur_nimg - run.tick_nimg, p, stats))
        signs = stats['Loss/signs/real']['mean'] if 'Loss/signs/real' in stats else None
        for text in self.monitor.tick(p, signs):
            log.warning('%s', text)

    def save_snapshot(self, signals: Signals) -> None:
        """Write those of the networks, their pictures and their metrics that are not there yet."""
        evaluated = is_evaluated(self._run, self._dir)
        if evaluated is None:
            save_snapshot(self._run, self._dir)
        if not self.sheet.path_at_counter.exists():
            self.sheet.save_at_counter()
            assert self.sheet.fakes is not None
            for text in self.monitor.pictures(self.sheet.fakes, self.sheet.reals):
                log.warning('%s', text)
        former = former_nimg(self._run, self._dir)
        due = self._evaluation is not None and evaluation_is_due(self._run, former)
        if not evaluated and self._evaluation is not None and due:
            self.metrics_stopped = not evaluate_snapshot(
                self._run, self._dir, self._evaluation, signals
            )


def snapshot_name(run: Run) -> str:
    """Return the file name of the snapshot at the run's counter."""
    return f'network-snapshot-{counter_name(run.cur_nimg, run.config.batch_size)}.pkl'


def save_snapshot(run: Run, run_dir: Path) -> None:
    """Write the networks as they are, and enter them in the list of snapshots."""
    name = snapshot_name(run)
    meta = {
        'training_set_kwargs': run.dataset.kwargs,
        'toonify': {**run.meta, 'cur_nimg': run.cur_nimg},
    }
    save_networks(run_dir / name, Networks(run.G, run.D, run.G_ema, run.augment_pipe, meta))
    add_snapshot(run_dir, name, run.cur_nimg, {}, keep=run.config.keep_snapshots)


def former_nimg(run: Run, run_dir: Path) -> int:
    """Return the counter of the snapshot before this one; where the run began if there is none."""
    counters = [round(row['kimg'] * 1000) for row in load_snapshots(run_dir)]
    earlier = [nimg for nimg in counters if run.start_nimg < nimg < run.cur_nimg]
    return max(earlier, default=run.start_nimg)


def evaluation_is_due(run: Run, former: int) -> bool:
    """Return whether the snapshot at the run's counter is to be evaluated.

    It is at the end of the run, and at the first snapshot after every `metrics_kimg`.

    Args:
        former: see `former_nimg`.
    """
    config = run.config
    if config.metrics_kimg is None or run.cur_nimg >= run.end_nimg:
        return True
    interval = max(round(config.metrics_kimg * 1000), 1)
    return (run.cur_nimg - run.start_nimg) // interval > (former - run.start_nimg) // interval


def evaluate_snapshot(run: Run, run_dir: Path, evaluation: Evaluation, signals: Signals) -> bool:
    """Compute the metrics of the snapshot at the run's counter, log them, and rank the snapshots.

    A metric that fails is reported and left out. A signal that stops the run stops it at once.

    Returns:
        False if a signal has stopped it.
    """
    name = snapshot_name(run)
    try:
        with (
            signals.at_once(),
            torch.random.fork_rng(devices=[run.device] if run.device.type == 'cuda' else []),
        ):
            results = evaluation.compute(run.G_ema)
    except Stopped:
        log.info('metrics of %s stopped by a signal; --continue computes them', name)
        return False
    except Exception as error:  # whatever goes wrong in a metric must not cost the training
        log.warning(
            'metrics failed and are left out (%s: %s)',
            type(error).__name__,
            ' '.join(str(error).split()),
        )
        return True
    write_metrics(run_dir, name, results, run.config.metrics)
    add_snapshot(
        run_dir,
        name,
        run.cur_nimg,
        results,
        criterion=evaluation.criterion,
        keep=run.config.keep_snapshots,
    )
    return True


def is_evaluated(run: Run, run_dir: Path) -> bool | None:
    """Return whether the snapshot at the run's counter has results; None if there is none."""
    rows = [row for row in load_snapshots(run_dir) if row['file'] == snapshot_name(run)]
    if not rows or not (run_dir / rows[0]['file']).exists():
        return None
    return bool(rows[0]['metrics'])


def write_metrics(
    run_dir: Path, snapshot: str, results: dict[str, float], metrics: tuple[str, ...]
) -> None:
    """Append to `metric-NAME.jsonl` all results that begin with NAME, and log them.

    Args:
        snapshot: name of the file.
        metrics: the names that were asked for.
    """
    rows: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        log.info('%s: %.4f (%s)', key, value, snapshot)
        names = [name for name in metrics if key == name or key.startswith(f'{name}_')]
        rows.setdefault(max(names, key=len, default=key), {})[key] = value
    for name, row in rows.items():
        with (run_dir / f'metric-{name}.jsonl').open('a', encoding='utf-8') as file:
            file.write(
                json.dumps(
                    {
                        'results': row,
                        'metric': name,
                        'snapshot_pkl': snapshot,
                        'timestamp': time.time(),
                    }
                )
                + '\n'
            )


class SampleSheet:
    """Sheets of pictures that are drawn from the same latents each time.

    Attributes:
        reals: uint8 `[N, C, H, W]`, pictures of the data set.
        fakes: the same for the last pictures that were drawn; None before.
    """

    def __init__(self, run: Run, run_dir: Path) -> None:
        self._run, self._dir = run, run_dir
        self._columns, rows = grid_size(run.dataset.resolution)
        count = self._columns * rows
        picks = np.random.RandomState(run.config.seed % (1 << 31)).permutation(len(run.dataset))[
            :count
        ]
        indices = [int(picks[i % len(picks)]) for i in range(count)]
        self._z = torch.randn(
            [count, run.G.z_dim], generator=torch.Generator().manual_seed(run.config.seed)
        )
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
            images = torch.cat(
                [
                    run.G_ema(z.to(run.device), c.to(run.device), noise_mode='const').cpu()
                    for z, c in zip(
                        self._z.split(run.config.batch_gpu), self._c.split(run.config.batch_gpu)
                    )
                ]
            )
        self.fakes = to_uint8(images).numpy()
        save_picture(self._dir / f'{name}.png', tile(self.fakes, self._columns))

    @property
    def path_at_counter(self) -> Path:
        """The sheet that belongs to the run's counter."""
        counter = counter_name(self._run.cur_nimg, self._run.config.batch_size)
        return self._dir / f'fakes{counter}.png'

    def save_at_counter(self) -> None:
        """Save `fakesCOUNTER.png` and bring `progress.png` up to date."""
        self.save_fakes(self.path_at_counter.name.removesuffix('.png'))
        save_progress(self._dir, self._run.dataset.resolution)

    def save_if_due(self) -> None:
        """Save the fakes at a tick without a snapshot that `image_snapshot_ticks` divides."""
        every = self._run.config.image_snapshot_ticks
        if every is not None and self._run.tick % every == 0:
            self.save_at_counter()


def grid_size(resolution: int) -> tuple[int, int]:
    """Return columns and rows of a sheet of pictures: about a full HD screen."""
    return int(np.clip(1920 // resolution, 4, 15)), int(np.clip(1080 // resolution, 3, 8))


def save_progress(run_dir: Path, resolution: int) -> None:
    """Write `progress.png`: a row of pictures from `fakes_init.png` and from each of at most so
    many `fakes*.png`, from old to new.

    A file of that name that isn't a sheet of this run is skipped.

    Args:
        resolution: of the pictures in the sheets, pixels.
    """
    sheets = {
        _kimg_of_sheet(path): path
        for path in own_files(run_dir, SHEET_NAME)
        if path.stem not in ('reals', 'progress')
    }
    counters = sorted(sheets)
    picks = np.unique(
        np.linspace(0, len(counters) - 1, min(len(counters), PROGRESS_ROWS)).round().astype(int)
    )
    columns, size = min(PROGRESS_COLUMNS, grid_size(resolution)[0]), min(resolution, PROGRESS_SIZE)
    strips = {}
    for pick in picks:
        strip = _first_row(sheets[counters[pick]], resolution)
        if strip is not None:
            part = strip.crop((0, 0, columns * resolution, resolution))
            strips[counters[pick]] = part.resize((columns * size, size), Image.Resampling.BOX)
    page = Image.new('RGB', (MARGIN + columns * size, max(len(strips), 1) * size), 'white')
    for row, (kimg, strip) in enumerate(strips.items()):
        page.paste(strip, (MARGIN, row * size))
        ImageDraw.Draw(page).text(
            (6, row * size + size // 2 - 5),
            f'{kimg:g} kimg' if kimg >= 0 else 'start',
            fill='black',
        )
    save_picture(run_dir / 'progress.png', np.asarray(page))


def _kimg_of_sheet(path: Path) -> float:
    match = SHEET_NAME.fullmatch(path.name)
    return float(match['counter']) if match and match['counter'] else -1.0


def _first_row(path: Path, resolution: int) -> Image.Image | None:
    """The first row of a sheet, RGB; None if the file isn't a PNG of the size that this run's
    sheets have.
    """
    columns, rows = grid_size(resolution)
    try:
        data = (
            path.read_bytes()
            if path.stat().st_size <= 2 * 4 * columns * rows * resolution**2 + 4096
            else b''
        )
        size = int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
        if data[:8] != b'\x89PNG\r\n\x1a\n' or size != (columns * resolution, rows * resolution):
            return None
        pixels = decode_picture(data, path.name)
    except (OSError, UserError):
        return None
    return Image.fromarray(pixels.squeeze()).convert('RGB').crop((0, 0, size[0], resolution))
