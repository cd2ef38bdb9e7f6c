"""The exact state of a run: `training-state-*.pt`, from which `--continue` goes on as if nothing
had happened.
"""

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dnnlib import UserError, atomic_path
from torch_utils import persistence
from torch_utils.misc import named_tensors, save_plain
from torch_utils.torch_file import load_plain

from .augment import AugmentPipe
from .config import TrainingConfig, merge
from .networks import Discriminator, Generator
from .run_dir import STATE_NAME, counter_name, own_files

if TYPE_CHECKING:
    from .training_loop import Run

VERSION = 2
CLASSES: dict[str, type[torch.nn.Module]] = {
    'G': Generator,
    'D': Discriminator,
    'G_ema': Generator,
    'augment_pipe': AugmentPipe,
}


def save_state(run: 'Run', run_dir: Path) -> Path:
    """Save everything that the next step depends on, and remove older states once this one is safe.

    All processes must call it; the first one writes. What is saved already is not saved again.

    Raises:
        UserError: the file can't be written; the older state is still there.
    """
    path = run_dir / f'training-state-{counter_name(run.cur_nimg, run.config.batch_size)}.pt'
    if run.saved_nimg == run.cur_nimg:
        return path
    rng = run.ranks.gather(torch.get_rng_state())
    cuda_rng = (
        run.ranks.gather(torch.cuda.get_rng_state(run.device))
        if run.device.type == 'cuda'
        else None
    )
    own = {
        'stats': run.stats.state(),
        'ada_signs': run.ada.signs.cpu() if run.ada is not None else None,
    }
    # what the processes have gathered since they last told one another
    owned = run.ranks.gather(own)
    if not run.ranks.is_main:
        run.saved_nimg, run.saved_at = run.cur_nimg, time.time()
        return path
    state = {
        'version': VERSION,
        'data': run.dataset.fingerprint,
        'config': json.dumps(run.config.to_dict()),
        'meta': json.dumps(run.meta),
        'networks': {
            name: _pack(getattr(run, name)) for name in CLASSES if getattr(run, name) is not None
        },
        'optimizers': {
            phase.name: phase.optimizer.state_dict()
            for phase in run.phases
            if phase.name in ('Gmain', 'Dmain')
        },
        'counters': dict(
            cur_nimg=run.cur_nimg,
            step=run.step,
            tick=run.tick,
            start_nimg=run.start_nimg,
            tick_nimg=run.tick_nimg,
        ),
        'pl_mean': run.losses.pl_mean.cpu(),
        'owned': owned,
        'rng': rng,
        'cuda_rng': cuda_rng,
        'logs': {'stats.jsonl': (run_dir / 'stats.jsonl').stat().st_size},
        'elapsed': run.elapsed + time.time() - run.clock,
    }
    with atomic_path(path) as temp:
        save_plain(state, temp)
    run.saved_nimg, run.saved_at = run.cur_nimg, time.time()
    for old in own_files(run_dir, STATE_NAME):
        if old != path:
            old.unlink()
    return path


