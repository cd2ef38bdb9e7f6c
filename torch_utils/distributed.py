"""Several processes that train one network: who is who, sums over all of them, and a launcher for
one machine.

The processes find each other as `torchrun` arranges it, by `RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR
MASTER_PORT`, or, if `launch` has started them, by a file in a private folder, over the loopback
interface alone.
"""

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnnlib import UserError

# for the processes that `launch` starts: the file by which they find each other
MEETING_PLACE = 'TOONIFY_MEETING_PLACE'
TIMEOUT = datetime.timedelta(minutes=30)  # for a peer that neither answers nor ends
# for the first process, while it evaluates a snapshot
METRICS_TIMEOUT = datetime.timedelta(days=30)
GRACE_SECONDS = 20.0  # for a process whose peer is lost, to be ended by whoever started it


class PeerLost(UserError):
    """Another process has ended. The reason stands in its own message."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run.

    Attributes:
        rank: number of this process, 0 for the one that writes.
        count: how many there are.
        local_rank: number on this machine, and of its GPU.
        control: the group for decisions of the hosts (gloo on the CPU); None when alone.
        patient: a group like `control` that waits for as long as a metric may take.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    control: Any = None
    patient: Any = None

    @property
    def is_main(self) -> bool:
        """Return whether this process logs and writes files."""
        return self.rank == 0

    def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace float tensors by their means over all processes, in one reduction of all of them
        together.

        Raises:
            PeerLost: another process has ended.
        """
        self.sum_(tensors)
        if self.count > 1:
            torch._foreach_div_(list(tensors), self.count)

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors of one dtype and device by their sums over all processes, in one
        reduction of all of them together.
        """
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        with _peers():
            torch.distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors)]
        )

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank, at every process. Waits for the hosts, not for the
        GPUs.

        Args:
            value: plain data: what JSON can hold, and CPU tensors, in dicts and lists. Nothing is
                unpickled: what arrives over a network could be anybody's.
        """
        if self.count == 1:
            return [value]
        packed = _pack(value)
        with _peers():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            torch.distributed.all_gather(sizes, torch.tensor([len(packed)]), group=self.control)
            longest = max(int(size) for size in sizes)
            padded = torch.nn.functional.pad(packed, (0, longest - len(packed)))
            parts = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.count)]
            torch.distributed.all_gather(parts, padded, group=self.control)
        return [_unpack(part[: int(size)]) for part, size in zip(parts, sizes)]

    def wait_for_main(self) -> None:
        """Wait until all processes are here: while the first one evaluates a snapshot, this may
        take hours.
        """
        if self.count > 1:
            with _peers():
                torch.distributed.barrier(group=self.patient)

    def flags(self, *values: int) -> list[int]:
        """The greatest of everybody's numbers, one by one."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values)
        with _peers():
            torch.distributed.all_reduce(
                tensor, op=torch.distributed.ReduceOp.MAX, group=self.control
            )
        return tensor.tolist()


ALONE = Ranks()

_DTYPES = {str(dtype): dtype for dtype in (torch.uint8, torch.int64, torch.float32, torch.float64)}


def _pack(value: Any) -> torch.Tensor:
    """Return plain data as bytes, uint8 `[N]`: the length of a JSON text, the text, the tensors'
    bytes.
    """
    tensors: list[torch.Tensor] = []

    def describe(tensor: Any) -> dict[str, Any]:
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f'{type(tensor).__name__} is no plain data')
        tensors.append(tensor.contiguous())
        return {'tensor': str(tensor.dtype), 'shape': list(tensor.shape)}

    text = json.dumps(value, default=describe).encode()
    header = torch.frombuffer(bytearray(len(text).to_bytes(8, 'little') + text), dtype=torch.uint8)
    return torch.cat([header, *(tensor.reshape(-1).view(torch.uint8) for tensor in tensors)])


def _unpack(data: torch.Tensor) -> Any:
    """Return what `_pack` was given."""
    start = 8 + int.from_bytes(bytes(data[:8].tolist()), 'little')
    position = start

    def restore(row: dict[str, Any]) -> Any:
        nonlocal position
        if row.keys() != {'tensor', 'shape'}:
            return row
        dtype = _DTYPES[row['tensor']]
        size = torch.Size(row['shape']).numel() * dtype.itemsize
        part = data[position : position + size].clone()
        position += size
        return part.view(dtype).reshape(row['shape'])

    return json.loads(bytes(data[8:start].tolist()), object_hook=restore)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(
            f'another process has ended ({(str(error).splitlines() or ["?"])[0][:120]})'
        ) from error


@contextlib.contextmanager
def join(device_type: str) -> Iterator[Ranks]:
    """Be one of the processes that the environment tells of; alone where it tells of none.

    A process whose peer is lost waits a moment for the end that comes from outside, so that the
    peer's error is the one that is read.

    Args:
        device_type: `cuda` (NCCL) or `cpu` (gloo).

    Raises:
        UserError: fewer GPUs than processes on this machine.
    """
    count = int(os.environ.get('WORLD_SIZE', '1'))
    if count == 1:
        yield Ranks()
        return
    rank, local_rank = (
        int(os.environ['RANK']),
        int(os.environ.get('LOCAL_RANK', os.environ['RANK'])),
    )
    if device_type == 'cuda':
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f'{local_rank + 1} processes on a machine with '
                f'{torch.cuda.device_count()} GPUs; start fewer'
            )
        torch.cuda.set_device(local_rank)
    place = os.environ.get(MEETING_PLACE)
    if place:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.distributed.init_process_group(
        'nccl' if device_type == 'cuda' else 'gloo',
        timeout=TIMEOUT,
        rank=rank,
        world_size=count,
        init_method=f'file://{place}' if place else 'env://',
    )
    control, patient = (
        torch.distributed.new_group(backend='gloo', timeout=timeout)
        for timeout in (TIMEOUT, METRICS_TIMEOUT)
    )
    try:
        yield Ranks(rank, count, local_rank, control, patient)
    except PeerLost:
        time.sleep(GRACE_SECONDS)
        raise
    finally:
        with contextlib.suppress(RuntimeError):
            torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    # standard input: the launcher writes nothing; the pipe closes when it is gone, however that
    # came about
    os.read(0, 1)
    os._exit(1)


def is_child() -> bool:
    """Return whether `launch` or `torchrun` has started this process."""
    return int(os.environ.get('WORLD_SIZE', '1')) > 1


def launch(command: Sequence[str], count: int) -> int:
    """Run a command as several processes of one machine and wait for them. When one fails, the
    others are ended.

    The first process shares our output. The others' errors are shown only where one of them is the
    first to fail.

    Args:
        command: program and arguments.
        count: of processes.

    Returns:
        0, or the exit code of the process that failed first.
    """
    processes: list[subprocess.Popen[str]] = []
    before = {number: signal.getsignal(number) for number in _forwarded()}

    def forward(number: int, frame: Any) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    for number in before:
        signal.signal(number, forward)
    try:
        with tempfile.TemporaryDirectory(prefix='toonify-') as folder:  # of mode 0700
            common = {'WORLD_SIZE': str(count), MEETING_PLACE: str(Path(folder, 'store'))}
            # else gloo and NCCL listen on the machine's address
            loopback = 'lo0' if sys.platform == 'darwin' else 'lo'
            if sys.platform != 'win32':
                common.update(GLOO_SOCKET_IFNAME=loopback, NCCL_SOCKET_IFNAME=loopback)
            if 'OMP_NUM_THREADS' not in os.environ:
                common['OMP_NUM_THREADS'] = str(max((os.cpu_count() or 1) // count, 1))
            for rank in range(count):
                processes.append(
                    subprocess.Popen(
                        command,
                        env={**os.environ, **common, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
                        text=True,
                        errors='replace',
                        start_new_session=True,
                        stdin=subprocess.PIPE,  # Ctrl-C comes through `forward`
                        stdout=None if rank == 0 else subprocess.DEVNULL,
                        stderr=None if rank == 0 else subprocess.PIPE,
                    )
                )
            return _supervise(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _forwarded() -> list[int]:
    if threading.current_thread() is not threading.main_thread():
        return []
    names = ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1')
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [
        number
        for number in known
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup has SIGHUP ignored
    ]


def _supervise(processes: list['subprocess.Popen[str]']) -> int:
    errors: dict[int, str] = {}

    def collect(rank: int) -> None:
        stream = processes[rank].stderr
        assert stream is not None
        errors[rank] = stream.read()

    readers = [
        threading.Thread(target=collect, args=(rank,), daemon=True)
        for rank in range(1, len(processes))
    ]
    for reader in readers:
        reader.start()
    while True:
        codes = [process.poll() for process in processes]
        failed = [rank for rank, code in enumerate(codes) if code not in (None, 0)]
        if failed:
            break
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.1)
    first = failed[0]
    # the others may be about to end in the same way: a signal, wrong input
    deadline = time.monotonic() + 5
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    if processes[0].poll() not in (None, 0):
        first = 0  # has failed by itself, and said so
    for process in processes:
        if process.poll() is None:
            process.kill()
    code = processes[first].poll()
    if first > 0:
        readers[first - 1].join(5)
        sys.stderr.write(errors.get(first, ''))
    if code is not None and code < 0:
        sys.stderr.write(f'process {first} was ended by signal {-code}\n')
    assert code is not None
    return code if code > 0 else 128 - code
