"""Start a run that saves all the time, kill it (SIGKILL), look at what is left, go on; again and
again. Run by test_kill.py.

Prints one JSON object: how often it was killed, how often before there was a state, how far it
came, and what was damaged.
"""

import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import train  # noqa: E402
from training.snapshots import load_networks  # noqa: E402
from training.state import load_state  # noqa: E402


def read_picture(path: Path) -> None:
    Image.open(io.BytesIO(path.read_bytes())).load()


READERS: dict[str, Callable[[Path], object]] = {
    '.pkl': load_networks,
    '.pt': lambda path: torch.load(path, weights_only=True),
    '.png': read_picture,
    '.json': lambda path: json.loads(path.read_text()),
}


def start(*options: str) -> int:
    """A run in a process of its own, quiet."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.setpgid(0, 0)
        os._exit(train.main(options))
    return child


def wait_for_a_run(outdir: Path, child: int) -> None:
    """Wait until a run folder is there, or the process has ended, a minute at most."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(outdir.glob('0*')):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.05)


def main() -> None:
    data, outdir, snapshot, count, seed = sys.argv[1:]
    moments = random.Random(int(seed))
    torch.set_num_threads(1)  # threads don't survive a fork
    load_networks(snapshot)  # what is imported now needn't be imported a hundred times
    beginning = [
        '--outdir',
        outdir,
        '--data',
        data,
        '--device=cpu',
        '--batch=4',
        '--snap=1',
        '--tick=0.004',
        '--kimg=1000',
        '--aug-strength=0.5',
        f'--resume={snapshot}',
        '--keep=3',
        '--seed=7',
    ]
    damaged, unbegun, ended = [], 0, []
    for _ in range(int(count)):
        runs = sorted(path for path in Path(outdir).glob('0*') if path.is_dir())
        unsaved = (
            [f'--resume={snapshot}']
            if runs and not list(runs[0].glob('training-state-*.pt'))
            else []
        )
        child = start(
            *(['--continue', str(runs[0]), '--device=cpu', *unsaved] if runs else beginning)
        )
        if not runs:  # until there is something to lose, however busy the machine is
            wait_for_a_run(Path(outdir), child)
        time.sleep(moments.uniform(0, 3))
        alive = os.waitpid(child, os.WNOHANG)
        if alive != (0, 0):
            ended.append(alive[1])
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        runs = sorted(path for path in Path(outdir).glob('0*') if path.is_dir())
        unbegun += not runs or not list(runs[0].glob('training-state-*.pt'))
        for path in (
            path
            for run_dir in runs
            for path in run_dir.iterdir()
            if not path.name.startswith('.') and path.suffix in READERS
        ):
            try:
                READERS[path.suffix](path)
            except Exception as error:
                damaged.append(f'{path.name}: {type(error).__name__} {error}')
    (run_dir,) = sorted(path for path in Path(outdir).glob('0*') if path.is_dir())
    nimg = (
        load_state(run_dir)['counters']['cur_nimg']
        if list(run_dir.glob('training-state-*.pt'))
        else 0
    )
    print(
        json.dumps(
            {
                'killed': int(count) - len(ended),
                'unbegun': unbegun,
                'nimg': nimg,
                'damaged': damaged,
                'ended': ended,
            }
        )
    )


if __name__ == '__main__':
    main()
