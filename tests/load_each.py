"""Load every file of a folder in a process of its own; report outcome, memory and message. Run by test_hostile.py."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from dnnlib import UserError  # noqa: E402
from training.checkpoint import load_networks  # noqa: E402


def memory(field: str) -> int | None:
    """Bytes of this process: VmRSS now, VmHWM at most. None where the system doesn't tell."""
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def attempt(path: Path, seconds: int) -> dict[str, Any]:
    signal.alarm(seconds)
    before = memory('VmRSS')
    message, start = '', time.monotonic()
    try:
        load_networks(path)
        outcome = 'loaded'
    except UserError as error:
        outcome, message = 'refused', str(error)
    except BaseException as error:
        outcome, message = type(error).__name__, str(error)
    after = memory('VmHWM')
    used = after - before if after is not None and before is not None else None
    return {'path': str(path), 'outcome': outcome, 'message': message, 'lines': message.count('\n') + 1, 'memory': used, 'seconds': time.monotonic() - start}


def main() -> None:
    folder, report, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    logging.disable()
    torch.set_num_threads(1)  # threads don't survive a fork
    for path in folder.glob('ours*'):
        load_networks(path)  # so that PyTorch has imported what it imports when it is first used
    for path in sorted(folder.iterdir()):
        child = os.fork()
        if child == 0:
            row = attempt(path, seconds)
            with report.open('a') as file:
                file.write(json.dumps(row) + '\n')
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            with report.open('a') as file:
                file.write(json.dumps({'path': str(path), 'outcome': f'killed ({status})', 'message': '', 'lines': 1, 'memory': None}) + '\n')


if __name__ == '__main__':
    main()
