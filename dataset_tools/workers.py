"""Map a function over several processes: in order, bounded, and ending cleanly on Ctrl-C."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from dnnlib import UserError

T = TypeVar('T')
R = TypeVar('R')


def default_workers() -> int:
    """Return the cores that this process may use, at most 16: beyond that the one process that
    writes is the limit.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    )
    return min(cores, 16)


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], workers: int
) -> Generator[R, None, None]:
    """Like `map`, with the calls spread over processes; at most three items a worker are held at
    any time.

    Close the iterator (`contextlib.closing`) where it may not be read to its end.

    Args:
        function: a function of some module, so that it can be sent to a process.
        items: read as they are needed, in this process; an error may name one by `str`.
        workers: how many processes; 1 calls the function right here.

    Raises:
        UserError: a worker was killed; the message names the item.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    pool = _Pool(function, workers)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(item))
            if len(pending) >= 3 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.end()


class _Pool:
    """Processes, each with a pipe and a thread of its own.

    Why not `concurrent.futures.ProcessPoolExecutor`: its processes share one pipe for the results,
    so it waits for ever for the rest of what a killed one was writing, and can't tell which picture
    killed it. On Ctrl-C it waits for the calls that run, unless its processes are killed by hand.
    """

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self._tasks: queue.SimpleQueue[tuple[Any, Future[Any]] | None] = queue.SimpleQueue()
        self._processes: list[BaseProcess] = []
        self._threads: list[threading.Thread] = []
        context = _start_method()
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(function, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the pipe ends with the process
            thread = threading.Thread(target=self._feed, args=(ours,), daemon=True)
            thread.start()
            self._processes.append(process)
            self._threads.append(thread)

    def submit(self, item: Any) -> 'Future[Any]':
        """Have the function called with an item by the next process that is idle."""
        future: Future[Any] = Future()
        self._tasks.put((item, future))
        return future

    def end(self) -> None:
        """Kill the processes and wait for their end."""
        for process in self._processes:
            process.kill()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            process.join()

    def _feed(self, connection: 'Connection[Any, Any]') -> None:
        with connection:
            while (task := self._tasks.get()) is not None:
                item, future = task
                try:
                    connection.send(item)
                    error, trace, value = connection.recv()
                except (EOFError, OSError):
                    future.set_exception(
                        UserError(
                            f'a worker process was killed at {item}: for '
                            f'want of memory (try --workers 1), or its '
                            'picture breaks the program that decodes it '
                            '(leave it out)'
                        )
                    )
                    continue
                except Exception as error:  # of something that can't be sent
                    future.set_exception(error)
                    continue
                if error is None:
                    future.set_result(value)
                else:
                    error.__cause__ = _Elsewhere(trace)
                    future.set_exception(error)


class _Elsewhere(Exception):
    """The traceback of an error in another process."""


def _work(function: Callable[[Any], Any], connection: 'Connection[Any, Any]') -> None:
    # Ctrl-C reaches every process of a terminal; the parent deals with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):
            return
        answer: tuple[Exception | None, str, Any]
        try:
            answer = None, '', function(item)
        except Exception as error:
            answer = error, f'\n{traceback.format_exc()}', None
        with contextlib.suppress(OSError):  # the parent is gone, as the next look will tell
            connection.send(answer)


def _start_method() -> Any:  # a context of multiprocessing, whose types have no Process in common
    # Never a plain fork: the process may have threads or a CUDA context.
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context('spawn')
    from multiprocessing import forkserver

    # which the server inherits, and its children from it, so that none of them prints a traceback
    with _ignoring_sigint():
        forkserver.ensure_running()
    return multiprocessing.get_context('forkserver')


@contextlib.contextmanager
def _ignoring_sigint() -> Iterator[None]:
    # Python allows no other to change it
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _end_with_parent() -> None:
    """A worker would wait for work for ever if its parent were killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
