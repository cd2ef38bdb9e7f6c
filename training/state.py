"""Training states: save, load and check `training-state-*.pt`, from which `--continue` goes on.

What is in one is decided by `Run.state_dict`.
"""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from dnnlib import UserError, atomic_path
from dnnlib.util import is_out_of_memory
from torch_utils.misc import save_plain
from torch_utils.torch_file import load_plain

from .config import TrainingConfig, merge
from .run import Run
from .run_dir import STATE_NAME, counter_name, own_files

VERSION = 2


def save_state(run: Run, run_dir: Path) -> Path:
    """Save everything that the next step depends on, and remove older states once this one is safe.

    All processes must call it; the first one writes. What is saved already is not saved again.

    Raises:
        UserError: the file can't be written; the older state is still there.
    """
    path = run_dir / f'training-state-{counter_name(run.cur_nimg, run.config.batch_size)}.pt'
    if run.saved_nimg == run.cur_nimg:
        return path
    state = run.state_dict()
    if run.ranks.is_main:
        stats = run_dir / 'stats.jsonl'
        logs = {stats.name: stats.stat().st_size if stats.exists() else 0}
        with atomic_path(path) as temp:
            save_plain({'version': VERSION, **state, 'logs': logs}, temp)
    run.saved_nimg, run.saved_at = run.cur_nimg, time.time()
    if run.ranks.is_main:
        for old in own_files(run_dir, STATE_NAME):
            if old != path:
                old.unlink()
    run.ranks.wait_for_main()  # whoever ended before it would have the launcher end it, too
    return path


def load_state(run_dir: Path) -> dict[str, Any]:
    """Load the newest state of a run folder; damaged ones are skipped while an older one is whole.

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
            if is_out_of_memory(error):
                raise
            problem = f'{path} is damaged ({(str(error).splitlines() or [""])[0][:120]})'
    raise UserError(f'--continue={run_dir}: {problem}')


def config_of(state: dict[str, Any]) -> TrainingConfig:
    """Return the settings that a state was saved under."""
    return merge(TrainingConfig(), stored_settings(json.loads(state['config'])), 'training state')


def stored_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a state or a run folder without what is never taken from a file.

    Older versions stored `trust_pickle`; permission to execute a pickle comes from the command
    line alone.
    """
    return {key: value for key, value in settings.items() if key != 'trust_pickle'}


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
        lines = path.read_text(encoding='utf-8', errors='replace').splitlines(keepends=True)
        kept = [line for line in lines if _is_whole(line) and _kimg_of_line(line) <= reached]
        if kept != lines:
            with atomic_path(path) as temp:
                temp.write_text(''.join(kept), encoding='utf-8')


def _is_whole(line: str) -> bool:
    """Return whether a line of JSON was written to its end."""
    return line.startswith('{') and line.endswith('}\n')


def _kimg_of_line(line: str) -> float:
    """The counter of the snapshot that a line of `metric-*.jsonl` is about; 0 if it names none."""
    match = re.search(r'network-snapshot-(\d{6,9}(?:\.\d{3})?)\.pkl', line)
    return float(match[1]) if match else 0.0
