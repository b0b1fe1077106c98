"""Ctrl-C ends a command within two seconds, also while a library is busy and Python cannot run a handler."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

GRACE_S = 1.5  # for the command to save; what is left of two seconds is for ending
SAVING_S = 10.0  # a save that has begun is not torn in two, however slow the disk


class Watch:
    """While open, SIGINT and SIGTERM raise KeyboardInterrupt, and a thread ends the process if that is not enough.

    The signal's number reaches the thread through a socket (signal.set_wakeup_fd), which needs no Python code in
    the main thread.  `stopped` is called once, by whoever comes first.
    """

    def __init__(self, stopped: Callable[[], None]) -> None:
        self._stopped = stopped
        self._once, self._saved = threading.Lock(), threading.Event()
        self.came = False  # an interrupt; libraries turn it into errors of their own
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Watch:
        if self._main:
            self._read, self._write = socket.socketpair()
            self._write.setblocking(False)
            self._fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            self._handlers = {s: signal.signal(s, self._raise) for s in (signal.SIGINT, signal.SIGTERM)}
            self._unraisable, sys.unraisablehook = sys.unraisablehook, self._lost
            threading.Thread(target=self._wait, name="ctrl-c", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._fd)
            sys.unraisablehook = self._unraisable
            self._write.close()

    def finish(self) -> None:
        """Say that the command was stopped, once; who comes second waits until that is done."""
        if not self._once.acquire(blocking=False):
            self._saved.wait(SAVING_S)
            return
        try:
            self._stopped()
        finally:
            self._saved.set()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt

    def _lost(self, what: sys.UnraisableHookArgs) -> None:
        """Python throws away what is raised while it cleans up: an interrupt that came just then is sent again."""
        if what.exc_type is KeyboardInterrupt:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            self._unraisable(what)

    def _wait(self) -> None:
        while True:
            try:
                numbers = self._read.recv(16)
            except OSError:
                return
            if not numbers:
                self._read.close()
                return
            if set(numbers) & {signal.SIGINT, signal.SIGTERM}:
                break
        if len(numbers) == 1:  # two at once: who sent them has saved already
            time.sleep(GRACE_S)  # a process that ends in time takes this thread with it
        with contextlib.suppress(Exception):
            self.finish()
        _end_children()
        os._exit(130)


def end_now(status: int) -> NoReturn:
    """End without taking torch and the engines apart piece by piece, which takes Python a second and more."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _end_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
