"""Several processes that train one network: who is who, sums over all of them, and a launcher for one machine.

The processes find each other as `torchrun` arranges it, by `RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT`; `launch` sets the
same variables, so either may start them.
"""

import contextlib
import datetime
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dnnlib import UserError

SUPERVISED = 'TOONIFY_SUPERVISED'  # set for the processes that `launch` starts
TIMEOUT = datetime.timedelta(hours=2)  # the others wait as long while the first computes a metric
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
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    control: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process logs and writes files."""
        return self.rank == 0

    def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace float tensors by their means over all processes, in one reduction of all of them together.

        Raises:
            PeerLost: another process has ended.
        """
        self.sum_(tensors)
        if self.count > 1:
            torch._foreach_div_(list(tensors), self.count)

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors of one dtype and device by their sums over all processes, in one reduction of all of them together."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        with _peers():
            torch.distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors)])

    def gather(self, value: Any) -> list[Any]:
        """Everybody's plain value, at every process, by rank. Waits for the hosts, not for the GPUs."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with _peers():
            torch.distributed.all_gather_object(values, value, group=self.control)
        return values

    def flags(self, *values: int) -> list[int]:
        """The greatest of everybody's numbers, one by one."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values)
        with _peers():
            torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX, group=self.control)
        return tensor.tolist()


ALONE = Ranks()


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(f'another process has ended ({(str(error).splitlines() or ["?"])[0][:120]})') from error


@contextlib.contextmanager
def join(device_type: str) -> Iterator[Ranks]:
    """Be one of the processes that the environment tells of; alone where it tells of none.

    A process whose peer is lost waits a moment for the end that comes from outside, so that the peer's error is the one that is read.

    Args:
        device_type: `cuda` (NCCL) or `cpu` (gloo).

    Raises:
        UserError: fewer GPUs than processes on this machine.
    """
    count = int(os.environ.get('WORLD_SIZE', '1'))
    if count == 1:
        yield Ranks()
        return
    rank, local_rank = int(os.environ['RANK']), int(os.environ.get('LOCAL_RANK', os.environ['RANK']))
    if device_type == 'cuda':
        if local_rank >= torch.cuda.device_count():
            raise UserError(f'{local_rank + 1} processes on a machine with {torch.cuda.device_count()} GPUs; start fewer')
        torch.cuda.set_device(local_rank)
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.distributed.init_process_group('nccl' if device_type == 'cuda' else 'gloo', timeout=TIMEOUT)
    control = torch.distributed.new_group(backend='gloo', timeout=TIMEOUT)
    try:
        yield Ranks(rank, count, local_rank, control)
    except PeerLost:
        time.sleep(GRACE_SECONDS)
        raise
    finally:
        with contextlib.suppress(RuntimeError):
            torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    os.read(0, 1)  # standard input: the launcher writes nothing; the pipe closes when it is gone, however that came about
    os._exit(1)


def is_child() -> bool:
    """Whether `launch` or `torchrun` has started this process."""
    return int(os.environ.get('WORLD_SIZE', '1')) > 1


def launch(command: Sequence[str], count: int) -> int:
    """Run a command as several processes of one machine and wait for them. When one fails, the others are ended.

    The first process shares our output. The others' errors are shown only where one of them is the first to fail.

    Args:
        command: program and arguments.
        count: of processes.

    Returns:
        0, or the exit code of the process that failed first.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    processes: list[subprocess.Popen[str]] = []
    before = {number: signal.getsignal(number) for number in _forwarded()}

    def forward(number: int, frame: Any) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    for number in before:
        signal.signal(number, forward)
    try:
        for rank in range(count):
            environment = {**os.environ, 'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(count), 'MASTER_ADDR': '127.0.0.1',
                           'MASTER_PORT': str(port), SUPERVISED: '1'}
            if 'OMP_NUM_THREADS' not in environment:
                environment['OMP_NUM_THREADS'] = str(max((os.cpu_count() or 1) // count, 1))
            processes.append(subprocess.Popen(
                command, env=environment, text=True, start_new_session=True, stdin=subprocess.PIPE,  # Ctrl-C comes through `forward`
                stdout=None if rank == 0 else subprocess.DEVNULL, stderr=None if rank == 0 else subprocess.PIPE))
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
    return [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGUSR1') if hasattr(signal, name)]


def _supervise(processes: list['subprocess.Popen[str]']) -> int:
    errors: dict[int, str] = {}

    def collect(rank: int) -> None:
        stream = processes[rank].stderr
        assert stream is not None
        errors[rank] = stream.read()

    readers = [threading.Thread(target=collect, args=(rank,), daemon=True) for rank in range(1, len(processes))]
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
    deadline = time.monotonic() + 5  # the others may be about to end in the same way: a signal, wrong input
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
