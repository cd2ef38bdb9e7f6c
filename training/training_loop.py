"""A training run: set up, step, tick."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_utils.pictures import save_picture, tile, to_uint8
from torch_utils.training_stats import Collector

from . import ema
from .ada import AdaController
from .augment import AugmentPipe
from .checkpoint import Networks, save_networks
from .config import AUGPIPES, TrainingConfig
from .dataset import ImageFolderDataset, batches
from .freezed import freeze, frozen_names
from .networks import Discriminator, Generator
from .phases import Batch, Losses, Phase, build_phases
from .report import Reporter, grid_size
from .resume import load_source, new_source, without_fp16
from .run_dir import add_snapshot
from .signals import Signals
from .state import networks_of, restore, save_state

log = logging.getLogger(__name__)

Evaluate = Callable[[Generator], dict[str, float]]


@dataclass
class Run:
    """The state of a run: everything that a step changes."""

    config: TrainingConfig
    dataset: ImageFolderDataset
    device: torch.device
    G: Generator
    D: Discriminator
    G_ema: Generator
    augment_pipe: AugmentPipe | None
    ada: AdaController | None
    losses: Losses
    phases: list[Phase]
    stats: Collector
    data: Iterator[tuple[torch.Tensor, torch.Tensor]]
    meta: dict[str, Any]
    cur_nimg: int  # pictures seen
    start_nimg: int  # where the counter started
    step: int = 0
    tick: int = -1  # the last one reported; tick 0 precedes the first step
    tick_nimg: int = 0  # where it was reported
    elapsed: float = 0.0  # seconds before this process
    notes: Sequence[str] = ()  # about where it comes from, for the log

    @property
    def p(self) -> float:
        """The augmentation probability. Reading it waits for the device."""
        return float(self.augment_pipe.p) if self.augment_pipe is not None else 0.0

    @property
    def end_nimg(self) -> int:
        """Where the counter ends."""
        return round(self.config.total_kimg * 1000)

    @property
    def tick_is_due(self) -> bool:
        """Whether the counter has reached the next tick, which depends on where the run started and on nothing else."""
        return self.cur_nimg >= min(self.start_nimg + round((self.tick + 1) * self.config.tick_kimg * 1000), self.end_nimg)


def train(run: Run, run_dir: Path, evaluate: Evaluate | None = None) -> int:
    """Train up to `total_kimg`, writing NVIDIA's run directory.

    SIGINT and SIGTERM save the state at the next step and end the run, SIGUSR1 saves it and goes on.

    Args:
        run: as `setup` makes it.
        run_dir: an existing folder for snapshots, sheets and logs.
        evaluate: G_ema to metrics by name, called at every snapshot; what it raises is logged and the run goes on.

    Returns:
        The exit code: 0, or that of the signal.

    Raises:
        UserError: a file can't be written, or a picture can't be read.
    """
    describe(run)
    reporter = Reporter(run_dir, run.device, run.elapsed)
    sheet = Sheet(run, run_dir)
    if run.step == 0:
        sheet.save_reals()
        sheet.save_fakes('fakes_init')
    try:
        with Signals() as signals:
            if run.tick < 0:
                finish_tick(run, reporter)
            while run.cur_nimg < run.end_nimg:
                training_step(run)
                if run.tick_is_due:
                    closed = finish_tick(run, reporter)
                    if run.cur_nimg >= run.end_nimg or run.tick % run.config.snapshot_ticks == 0:
                        save_snapshot(run, run_dir, sheet, evaluate)
                        save_state(run, run_dir, reporter.elapsed)
                    reporter.begin_tick(closed)
                if signals.save:  # also where a tick without a snapshot has just ended
                    signals.save = False
                    log.info('state saved: %s', save_state(run, run_dir, reporter.elapsed))
                if signals.exit_code is not None and run.cur_nimg < run.end_nimg:
                    log.info('stopped; go on with: python train.py --continue %s', run_dir)
                    return signals.exit_code
    finally:
        reporter.close()
    return 0


def finish_tick(run: Run, reporter: Reporter) -> float:
    """Report a tick; returns when (time.time()) it ended."""
    closed = time.time()
    run.tick += 1
    log.info(reporter.tick(run.tick, run.cur_nimg, run.cur_nimg - run.tick_nimg, run.p, run.stats))
    run.tick_nimg = run.cur_nimg
    return closed


def training_step(run: Run) -> None:
    """One step: a batch, the phases that are due, the running average, the augmentation controller."""
    config, batch_size = run.config, run.config.batch_size
    real_img, real_c = next(run.data)
    for phase in run.phases:
        if run.step % phase.interval == 0:
            phase.run(Batch(real_img, real_c, *draw_latents(run, batch_size)), config.batch_gpu)
    ema.update_ema(run.G_ema, run.G, ema.ema_beta(batch_size, config.ema.kimg, run.cur_nimg, config.ema.rampup))
    run.cur_nimg += batch_size
    run.step += 1
    if run.ada is not None and run.step % config.augment.interval == 0:
        run.ada.step(batch_size * config.augment.interval)


def draw_latents(run: Run, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """z, float32 `[count, z_dim]`, and labels of random pictures of the data set, float32 `[count, c_dim]`."""
    z = torch.randn([count, run.G.z_dim], device=run.device)
    return z, run.dataset.random_labels(count).to(run.device, non_blocking=True)


# ----------------------------------------------------------------------------
# Setting up


def setup(config: TrainingConfig, dataset: ImageFolderDataset, device: torch.device, state: dict[str, Any] | None = None) -> Run:
    """Build or load the networks, and everything that a step needs.

    Args:
        state: of `load_state`, to go on from; None starts a new run.

    Raises:
        UserError: the snapshot to resume from doesn't fit the data.
    """
    torch.manual_seed(config.seed)
    configure_backends(config)
    meta, notes = {}, []
    if state is not None:
        networks = networks_of(state)
        G, D, G_ema = networks['G'], networks['D'], networks['G_ema']
    else:
        source = load_source(config, dataset) if config.resume else new_source(config, dataset)
        G, D, G_ema, config, notes = source.G, freeze(source.D, config.network.freeze_layers), source.G_ema, source.config, source.notes
        if config.fp32:
            G, D, G_ema = without_fp16(G), without_fp16(D), without_fp16(G_ema)
        meta = {'preset': config.preset, 'parents': source.parents}  # a state brings its own
    G, D, G_ema = G.train().to(device), D.train().to(device), G_ema.eval().to(device)

    augment_pipe, ada = None, None
    if config.augment.mode != 'noaug':
        strengths: dict[str, Any] = dict.fromkeys(AUGPIPES[config.augment.pipe], 1)
        augment_pipe = AugmentPipe(**strengths).train().requires_grad_(False).to(device)
        augment_pipe.p.copy_(torch.as_tensor(config.augment.p) if state is None else networks['augment_pipe'].p)
        if config.augment.mode == 'ada':
            ada = AdaController(augment_pipe.p, config.augment.target, config.augment.kimg, config.augment.p_max)
    stats = Collector()
    losses = Losses(G, D, augment_pipe, ada, config.loss, stats, pl_mean=torch.zeros([], device=device))
    drawn = state['counters']['step'] * config.batch_size if state is not None else 0
    data = batches(dataset, config.batch_size, seed=config.seed, workers=config.data.workers, device=device, start=drawn)
    start = round(config.start_kimg * 1000)
    run = Run(config, dataset, device, G, D, G_ema, augment_pipe, ada, losses, build_phases(losses, config.optimizer), stats, data, meta,
              cur_nimg=start, start_nimg=start, tick_nimg=start, notes=notes)
    if state is not None:
        restore(run, state)
        run.elapsed = state['elapsed']
    return run


def configure_backends(config: TrainingConfig) -> None:
    """The one place that sets PyTorch's global switches."""
    torch.backends.cudnn.benchmark = False  # the augmentations' margins change from batch to batch, and each shape would be tuned anew
    torch.backends.cuda.matmul.allow_tf32 = False  # the augmentations' geometry needs its bits; the time goes into convolutions
    torch.backends.cudnn.allow_tf32 = not config.fp32


