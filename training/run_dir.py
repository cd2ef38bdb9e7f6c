"""Run folders: their names, the settings in them, and which snapshots are kept."""

import contextlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dnnlib import UserError, atomic_path

from .config import TrainingConfig, run_name

OPTIONS = 'training_options.json'
INDEX = 'snapshots.json'


def make_run_dir(outdir: Path, config: TrainingConfig) -> Path:
    """A new folder `00000-NAME` with the next free number, and `training_options.json` in it from its first moment on.

    Raises:
        UserError: it can't be made.
    """
    temp = None
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(dir=outdir, prefix='.run.'))
        save_options(temp, config)
        umask = os.umask(0)
        os.umask(umask)
        temp.chmod(0o777 & ~umask)  # mkdtemp's 0700 is not what a shared folder should have
        while True:
            numbers = [int(match[0]) for entry in outdir.iterdir() if (match := re.match(r'\d+', entry.name))]
            path = outdir / f'{max(numbers, default=-1) + 1:05d}-{run_name(config)}'
            if not path.exists():
                return temp.rename(path)
    except OSError as error:
        if temp is not None:
            shutil.rmtree(temp, ignore_errors=True)
        raise UserError(f'--outdir={outdir}: cannot be written: {error.strerror or error}') from error


def save_options(run_dir: Path, config: TrainingConfig) -> None:
    """Write `training_options.json`."""
    _write_json(run_dir / OPTIONS, config.to_dict())


def load_options(run_dir: Path) -> dict[str, Any]:
    """Read `training_options.json`, ours or another program's; empty where there is none.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        options = json.loads((run_dir / OPTIONS).read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f'{run_dir / OPTIONS}: cannot be read: {error}') from error
    if not isinstance(options, dict):
        raise UserError(f'{run_dir / OPTIONS}: no JSON object')
    return options


def options_text(config: TrainingConfig) -> str:
    """The settings as readable JSON."""
    return json.dumps(config.to_dict(), indent=2)


@contextlib.contextmanager
def claim(run_dir: Path, patience: float = 10.0) -> Iterator[None]:
    """Hold a run folder, so that no other process goes on with the same run. The system lets go when the process ends, however it does.

    Args:
        patience: seconds to wait for another process, whose workers may outlive it for a moment.

    Raises:
        UserError: another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle, deadline = os.open(run_dir, os.O_RDONLY), time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(f'{run_dir}: another process is going on with this run') from None
                time.sleep(0.2)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)


def remove_leftovers(run_dir: Path) -> None:
    """Delete the temporary files that a killed process has left."""
    for path in run_dir.glob('.*.tmp*'):
        path.unlink(missing_ok=True)


# ----------------------------------------------------------------------------
# Snapshots


def add_snapshot(run_dir: Path, name: str, cur_nimg: int, metrics: Mapping[str, float], metric: str | None = None,
                 keep: int | None = None) -> None:
    """Enter a snapshot in `snapshots.json`, which names the last and the best, and delete those that are to be kept no longer.

    Args:
        name: of the file, which exists.
        cur_nimg: pictures seen.
        metrics: its results.
        metric: which of them (a distance: less is better) decides what is best; None for the one that has done so before.
        keep: the newest so many stay, and the best; None keeps all.
    """
    index = _load_index(run_dir)
    metric = metric or index.get('metric')
    rows = [row for row in load_snapshots(run_dir) if row['file'] != name and (run_dir / row['file']).exists()]
    rows.append({'file': name, 'kimg': cur_nimg / 1000, 'metrics': dict(metrics)})
    rows.sort(key=lambda row: row['kimg'])
    judged = [row for row in rows if math.isfinite(row['metrics'].get(metric, math.nan))]
    former = next((row for row in rows if row['file'] == index.get('best') and metric not in row['metrics']), None)  # of another metric
    best = min(judged, key=lambda row: row['metrics'][metric], default=former)
    kept = [row for i, row in enumerate(rows) if keep is None or i >= len(rows) - keep or row is best or row is former]
    for row in rows:
        if row not in kept:
            (run_dir / row['file']).unlink(missing_ok=True)
    _write_json(run_dir / INDEX, {'last': rows[-1]['file'], 'best': best['file'] if best else None, 'metric': metric, 'snapshots': kept})


def load_snapshots(run_dir: Path) -> list[dict[str, Any]]:
    """The entries of `snapshots.json`: `file`, `kimg`, `metrics`; none where it is missing or damaged."""
    try:
        return [row for row in _load_index(run_dir)['snapshots']
                if re.fullmatch(r'network-snapshot-\d+\.pkl', row['file']) and isinstance(row['metrics'], dict) and row['kimg'] >= 0]
    except (KeyError, TypeError):
        return []


def _load_index(run_dir: Path) -> dict[str, Any]:
    try:
        index = json.loads((run_dir / INDEX).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}


def _write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temp:
        temp.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
