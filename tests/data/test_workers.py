"""Ctrl-C in a terminal reaches every process of a command; those that work for another leave it to that one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import pytest

from data.workers import deaf_to_interrupts


def test_a_worker_outlives_the_interrupt_of_its_group() -> None:
    with deaf_to_interrupts():
        pool = multiprocessing.get_context("spawn").Pool(1)
    with pool:
        worker = pool.apply(os.getpid)
        os.kill(worker, signal.SIGINT)
        assert pool.apply_async(os.getpid).get(timeout=250) == worker


def test_an_interrupt_that_comes_meanwhile_is_not_lost(request: pytest.FixtureRequest) -> None:
    # a shell's background jobs begin with it ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt), deaf_to_interrupts():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
