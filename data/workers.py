"""Processes and threads that work for this one: a terminal's Ctrl-C is for this one alone, which then ends them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

MOST_THREADS = 4  # more cores are for processes that work for this one
Given = TypeVar("Given")
Made = TypeVar("Made")


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes and threads started inside never get SIGINT; one that comes meanwhile waits for this thread.

    A terminal sends Ctrl-C to every process of a command: each worker would print a traceback of its own, some of
    them before their first line of code ran.
    """
    resource_tracker.ensure_running()  # once it runs, starting a process leaves this thread's mask as it is
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def own_threads() -> int:
    """How many threads video may take: one in a process that works for another, since there is one of those a core."""
    alone = multiprocessing.parent_process() is None
    return min(MOST_THREADS, os.cpu_count() or 1) if alone else 1


def side_by_side(function: Callable[[Given], Made], things: Iterable[Given]) -> list[Made]:
    """What a function that mostly works outside Python (decoding video) makes of each thing, in `own_threads`."""
    things = list(things)
    threads = min(len(things), own_threads())
    if threads < 2:
        return [function(thing) for thing in things]
    with deaf_to_interrupts():
        pool = ThreadPoolExecutor(threads)
        waiting = [pool.submit(function, thing) for thing in things]
    try:
        return [made.result() for made in waiting]
    finally:
        pool.shutdown(cancel_futures=True)