def describe(run: Run) -> None:
    """Log what is about to be trained."""
    config, dataset = run.config, run.dataset
    log.info('Data: %s, %d pictures%s, %d×%d, %d channels, %d classes', config.data.path, len(dataset),
             ' with mirror images' if config.data.xflip or config.data.yflip else '', dataset.resolution, dataset.resolution,
             dataset.num_channels, dataset.label_dim)
    for name, network in [('G', run.G), ('D', run.D)]:
        log.info('%s: %s trainable parameters', name, f'{sum(x.numel() for x in network.parameters()):,}')
    for note in run.notes:
        log.info('%s', note)
    frozen = frozen_names(run.D)
    if config.network.freeze_layers:
        log.info('FreezeD %d: %d tensors are frozen: %s', config.network.freeze_layers, len(frozen), ' '.join(frozen))


# ----------------------------------------------------------------------------
# What a tick leaves behind


def save_snapshot(run: Run, run_dir: Path, sheet: 'Sheet', evaluate: Evaluate | None) -> None:
    """Write the networks as they are, what G_ema draws, and its metrics."""
    number = f'{run.cur_nimg // 1000:06d}'
    name = f'network-snapshot-{number}.pkl'
    sheet.save_fakes(f'fakes{number}')
    meta = {'training_set_kwargs': run.dataset.kwargs, 'toonify': {**run.meta, 'cur_nimg': run.cur_nimg}}
    save_networks(run_dir / name, Networks(run.G, run.D, run.G_ema, run.augment_pipe, meta))
    results = write_metrics(run, evaluate, run_dir, name) if evaluate is not None else {}
    add_snapshot(run_dir, name, run.cur_nimg, results, metric=next(iter(run.config.metrics), None), keep=run.config.keep_snapshots)


