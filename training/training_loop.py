"""A training run: set up, step, tick."""

import dataclasses
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib import UserError
from dnnlib.util import is_out_of_memory
from torch_utils.distributed import ALONE, Ranks
from torch_utils.misc import in_float64, named_tensors, set_float32_precision
from torch_utils.training_stats import Collector

from . import cost, ema
from .ada import AdaController
from .augment import AugmentPipe
from .config import AUGPIPES, TrainingConfig
from .dataset import ImageFolderDataset, batches
from .dataset_cache import choose_cache
from .freezing import freeze, frozen_names, layers_from
from .health import Watch, advice_at_start
from .logging import Reporter
from .networks import Discriminator, Generator
from .outputs import (
    Evaluation,
    Sheet,
    evaluate_snapshot,
    evaluation_is_due,
    is_evaluated,
    save_snapshot,
)
from .phase_graphs import Graphs, make_graphs
from .phases import Batch, Losses, Phase, build_phases
from .resume import load_source, new_source, without_fp16
from .run_dir import STATE_NAME, own_files
from .signals import Signals
from .state import networks_of, restore, save_state

log = logging.getLogger(__name__)

BAD_STEPS = 10  # skipped one after the other, before a run gives up
# the first tick that ends so long after the last state saves another one, snapshot or not
STATE_SECONDS = 600


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
    elapsed: float = 0.0  # seconds up to the last tick, those before a continuation included
    clock: float = field(default_factory=time.time)  # when that was, or when this process began
    ranks: Ranks = ALONE
    graphs: Graphs | None = None  # run the phases; None runs them as they are
    cache: str = 'none'  # where the decoded pictures are: gpu, ram, none
    saved_nimg: int = -1  # the counter of the last state saved
    saved_at: float = field(default_factory=time.time)  # when that was, or when this process began
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
        """Whether the counter has reached the next tick, which depends on where the run started and
        on nothing else.
        """
        return self.cur_nimg >= min(
            self.start_nimg + round((self.tick + 1) * self.config.tick_kimg * 1000), self.end_nimg
        )

    @property
    def snapshot_is_due(self) -> bool:
        """Whether the tick that has just ended is one with a snapshot."""
        at_tick = self.tick > 0 and self.tick_nimg == self.cur_nimg
        return at_tick and (
            self.cur_nimg >= self.end_nimg or self.tick % self.config.snapshot_ticks == 0
        )


def train(run: Run, run_dir: Path, evaluation: Evaluation | None = None) -> int:
    """Train up to `total_kimg`, writing NVIDIA's run directory.

    SIGINT and SIGTERM save the state at the next step and end the run, SIGUSR1 saves it and goes
    on. After a tick the state is saved before anything else is written: whatever becomes of the
    sheets and metrics that follow, the run goes on from this tick.

    Args:
        run: as `setup` makes it.
        run_dir: an existing folder for snapshots, sheets and logs. Only the first process writes.
        evaluation: of snapshots; what it raises is logged and the run goes on.

    Returns:
        The exit code: 0, or that of the signal.

    Raises:
        UserError: a file can't be written, a picture can't be read, the memory doesn't suffice, or
            the gradients stay infinite.
    """
    main = MainProcess(run, run_dir, evaluation) if run.ranks.is_main else None
    exit_code = 0
    try:
        with Signals() as signals:
            if run.tick < 0:
                finish_tick(run, main)
            # the run was stopped before its snapshot was written and evaluated
            elif run.snapshot_is_due:
                write_snapshot(run, main, signals)
            while run.cur_nimg < run.end_nimg and not exit_code:
                training_step(run)
                if run.device.type == 'cpu' or run.tick_is_due:  # on a GPU this waits for it
                    check_gradients(run, run_dir)
                if run.tick_is_due:
                    closed = finish_tick(run, main)
                    if (
                        run.snapshot_is_due
                        or run.ranks.flags(int(time.time() - run.saved_at > STATE_SECONDS))[0]
                    ):
                        check_weights(run)
                        save_state(run, run_dir)
                    if run.snapshot_is_due:
                        write_snapshot(run, main, signals)
                    elif main is not None:
                        main.sheet.save_if_due()
                    if main is not None:
                        main.reporter.begin_tick(closed)
                save, exit_code = run.ranks.flags(signals.save, signals.exit_code or 0)
                if save:  # also where a tick without a snapshot has just ended
                    signals.save = False
                    log.info('state saved: %s', save_state(run, run_dir))
        if run.cur_nimg >= run.end_nimg and not (main is not None and main.metrics_stopped):
            return 0  # there was nothing left to stop
        log.info('stopped; go on with: python train.py --continue %s', run_dir)
        return exit_code or signals.exit_code or 0
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # whose variables hold what filled the memory
        message = advice_on_memory(run)
    finally:
        if main is not None:
            main.reporter.close()
    raise UserError(message)