def load_state(run_dir: Path) -> dict[str, Any]:
    """The newest state of a run directory; damaged ones are passed over while an older one is
    whole.

    Raises:
        UserError: there is no state in it, or none that can be read.
    """
    states = own_files(run_dir, STATE_NAME)
    paths = sorted(states, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if not paths:
        raise UserError(
            f'--continue={run_dir}: there is no training-state-*.pt in it; --resume '
            f'starts a new run from a snapshot'
        )
    problem = ''
    for path in paths:
        try:
            state = load_plain(path)
            if isinstance(state, dict) and state.get('version') == VERSION:
                config_of(state)  # what is wrong with it is found now
                if {'networks', 'optimizers', 'counters', 'rng', 'owned', 'logs'} <= state.keys():
                    return state
            problem = f'{path} is of another version'
        except Exception as error:  # whatever the reason, it is the file's
            problem = f'{path} is damaged ({(str(error).splitlines() or [""])[0][:120]})'
    raise UserError(f'--continue={run_dir}: {problem}')


def config_of(state: dict[str, Any]) -> TrainingConfig:
    """The settings that a state was saved under."""
    return merge(TrainingConfig(), stored_settings(json.loads(state['config'])), 'training state')


def stored_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a state or a run folder without what is never taken from a file.

    Older versions stored `trust_pickle`; permission to execute a pickle comes from the command
    line alone.
    """
    return {key: value for key, value in settings.items() if key != 'trust_pickle'}


def networks_of(state: dict[str, Any]) -> dict[str, Any]:
    """The networks of a state, on the CPU; None for those that it doesn't have."""
    packed = state['networks']
    return {
        name: persistence.build(
            cls, json.loads(packed[name]['kwargs']), packed[name]['tensors'], name
        )
        if name in packed
        else None
        for name, cls in CLASSES.items()
    }


def restore(run: 'Run', state: dict[str, Any]) -> None:
    """Put a freshly set up run, whose networks are those of the state, where the state was saved.
    The random state comes last.

    Raises:
        UserError: the data are others than they were.
    """
    if state['data'] != run.dataset.fingerprint:
        raise UserError(
            f'{run.config.data.path} has changed since the run was stopped: other '
            f'names, numbers, shapes or labels'
        )
    rank = run.ranks.rank
    own = state['owned'][rank]
    for phase in run.phases:
        if phase.name in state['optimizers']:
            phase.optimizer.load_state_dict(state['optimizers'][phase.name])
    for name, value in state['counters'].items():
        setattr(run, name, value)
    run.meta = json.loads(state['meta'])
    run.losses.pl_mean.copy_(state['pl_mean'])
    if run.ada is not None:
        run.ada.signs.copy_(own['ada_signs'])
    run.stats.load_state(own['stats'], run.device)
    torch.set_rng_state(state['rng'][rank])
    if run.device.type == 'cuda' and state['cuda_rng'] is not None:
        torch.cuda.set_rng_state(state['cuda_rng'][rank], run.device)


def cut_logs(run_dir: Path, state: dict[str, Any] | None) -> None:
    """Drop the statistics and metrics that were logged after the state was saved.

    They will be logged again. `log.txt` is only ever appended to. Metrics of the snapshot that
    belongs to the state are kept: they are computed after the state is saved.

    Args:
        state: of `load_state`; None for a run that begins again.
    """
    sizes = state['logs'] if state is not None else {}
    stats = run_dir / 'stats.jsonl'
    if stats.exists() and stats.stat().st_size > sizes.get(stats.name, 0):
        os.truncate(stats, sizes.get(stats.name, 0))
    reached = state['counters']['cur_nimg'] / 1000 if state is not None else -1.0
    for path in own_files(run_dir, re.compile(r'metric-\w+\.jsonl')):
        lines = path.read_text(encoding='utf-8').splitlines(keepends=True)
        kept = [line for line in lines if _is_whole(line) and _kimg_of_line(line) <= reached]
        if kept != lines:
            with atomic_path(path) as temp:
                temp.write_text(''.join(kept), encoding='utf-8')


def _is_whole(line: str) -> bool:
    """Whether a line of JSON was written to its end."""
    return line.startswith('{') and line.endswith('}\n')


def _kimg_of_line(line: str) -> float:
    """The counter of the snapshot that a line of `metric-*.jsonl` is about; 0 if it names none."""
    match = re.search(r'network-snapshot-(\d{6,9}(?:\.\d{3})?)\.pkl', line)
    return float(match[1]) if match else 0.0


def _pack(module: torch.nn.Module) -> dict[str, Any]:
    return {
        'kwargs': json.dumps(persistence.constructor_kwargs(module)),
        'tensors': {name: tensor.detach().cpu() for name, tensor in named_tensors(module)},
    }
