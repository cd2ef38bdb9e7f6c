"""Work that is spread over processes."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tools.workers import ordered_map
from dnnlib import UserError


def slow_square(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    return number**2


def fail_at_five(number: int) -> bytes:
    if number == 5:
        raise ValueError(f'no {number}')
    return bytes(1 << 20)


def killed_at_five(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGTERM if os.name == 'nt' else signal.SIGKILL)
    return number


def sleep_long(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize('workers', [1, 2, 5])
def test_results_come_in_order_and_few_items_are_held(workers: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 40:
            taken += 1
            yield taken - 1

    for i, square in enumerate(ordered_map(slow_square, items(), workers)):
        assert square == i**2 and taken - i <= 3 * workers + 1
    assert taken == 40


def test_an_error_arrives_with_its_traceback() -> None:
    with pytest.raises(ValueError, match='no 5') as caught:
        for value in ordered_map(fail_at_five, range(10), 2):
            assert len(value) == 1 << 20
    assert 'in fail_at_five' in str(caught.value.__cause__)


def test_a_killed_worker_is_an_error_at_once() -> None:
    done = []
    with pytest.raises(UserError, match='a worker process was killed at 5: '):
        for value in ordered_map(killed_at_five, range(50), 2):
            done.append(value)
    assert done == list(range(5))


@pytest.mark.skipif(os.name == 'nt', reason='signals of Unix')
def test_closing_ends_the_processes_at_once(tmp_path: Path) -> None:
    with (
        contextlib.closing(
            ordered_map(sleep_long, [tmp_path / f'{i}' for i in range(6)], 2)
        ) as results,
        pytest.raises(TimeoutError),
    ):

        def give_up(*_: object) -> None:
            raise TimeoutError

        signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, 3)
        next(results)
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
