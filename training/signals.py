"""Signals that a run answers at its next step rather than at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOP = {signal.SIGINT: 130, signal.SIGTERM: 143}  # and the exit codes that shells expect
if hasattr(signal, 'SIGHUP'):  # the terminal has gone; Windows has none
    STOP[signal.SIGHUP] = 129


class Stopped(BaseException):
    """A signal that stops the run has come while it may be answered at once."""


class Signals:
    """Within the `with` block SIGINT, SIGTERM and SIGHUP ask the run to save and stop, SIGUSR1 to
    save and go on.

    A second SIGINT is an ordinary KeyboardInterrupt. Outside of the main thread nothing is
    installed.

    Attributes:
        exit_code: of the stop that was asked for, else None.
        save: whether a state is to be saved.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.save = False
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> 'Signals':
        if threading.current_thread() is threading.main_thread():
            usr1 = getattr(signal, 'SIGUSR1', None)  # Windows has none
            for number in [*STOP, *([usr1] if usr1 is not None else [])]:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has SIGHUP ignored
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block, a signal that stops the run raises `Stopped` where it arrives.

        For work that takes minutes and can be repeated, such as metrics.

        Raises:
            Stopped: such a signal has come, now or before the block.
        """
        self._at_once = True
        try:
            if self.exit_code is not None:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.exit_code is not None:
            raise KeyboardInterrupt
        self.exit_code = STOP.get(signal.Signals(number), self.exit_code)
        self.save = True
        if self._at_once and self.exit_code is not None:
            self._at_once = False
            raise Stopped