def write_snapshot(run: Run, main: 'MainProcess | None', signals: Signals) -> None:
    """Write and evaluate the snapshot at the run's counter in the first process, while the others
    wait.
    """
    if main is not None:
        main.save_snapshot(signals)
    run.ranks.wait_for_main()


class MainProcess:
    """What the first process writes: the status line, statistics, snapshots and their metrics,
    warnings.
    """

    def __init__(self, run: Run, run_dir: Path, evaluation: Evaluation | None) -> None:
        self._run, self._dir, self._evaluation = run, run_dir, evaluation
        describe(run)
        self.reporter = Reporter(run_dir, run.device, run.elapsed, run.p, run.end_nimg)
        self.sheet, self.watch, self.metrics_stopped = Sheet(run, run_dir), Watch(), False
        if run.step == 0:
            self.sheet.save_reals()
            self.sheet.save_fakes('fakes_init')

    def report(self, stats: dict[str, dict[str, float]]) -> None:
        """Close a tick."""
        run, p = self._run, self._run.p
        log.info(self.reporter.tick(run.tick, run.cur_nimg, run.cur_nimg - run.tick_nimg, p, stats))
        for text in self.watch.tick(
            p, stats['Loss/signs/real']['mean'] if 'Loss/signs/real' in stats else None
        ):
            log.warning('%s', text)

    def save_snapshot(self, signals: Signals) -> None:
        """Write the networks, their pictures and their metrics, or what is missing of them."""
        evaluated = is_evaluated(self._run, self._dir)
        if evaluated is None:
            save_snapshot(self._run, self._dir, self.sheet)
            assert self.sheet.fakes is not None
            for text in self.watch.pictures(self.sheet.fakes, self.sheet.reals):
                log.warning('%s', text)
        if not evaluated and self._evaluation is not None and evaluation_is_due(self._run):
            self.metrics_stopped = not evaluate_snapshot(
                self._run, self._dir, self._evaluation, signals
            )


def finish_tick(run: Run, main: MainProcess | None) -> float:
    """Report a tick; returns when (time.time()) it ended."""
    closed = time.time()
    stats = run.stats.read(run.ranks)
    run.elapsed += closed - run.clock
    run.clock = closed
    run.tick += 1
    if main is not None:
        main.report(stats)
    run.tick_nimg = run.cur_nimg
    return closed


def training_step(run: Run) -> None:
    """One step: a batch, the phases that are due, the running average, the augmentation controller."""
    config, ranks = run.config, run.ranks
    real_img, real_c = next(run.data)
    for phase in run.phases:
        if run.step % phase.interval == 0:
            batch = Batch(real_img, real_c, *draw_latents(run, len(real_img)))
            bad = (
                phase.run(batch, config.batch_gpu, ranks)
                if run.graphs is None
                else run.graphs.run(phase, batch)
            )
            run.stats.report('Progress/skipped_steps', bad)
    ema.update_ema(
        run.G_ema,
        run.G,
        ema.ema_beta(config.batch_size, config.ema.kimg, run.cur_nimg, config.ema.rampup),
    )
    run.cur_nimg += config.batch_size
    run.step += 1
    if run.ada is not None and run.step % config.augment.interval == 0:
        ranks.sum_([run.ada.signs])
        run.ada.step(config.batch_size * config.augment.interval)


