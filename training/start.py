"""From a plan to a run: start the processes, claim the folder, load, log, train."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import dnnlib
from dnnlib.util import escaped
from torch_utils import distributed

from .outputs import Evaluation
from .plan import Continuation, Plan, plan_continuation
from .run import Run, setup
from .run_dir import claim, make_run_dir, remove_leftovers, save_options
from .state import cut_logs
from .training_loop import train

MIN_PROCESSES = 8  # that may be started on a CPU of fewer cores


class _PlainLine(logging.Formatter):
    """The message alone, without control characters: names of files are in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line."""
        return escaped(super().format(record))


def start(
    job: Plan | Continuation,
    device: torch.device,
    make_evaluation: Callable[[Run], Evaluation | None],
    command: Sequence[str],
) -> int:
    """Train as planned, in as many processes as planned.

    Args:
        job: a new run, or one to go on with: its state is read when its folder is claimed.
        device: `cuda`, `cpu` or `mps`.
        make_evaluation: called in the first process.
        command: what starts this program once more with the same arguments; for `--gpus` without
            `torchrun`.

    Returns:
        The exit code.

    Raises:
        UserError: `torchrun` has started another number of processes than planned, or what `setup`
            and `train` raise.
    """
    gpus = job.config.gpus if isinstance(job, Plan) else job.gpus
    if gpus > 1 and device.type == 'mps':
        raise dnnlib.UserError(f'--gpus={gpus}: --device=mps is one GPU')
    if gpus > 1 and not distributed.is_child():
        if device.type == 'cuda' and torch.cuda.device_count() < gpus:
            raise dnnlib.UserError(f'--gpus={gpus}: this machine has {torch.cuda.device_count()}')
        if device.type == 'cpu' and gpus > max(os.cpu_count() or 1, MIN_PROCESSES):
            raise dnnlib.UserError(
                f'--gpus={gpus}: more processes than this machine has cores ({os.cpu_count()})'
            )
        return distributed.launch(command, gpus)
    with distributed.join(device.type) as ranks, contextlib.ExitStack() as stack:
        if ranks.count != gpus:
            raise dnnlib.UserError(
                f'{ranks.count} processes were started for a run with '
                f'--gpus={gpus}; they must be as many'
            )
        if device.type == 'cuda':
            device = torch.device('cuda', ranks.local_rank)
        if isinstance(job, Continuation) and ranks.is_main:
            stack.enter_context(claim(job.run_dir))
        ranks.wait_for_main()  # nobody reads a state before the folder is claimed
        plan = job if isinstance(job, Plan) else plan_continuation(job)
        if plan.config.gpus != ranks.count:
            raise dnnlib.UserError(
                f'{ranks.count} processes were started for a run of {plan.config.gpus}; '
                'they must be as many'
            )
        # before anything is written: it may not fit
        run = setup(
            plan.config,
            plan.dataset,
            device,
            plan.state,
            ranks,
            trust_pickle=plan.trust_pickle,
        )
        run.notes = [*plan.notes, *run.notes]
        evaluation = make_evaluation(run) if ranks.is_main else None
        folder = _open_run_dir(plan, run, stack) if ranks.is_main else None
        folder = Path(ranks.gather(str(folder or ''))[0])
        handler = logging.StreamHandler(sys.stdout)
        level = logging.INFO if ranks.is_main else logging.ERROR
        handler.setFormatter(_PlainLine())
        logging.basicConfig(level=level, handlers=[handler], force=True)
        logging.info(
            'Run: %s%s',
            folder,
            '' if plan.state is None else f', continued at {run.cur_nimg / 1000:.1f} kimg',
        )
        return train(run, folder, evaluation)


def _open_run_dir(plan: Plan, run: Run, stack: contextlib.ExitStack) -> Path:
    """Make a new run folder and claim it, or tidy the one to go on in; log to it from now on."""
    folder = plan.run_dir
    if folder is None:
        folder = make_run_dir(plan.outdir or Path(), run.config)
        stack.enter_context(claim(folder))
    else:
        remove_leftovers(folder)
        cut_logs(folder, plan.state)
        save_options(folder, run.config)
    stack.enter_context(dnnlib.Logger(folder / 'log.txt'))
    return folder