def write_metrics(run: Run, evaluate: Evaluate, run_dir: Path, snapshot: str) -> dict[str, float]:
    """Evaluate G_ema and append to `metric-NAME.jsonl`; a metric that fails is reported and nothing more."""
    try:
        with torch.random.fork_rng(devices=[run.device] if run.device.type == 'cuda' else []):
            results = evaluate(run.G_ema)
    except Exception as error:  # whatever goes wrong in a metric must not cost the training
        log.warning('metrics failed and are left out (%s: %s)', type(error).__name__, ' '.join(str(error).split()))
        return {}
    for name, value in results.items():
        log.info('%s: %.4f (%s)', name, value, snapshot)
        with (run_dir / f'metric-{name}.jsonl').open('a', encoding='utf-8') as file:
            file.write(json.dumps({'results': {name: value}, 'metric': name, 'snapshot_pkl': snapshot, 'timestamp': time.time()}) + '\n')
    return results


class Sheet:
    """Pictures from the same latents, again and again."""

    def __init__(self, run: Run, run_dir: Path) -> None:
        self._run, self._dir = run, run_dir
        self._columns, rows = grid_size(run.dataset.resolution)
        count = self._columns * rows
        picks = np.random.RandomState(run.config.seed % (1 << 31)).permutation(len(run.dataset))[:count]
        self._picks = [int(picks[i % len(picks)]) for i in range(count)]
        self._z = torch.randn([count, run.G.z_dim], generator=torch.Generator().manual_seed(run.config.seed))
        self._c = torch.from_numpy(np.stack([run.dataset.label(i) for i in self._picks]))

    def save_reals(self) -> None:
        """`reals.png`."""
        save_picture(self._dir / 'reals.png', tile(np.stack([self._run.dataset[i][0] for i in self._picks]), self._columns))

    def save_fakes(self, name: str) -> None:
        """`NAME.png` from G_ema."""
        run = self._run
        with torch.no_grad():
            images = torch.cat([run.G_ema(z.to(run.device), c.to(run.device), noise_mode='const').cpu()
                                for z, c in zip(self._z.split(run.config.batch_gpu), self._c.split(run.config.batch_gpu))])
        save_picture(self._dir / f'{name}.png', tile(to_uint8(images).numpy(), self._columns))
