"""From a plan to a run: processes, folders, logs."""

import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import dnnlib
from torch_utils import distributed

from .options import Plan
from .outputs import Evaluate
from .run_dir import claim, make_run_dir, remove_leftovers, save_options
from .state import cut_logs
from .training_loop import Run, setup, train


def start(plan: Plan, device: torch.device, make_evaluate: Callable[[Run], Evaluate | None], command: Sequence[str]) -> int:
    """Train as planned, in as many processes as planned.

    Args:
        device: `cuda`, `mps` or `cpu`.
        make_evaluate: called in the first process.
        command: what starts this program once more with the same arguments; for `--gpus` without `torchrun`.

    Returns:
        The exit code.

    Raises:
        UserError: `torchrun` has started another number of processes than planned, or what `setup` and `train` raise.
    """
    if plan.config.gpus > 1 and device.type == 'mps':
        raise dnnlib.UserError(f'--gpus={plan.config.gpus}: --device=mps is one GPU')
    if plan.config.gpus > 1 and not distributed.is_child():
        if device.type == 'cuda' and torch.cuda.device_count() < plan.config.gpus:
            raise dnnlib.UserError(f'--gpus={plan.config.gpus}: this machine has {torch.cuda.device_count()}')
        return distributed.launch(command, plan.config.gpus)
    with distributed.join(device.type) as ranks:
        if ranks.count != plan.config.gpus:
            raise dnnlib.UserError(f'{ranks.count} processes were started for a run with --gpus={plan.config.gpus}; they must be as many')
        if device.type == 'cuda':
            device = torch.device('cuda', ranks.local_rank)
        run = setup(plan.config, plan.dataset, device, plan.state, ranks)  # before anything is written: the snapshot may not fit
        run.notes = [*plan.notes, *run.notes]
        evaluate = make_evaluate(run) if ranks.is_main else None
        with contextlib.ExitStack() as stack:
            if ranks.is_main:
                run_dir = plan.run_dir or make_run_dir(plan.outdir or Path(), run.config)
                stack.enter_context(claim(run_dir))
                if plan.run_dir is not None:
                    remove_leftovers(run_dir)
                    cut_logs(run_dir, plan.state)
                    save_options(run_dir, run.config)
                stack.enter_context(dnnlib.Logger(run_dir / 'log.txt'))
            run_dir = Path(ranks.gather(str(run_dir) if ranks.is_main else '')[0])
            handler = logging.StreamHandler(sys.stdout)
            level = logging.INFO if ranks.is_main else logging.ERROR
            logging.basicConfig(level=level, format='%(message)s', handlers=[handler], force=True)
            logging.info('Run: %s%s', run_dir, '' if plan.state is None else f', continued at {run.cur_nimg / 1000:.1f} kimg')
            return train(run, run_dir, evaluate)
