"""Run folders: their names, the files that belong to them, and which snapshots are kept."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dnnlib import UserError, atomic_path
from dnnlib.reading import read_json

from .config import TrainingConfig, run_name
from .ranking import Criterion

OPTIONS = 'training_options.json'
INDEX = 'snapshots.json'
MAX_KIMG = 1e12

# Only files of these names are ever read, changed or deleted in a run folder.
_COUNTER = r'\d{6,9}(?:\.\d{3})?'
SNAPSHOT_NAME = re.compile(rf'network-snapshot-{_COUNTER}\.pkl')
STATE_NAME = re.compile(rf'training-state-{_COUNTER}\.pt')
SHEET_NAME = re.compile(rf'(?:fakes(?P<counter>{_COUNTER})|fakes_init|reals|progress)\.png')
LOG_NAME = re.compile(r'log\.txt|stats\.jsonl|metric-\w+\.jsonl')
_OWN = (SNAPSHOT_NAME, STATE_NAME, SHEET_NAME, LOG_NAME, re.compile(f'{OPTIONS}|{INDEX}'))
_TEMPORARY = re.compile(
    rf'\.(?:network-snapshot-{_COUNTER}|training-state-{_COUNTER}|fakes{_COUNTER}|fakes_init|reals'
    r'|progress|training_options|snapshots|stats|metric-\w+)\.[a-z0-9_]{8}\.tmp\.(?:pkl|pt|png|jsonl?)'
)


def counter_name(cur_nimg: int, batch_size: int) -> str:
    """Return the counter as it stands in the names of snapshots, states and sheets.

    Args:
        cur_nimg: pictures seen.
        batch_size: pictures a step.

    Returns:
        Whole kimg as six digits, as NVIDIA's names have them, if this is the first step of that
        kimg; else with three decimals, so that no two steps of a run share a name.
    """
    kimg, rest = divmod(cur_nimg, 1000)
    return f'{kimg:06d}' if rest < batch_size else f'{kimg:06d}.{rest:03d}'


def own_files(run_dir: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Return the regular files of a run folder whose whole names match, sorted by name."""
    return sorted(
        path
        for path in run_dir.iterdir()
        if pattern.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    )


