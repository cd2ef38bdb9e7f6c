"""The training loop: train, step, tick."""

import logging
import time
import traceback
from pathlib import Path

from dnnlib import UserError
from dnnlib.util import is_out_of_memory

from .ema import ema_beta, update_ema
from .health import advice_on_memory, check_gradients, check_weights
from .outputs import Evaluation, MainProcess
from .phases import Batch
from .run import Run, draw_latents
from .signals import Signals
from .state import save_state

log = logging.getLogger(__name__)

# a step that ends so long after the last state was saved saves another one
STATE_SECONDS = 600


def train(run: Run, run_dir: Path, evaluation: Evaluation | None = None) -> int:
    """Train up to `total_kimg`, writing NVIDIA's run directory.

    SIGINT, SIGTERM and SIGHUP save the state at the next step and end the run, SIGUSR1 saves it and
    continues. At a snapshot the state is saved before anything else is written, and otherwise at
    least every ten minutes: whatever becomes of the sheets and metrics, the run continues from it.

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
                    if run.snapshot_is_due:
                        check_weights(run)
                        save_state(run, run_dir)
                        write_snapshot(run, main, signals)
                    elif main is not None:
                        main.sheet.save_if_due()
                    if main is not None:
                        main.reporter.begin_tick(closed)
                asked = int(signals.save or _state_is_old(run))
                save, exit_code = run.ranks.flags(asked, signals.exit_code or 0)
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


def _state_is_old(run: Run) -> bool:
    """Return whether too much would be lost if the run were killed now."""
    return run.saved_nimg != run.cur_nimg and time.time() - run.saved_at > STATE_SECONDS


def write_snapshot(run: Run, main: MainProcess | None, signals: Signals) -> None:
    """Write and evaluate the snapshot at the run's counter in rank 0; the others wait."""
    if main is not None:
        main.save_snapshot(signals)
    run.ranks.wait_for_main()


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
    """Fetch a batch, run the phases that are due, update G_ema and the ADA controller."""
    config = run.config
    real_img, real_c = next(run.data)
    for phase in run.phases:
        if run.step % phase.interval == 0:
            batch = Batch(real_img, real_c, *draw_latents(run, len(real_img)))
            if run.graphs is None:
                bad = phase.run(batch, config.batch_gpu, run.ranks)
            else:
                bad = run.graphs.run(phase, batch)
            run.stats.report('Progress/skipped_steps', bad)
    beta = ema_beta(config.batch_size, config.ema.kimg, run.cur_nimg, config.ema.rampup)
    update_ema(run.G_ema, run.G, beta)
    run.cur_nimg += config.batch_size
    run.step += 1
    if run.ada is not None and run.step % config.augment.interval == 0:
        run.ranks.sum_([run.ada.signs])
        run.ada.step(config.batch_size * config.augment.interval)
