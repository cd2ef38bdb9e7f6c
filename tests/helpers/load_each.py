"""Load every file of a folder in a process of its own; report outcome, memory and message. Run by
test_hostile.py and test_doors.py.

What a file is read as stands at the beginning of its name, before `--`; without that it is a
snapshot.
"""

import contextlib
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import prepare_data  # noqa: E402
from dataset_tools.image.decode import BadPicture, decode_rgb  # noqa: E402
from dnnlib import UserError  # noqa: E402
from dnnlib.image_decoding import decode_picture  # noqa: E402
from dnnlib.reading import read_json, read_npz  # noqa: E402
from metrics.feature_cache import load_statistics  # noqa: E402
from metrics.image_set import PictureSet  # noqa: E402
from torch_utils.torch_file import load_plain  # noqa: E402
from training.dataset import ImageFolderDataset  # noqa: E402
from training.snapshots import load_networks  # noqa: E402


def read_set(path: Path) -> None:
    data = ImageFolderDataset(
        path, use_labels=any(word in path.name for word in ('json', 'label', 'many folders'))
    )
    for i in range(len(data)):
        data.load(i)


def read_pictures(path: Path) -> None:
    for _ in PictureSet(path).batches():
        pass


def read_picture(path: Path) -> None:
    """By both decoders; they must agree."""
    refused = 0
    try:
        decode_rgb(path.read_bytes())
    except BadPicture as error:
        refused, message = 1, f'{error.kind}: {error.reason}'
    decode_picture(path.read_bytes())
    if refused:
        raise UserError(message)


def prepare(path: Path) -> None:
    """One line on stderr is what a person reads."""
    with (
        contextlib.redirect_stderr(io.StringIO()) as said,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = prepare_data.main(
            [
                '--source',
                str(path),
                '--dest',
                str(path.with_name(path.name + '.dest.zip')),
                '--resolution',
                '8',
                '--workers',
                '1',
            ]
        )
    path.with_name(path.name + '.dest.zip').unlink(missing_ok=True)
    assert code in (0, 2), said.getvalue()
    if said.getvalue():
        raise UserError(said.getvalue().strip().splitlines()[-1])


READERS: dict[str, Callable[[Path], Any]] = {
    'snapshot': load_networks,
    'plain': load_plain,
    'json': read_json,
    'statistics': load_statistics,
    'set': read_set,
    'pictures': read_pictures,
    'arrays': lambda path: read_npz(path, lambda name: name == 'w', ('w',)),
    'picture': read_picture,
    'prepare': prepare,
}


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
        kind = path.name.partition('--')[0] if '--' in path.name else 'snapshot'
        READERS[kind](path)
        outcome = 'loaded'
    except UserError as error:
        outcome, message = 'refused', str(error)
    except BaseException as error:
        outcome, message = type(error).__name__, str(error)
    after = memory('VmHWM')
    used = after - before if after is not None and before is not None else None
    return {
        'path': str(path),
        'outcome': outcome,
        'message': message,
        'lines': message.count('\n') + 1,
        'memory': used,
        'seconds': time.monotonic() - start,
    }


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
                file.write(
                    json.dumps(
                        {
                            'path': str(path),
                            'outcome': f'killed ({status})',
                            'message': '',
                            'lines': 1,
                            'memory': None,
                        }
                    )
                    + '\n'
                )


if __name__ == '__main__':
    main()