def make_run_dir(outdir: Path, config: TrainingConfig) -> Path:
    """Make a new folder `00000-NAME` with the next free number; it holds its options from the
    start.

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
            numbers = [
                int(match[0])
                for entry in outdir.iterdir()
                if (match := re.match(r'\d+', entry.name))
            ]
            path = outdir / f'{max(numbers, default=-1) + 1:05d}-{run_name(config)}'
            if path.exists():
                continue
            try:
                return temp.rename(path)
            except OSError as error:  # another run has just taken the number
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f'--outdir={outdir}: {error.filename} is a file, not a folder') from error
    except OSError as error:
        raise UserError(
            f'--outdir={outdir}: cannot be written: {error.strerror or error}'
        ) from error
    finally:
        if temp is not None:
            shutil.rmtree(temp, ignore_errors=True)


def save_options(run_dir: Path, config: TrainingConfig) -> None:
    """Write `training_options.json`."""
    _write_json(run_dir / OPTIONS, config.to_dict())


def load_options(run_dir: Path) -> dict[str, Any]:
    """Read `training_options.json`, ours or another program's; empty where there is none.

    Raises:
        UserError: it is no JSON object.
    """
    return read_json(run_dir / OPTIONS) if (run_dir / OPTIONS).exists() else {}


def options_text(config: TrainingConfig) -> str:
    """Return the settings as readable JSON."""
    return json.dumps(config.to_dict(), indent=2)


@contextlib.contextmanager
def claim(run_dir: Path, patience: float = 10.0) -> Iterator[None]:
    """Hold a run folder, so that no other process goes on with the same run.

    The operating system releases it when the process ends, however that happens.

    Args:
        patience: seconds to wait for another process, whose workers may outlive it for a moment.

    Raises:
        UserError: there is no such folder, or another process holds it.
    """
    if not run_dir.is_dir():
        raise UserError(f'--continue={run_dir}: no such run folder')
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
                    raise UserError(
                        f'{run_dir}: another process is going on with this run'
                    ) from None
                time.sleep(0.2)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)


def refuse_links(run_dir: Path) -> None:
    """Refuse a run folder in which a file of the run is a link, a pipe or a device.

    A link would let a stranger's run folder append to, or cut, any file of the user's.

    Raises:
        UserError: naming the file.
    """
    for path in sorted(run_dir.iterdir()):
        is_ours = any(pattern.fullmatch(path.name.casefold()) for pattern in _OWN)
        if is_ours and (path.is_symlink() or not path.is_file()):
            raise UserError(
                f'{path}: not a regular file (a link, a folder, a pipe or a device), '
                f'so it '
                'was not written by a training run; remove it to go on'
            )


def remove_leftovers(run_dir: Path) -> None:
    """Delete the temporary files that a killed process has left, and nothing else."""
    for path in own_files(run_dir, _TEMPORARY):
        path.unlink(missing_ok=True)


# ----------------------------------------------------------------------------
# Snapshots


def add_snapshot(
    run_dir: Path,
    name: str,
    cur_nimg: int,
    metrics: Mapping[str, float],
    criterion: Criterion | None = None,
    keep: int | None = None,
) -> None:
    """Enter a snapshot in `snapshots.json`, and delete those that need not be kept any longer.

    Args:
        name: of the file, which exists.
        cur_nimg: pictures seen.
        metrics: its results; empty if there are none yet.
        criterion: decides which snapshot is the best; None for the one that has done so before.
        keep: keep the newest n and the best; None keeps all.
    """
    index = _load_index(run_dir)
    criterion = criterion or _criterion_of(index)
    rows = [
        row
        for row in load_snapshots(run_dir)
        if row['file'] != name and (run_dir / row['file']).exists()
    ]
    rows.append({'file': name, 'kimg': cur_nimg / 1000, 'metrics': dict(metrics)})
    rows.sort(key=lambda row: row['kimg'])
    best = criterion.best(rows) if criterion is not None else None
    # those that other metrics chose stay, until they compete by this one
    chosen = {index.get('best'), *_strings(index.get('former_best'))}
    former = [
        row
        for row in rows
        if row['file'] in chosen and (criterion is None or criterion.key not in row['metrics'])
    ]
    best = best or next(iter(former), None)
    kept = [
        row
        for i, row in enumerate(rows)
        if keep is None or i >= len(rows) - keep or row is best or row in former
    ]
    for row in rows:
        if row not in kept:
            (run_dir / row['file']).unlink(missing_ok=True)
    _write_json(
        run_dir / INDEX,
        {
            'last': rows[-1]['file'],
            'best': best['file'] if best else None,
            'metric': criterion.key if criterion else None,
            'higher_is_better': criterion.higher_is_better if criterion else None,
            'former_best': [row['file'] for row in former if row is not best],
            'snapshots': kept,
        },
    )


def _strings(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def load_snapshots(run_dir: Path) -> list[dict[str, Any]]:
    """Return the entries of `snapshots.json` (`file`, `kimg`, `metrics`); none if it is damaged."""
    rows = _load_index(run_dir).get('snapshots')
    return [row for row in rows if _is_row(row)] if isinstance(rows, list) else []


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get('metrics'), dict):
        return False
    name, kimg = row.get('file'), row.get('kimg')
    has_kimg = isinstance(kimg, (int, float)) and 0 <= kimg < MAX_KIMG
    return has_kimg and isinstance(name, str) and SNAPSHOT_NAME.fullmatch(name) is not None


def _criterion_of(index: dict[str, Any]) -> Criterion | None:
    key = index.get('metric')
    return Criterion(key, index.get('higher_is_better') is True) if isinstance(key, str) else None


def _load_index(run_dir: Path) -> dict[str, Any]:
    try:
        return read_json(run_dir / INDEX)
    except UserError:
        return {}


def _write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temp:
        temp.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