def draw_latents(run: Run, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """z, float32 `[count, z_dim]`, and labels of random pictures of the data set, float32 `[count,
    c_dim]`.
    """
    z, labels = (
        torch.randn([count, run.G.z_dim], device=run.device),
        run.dataset.random_labels(count),
    )
    if run.device.type == 'cuda' and labels.numel() > 0:
        labels = labels.pin_memory()  # or their copy may wait for what the GPU has yet to do
    return z, labels.to(run.device, non_blocking=True)


# ----------------------------------------------------------------------------
# When something goes wrong


def check_gradients(run: Run, run_dir: Path) -> None:
    """Stop a run whose steps have all been skipped for a while.

    Raises:
        UserError: naming the last good state.
    """
    for phase in run.phases:
        count = int(phase.bad_in_a_row)
        if count >= BAD_STEPS:
            last = max(own_files(run_dir, STATE_NAME), default='the beginning')
            raise UserError(
                f'{phase.name}: the gradients of {count} steps in a row were not '
                f'finite, so they changed nothing; '
                f'a lower --lrate, a higher --gamma or --fp32=1 may help. The last '
                f'good state is {last}'
            )


def check_weights(run: Run) -> None:
    """All processes must have the same networks.

    Raises:
        RuntimeError: they haven't, which would be our fault.
    """
    if run.ranks.count > 1:
        sums = [
            float(sum(in_float64(tensor).sum() for _, tensor in named_tensors(network)))
            for network in (run.G, run.D, run.G_ema)
        ]
        if len(set(map(str, run.ranks.gather(sums)))) > 1:
            raise RuntimeError('the networks of the processes differ')


def advice_on_memory(run: Run) -> str:
    """Say what to change when the memory is full, by trying it now.

    Tried in this order: the same `--batch-gpu` without CUDA graphs, with the pictures in RAM
    instead of on the GPU, and smaller parts of the batch. Nothing of the run is used after this.
    """
    config = run.config
    local, group = config.batch_size // config.gpus, config.network.mbstd_group_size or 1
    what = f'--batch-gpu={config.batch_gpu} is too much for the memory of this {"GPU" if run.device.type == "cuda" else "machine"}'
    if run.graphs is not None:
        run.graphs = None  # they have memory of their own
        if _fits(run, config.batch_gpu):
            return f'{what} with CUDA graphs; --graphs=0 fits'
    if run.cache == 'gpu':
        run.data = iter(())  # whose pictures fill the memory, too
        if _fits(run, config.batch_gpu):
            return f'{what} beside the decoded pictures; --cache=ram fits'
    for size in range(config.batch_gpu - 1, 0, -1):
        if local % size == 0 and size % min(group, size) == 0 and _fits(run, size):
            return f'{what}; --batch-gpu={size} fits. The batch stays {config.batch_size}: gradients add up, and the result is the same'
    return f'{what}, and so is any smaller number that divides --batch; a smaller network (--cfg) or more memory is needed'


def _fits(run: Run, size: int) -> bool:
    """Whether every phase runs with parts of `size` pictures."""
    if run.device.type == 'cuda':
        torch.cuda.empty_cache()
    try:
        for phase in run.phases:
            image = torch.zeros([size, *run.dataset.shape], device=run.device)
            label = run.dataset.random_labels(size).to(run.device)
            phase.run(Batch(image, label, *draw_latents(run, size)), size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        return False
    return True


# ----------------------------------------------------------------------------
# Setting up


def setup(
    config: TrainingConfig,
    dataset: ImageFolderDataset,
    device: torch.device,
    state: dict[str, Any] | None = None,
    ranks: Ranks = ALONE,
    trust_pickle: bool = False,
) -> Run:
    """Build or load the networks, and everything that a step needs.

    Args:
        device: of this process.
        state: of `load_state`, to go on from; None starts a new run.
        ranks: this process among those of the run.
        trust_pickle: execute what the snapshot of `config.resume` asks for.

    Raises:
        UserError: the snapshot to resume from or the augmentations don't fit the data.
    """
    torch.manual_seed(config.seed)
    # The augmentations' geometry, a product of matrices, needs its bits; the time goes into
    # convolutions.
    set_float32_precision(
        convolutions='tf32' if config.tf32 and not config.fp32 else 'ieee', matmul='ieee'
    )
    meta, notes = {}, []
    if state is not None:
        networks = networks_of(state)
        G, D, G_ema = networks['G'], networks['D'], networks['G_ema']
    else:
        source = (
            load_source(config, dataset, trust_pickle)
            if config.resume
            else new_source(config, dataset)
        )
        G, D, G_ema, config, notes = source.G, source.D, source.G_ema, source.config, source.notes
        resolution = config.network.freeze_resolution
        D = freeze(
            D,
            layers_from(D, resolution) if resolution is not None else config.network.freeze_layers,
        )
        if config.fp32:
            G, D, G_ema = without_fp16(G), without_fp16(D), without_fp16(G_ema)
            config = dataclasses.replace(
                config, network=dataclasses.replace(config.network, num_fp16_res=0)
            )
        meta = {'preset': config.preset, 'parents': source.parents}  # a state brings its own
    G, D, G_ema = G.train().to(device), D.train().to(device), G_ema.eval().to(device)

    augment_pipe, ada = None, None
    if config.augment.mode != 'noaug':
        if 'imgfilter' in AUGPIPES[config.augment.pipe] and dataset.resolution < 32:
            raise UserError(
                f'--augpipe={config.augment.pipe}: its filter is longer than pictures '
                f'of {dataset.resolution} px; '
                'bgc does without'
            )
        strengths: dict[str, Any] = dict.fromkeys(AUGPIPES[config.augment.pipe], 1)
        augment_pipe = AugmentPipe(**strengths).train().requires_grad_(False).to(device)
        augment_pipe.p.copy_(
            torch.as_tensor(config.augment.p) if state is None else networks['augment_pipe'].p
        )
        if config.augment.mode == 'ada':
            ada = AdaController(
                augment_pipe.p, config.augment.target, config.augment.kimg, config.augment.p_max
            )
    stats = Collector()
    losses = Losses(
        G, D, augment_pipe, ada, config.loss, stats, pl_mean=torch.zeros([], device=device)
    )
    drawn = state['counters']['step'] * config.batch_size if state is not None else 0
    cache = str(config.data.cache)
    if cache == 'auto':
        cache = choose_cache(int(np.prod(dataset.stored_shape)), device, ranks.count)
    data = batches(
        dataset,
        config.batch_size,
        seed=config.seed,
        workers=config.data.workers,
        device=device,
        start=drawn,
        cache=cache,
        rank=ranks.rank,
        num_ranks=ranks.count,
    )
    if ranks.count > 1:  # every process draws its own latents, noise and augmentations
        torch.manual_seed((config.seed + 1) * 1_000_003 + ranks.rank)
    start, phases = round(config.start_kimg * 1000), build_phases(losses, config.optimizer)
    run = Run(
        config,
        dataset,
        device,
        G,
        D,
        G_ema,
        augment_pipe,
        ada,
        losses,
        phases,
        stats,
        data,
        meta,
        cur_nimg=start,
        start_nimg=start,
        tick_nimg=start,
        notes=notes,
        ranks=ranks,
        cache=cache,
        graphs=make_graphs(device, config.batch_gpu, ranks, [phase.name for phase in phases])
        if config.graphs
        else None,
    )
    if state is not None:
        restore(run, state)
        run.elapsed = state['elapsed']
        run.saved_nimg = run.cur_nimg
    return run


def describe(run: Run) -> None:
    """Log what is about to be trained."""
    config, dataset = run.config, run.dataset
    log.info(
        'Data: %s, %d pictures%s, %d×%d, %d channels, %d classes',
        config.data.path,
        len(dataset),
        ' with mirror images' if config.data.xflip or config.data.yflip else '',
        dataset.resolution,
        dataset.resolution,
        dataset.num_channels,
        dataset.label_dim,
    )
    if run.ranks.count > 1:
        share = config.batch_size // run.ranks.count
        log.info(
            '%d processes, each with %d of %d pictures a step',
            run.ranks.count,
            share,
            config.batch_size,
        )
    for name, network in [('G', run.G), ('D', run.D)]:
        log.info(
            '%s: %s trainable parameters', name, f'{sum(x.numel() for x in network.parameters()):,}'
        )
    for note in run.notes:
        log.info('%s', note)
    if run.step == 0:
        price = cost.estimate(config, run.G, run.D, run.device.type)
        for line in cost.describe(price, config, run.device.type):
            log.info('%s', line)
        for line in advice_at_start(config, dataset.stored_shape[0], price, run.device.type):
            log.warning('%s', line)
    frozen = frozen_names(run.D)
    if frozen:
        buffers = dict(run.D.named_buffers())
        log.info(
            'FreezeD: %d tensors with %s parameters are frozen: %s',
            len(frozen),
            f'{sum(buffers[name].numel() for name in frozen):,}',
            ' '.join(frozen),
        )
