"""Work that leaves Python is spread over the cores, and comes back in order."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest

from data.workers import side_by_side


def where(_: int) -> str:
    return threading.current_thread().name


def threads_in_a_worker() -> set[str]:
    return set(side_by_side(where, range(8)))


def test_what_is_made_comes_in_order() -> None:
    assert side_by_side(lambda n: n * n, range(50)) == [n * n for n in range(50)]
    assert side_by_side(str, []) == []


def test_two_are_worked_on_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    both = threading.Barrier(2, timeout=60)  # passed only by two at once
    side_by_side(lambda _: both.wait(), range(2))


def test_an_error_is_raised_and_the_rest_is_left() -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 // n, [1, 0, 2])


def test_a_process_that_works_for_another_takes_one_after_the_other() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(threads_in_a_worker).result() == {"MainThread"}
