"""`map` over several processes: in order, with little in flight, and ending cleanly on Ctrl-C."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from dnnlib import UserError

T = TypeVar('T')
R = TypeVar('R')


def default_workers() -> int:
    """The cores that this process may use, at most 16: beyond that the one process that writes is the limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return min(cores, 16)


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R, None, None]:
    """Like `map`, with the calls spread over processes; at most three items a worker are held at any time.

    Close the iterator (`contextlib.closing`) where it may not be read to its end.

    Args:
        function: a function of some module, so that it can be sent to a process.
        items: read as they are needed, in this process.
        workers: how many processes; 1 calls the function right here.

    Raises:
        UserError: a worker was killed.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    pool = _start_pool(workers)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 3 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError('a worker process was killed, most likely for want of memory; try --workers 1') from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_pool(workers: int) -> ProcessPoolExecutor:
    # Never a plain fork: the process may have threads or a CUDA context.
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        return ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker)
    from multiprocessing import forkserver
    with _ignoring_sigint():  # which the server inherits, and its children from it, so that none of them prints a traceback
        forkserver.ensure_running()
    return ProcessPoolExecutor(workers, multiprocessing.get_context('forkserver'), _start_worker)


@contextlib.contextmanager
def _ignoring_sigint() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python allows no other to change it
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent deals with it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker would wait for work for ever if its parent were killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
