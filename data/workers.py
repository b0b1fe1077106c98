"""Processes that work for this one: a terminal's Ctrl-C is for this one alone, which then ends them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


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
