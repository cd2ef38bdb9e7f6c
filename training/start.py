"""From a plan to a run: processes, folders, logs."""

import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import dnnlib
from torch_utils import distributed

from .outputs import Evaluation
from .plan import Plan
from .run import Run, setup
from .run_dir import claim, make_run_dir, remove_leftovers, save_options
from .state import cut_logs
from .training_loop import train


def start(
    make_plan: Callable[[], Plan],
    gpus: int,
    device: torch.device,
    make_evaluation: Callable[[Run], Evaluation | None],
    command: Sequence[str],
    run_dir: Path | None = None,
) -> int:
    """Train as planned, in as many processes as planned.

    Args:
        make_plan: gives the plan; for a continued run it reads the state, which it may only when
            the run's folder is claimed.
        gpus: number of processes.
        device: `cuda`, `cpu` or `mps`.
        make_evaluation: called in the first process.
        command: what starts this program once more with the same arguments; for `--gpus` without
            `torchrun`.
        run_dir: of the run to continue; None for a new run.

    Returns:
        The exit code.

    Raises:
        UserError: `torchrun` has started another number of processes than planned, or what `setup`
            and `train` raise.
    """
    if gpus > 1 and device.type == 'mps':
        raise dnnlib.UserError(f'--gpus={gpus}: --device=mps is one GPU')
    if gpus > 1 and not distributed.is_child():
        if device.type == 'cuda' and torch.cuda.device_count() < gpus:
            raise dnnlib.UserError(f'--gpus={gpus}: this machine has {torch.cuda.device_count()}')
        return distributed.launch(command, gpus)
    with distributed.join(device.type) as ranks, contextlib.ExitStack() as stack:
        if ranks.count != gpus:
            raise dnnlib.UserError(
                f'{ranks.count} processes were started for a run with '
                f'--gpus={gpus}; they must be as many'
            )
        if device.type == 'cuda':
            device = torch.device('cuda', ranks.local_rank)
        if run_dir is not None and ranks.is_main:
            stack.enter_context(claim(run_dir))
        ranks.wait_for_main()  # nobody reads a state before the folder is claimed
        plan = make_plan()
        # before anything is written: it may not fit
        run = setup(plan.config, plan.dataset, device, plan.state, ranks, plan.trust_pickle)
        run.notes = [*plan.notes, *run.notes]
        evaluation = make_evaluation(run) if ranks.is_main else None
        folder = plan.run_dir
        if ranks.is_main:
            if folder is None:
                folder = make_run_dir(plan.outdir or Path(), run.config)
                stack.enter_context(claim(folder))
            else:
                remove_leftovers(folder)
                cut_logs(folder, plan.state)
                save_options(folder, run.config)
            stack.enter_context(dnnlib.Logger(folder / 'log.txt'))
        folder = Path(ranks.gather(str(folder) if ranks.is_main else '')[0])
        handler = logging.StreamHandler(sys.stdout)
        level = logging.INFO if ranks.is_main else logging.ERROR
        logging.basicConfig(level=level, format='%(message)s', handlers=[handler], force=True)
        logging.info(
            'Run: %s%s',
            folder,
            '' if plan.state is None else f', continued at {run.cur_nimg / 1000:.1f} kimg',
        )
        return train(run, folder, evaluation)
