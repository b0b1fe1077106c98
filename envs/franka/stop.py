"""The operator's stop: a key, a signal, or a file.  Any of them holds the arm at once and until it is cleared."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from ..arm import Refused, Stopped

_LOOK_S = 0.02


class _Terminal:
    """Keys come as they are pressed, without Enter, until `restore` or the end of the process."""

    def __init__(self, stream: TextIO) -> None:
        import termios
        import tty

        self._termios, self._channel = termios, stream.fileno()
        self._before = termios.tcgetattr(self._channel)
        tty.setcbreak(self._channel)
        atexit.register(self.restore)

    def restore(self) -> None:
        atexit.unregister(self.restore)
        with contextlib.suppress(self._termios.error, OSError):  # a terminal that is gone needs nothing
            self._termios.tcsetattr(self._channel, self._termios.TCSADRAIN, self._before)


class OperatorStop:
    """`file`: its appearance stops.  `keys`: any key in the terminal stops.  `signals`: each of them stops."""

    def __init__(
        self,
        *,
        file: Path | None = None,
        keys: bool = False,
        signals: tuple[signal.Signals, ...] = (),
    ) -> None:
        self._file, self._signals = file, signals
        self._stream = sys.stdin if keys and sys.stdin is not None and sys.stdin.isatty() else None
        self._pressed = threading.Event()
        self._reason, self._told = "", False
        self._calls: list[Callable[[], None]] = []
        self._open, self._gone = True, False
        self._before = {s: signal.signal(s, self._signalled) for s in signals}
        self._terminal = _Terminal(self._stream) if self._stream is not None else None
        if file is not None or self._stream is not None:
            threading.Thread(target=self._look, daemon=True).start()

    def describe(self) -> str:
        """How to stop, for the operator."""
        ways = ["the robot's own emergency stop"]
        ways += ["any key"] if self._stream is not None else []
        ways += [s.name for s in self._signals]
        ways += [f"touch {self._file}"] if self._file is not None else []
        return "stop with: " + ", ".join(ways)

    def on_press(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def press(self, reason: str) -> None:
        """Stop now."""
        if not self._pressed.is_set():
            self._reason = reason
            self._pressed.set()
            # A signal handler runs between two instructions of the main thread, which may hold the line's lock.
            threading.Thread(target=lambda: [call() for call in self._calls], daemon=True).start()

    @property
    def pressed(self) -> bool:
        if self._file is not None and self._file.exists():
            self.press(f"the file {self._file}")
        return self._pressed.is_set()

    def check(self) -> None:
        """Raise Stopped when the stop is pressed."""
        if self.pressed:
            self._told = True
            raise Stopped(f"operator's stop ({self._reason}): the arm holds. reset() to go on")

    def clear(self) -> None:
        """Let go of a stop that was told; a file must be removed by hand first.

        Pressed before anything moved, and before anybody asked, it is still a stop.
        """
        if self._file is not None and self._file.exists():
            raise Refused(f"operator's stop: the file {self._file} is there; remove it to go on")
        if not self._told:
            self.check()
        self._pressed.clear()
        self._told = False

    def close(self) -> None:
        self._open = False
        if self._terminal is not None:
            self._terminal.restore()
        for number, handler in self._before.items():
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, handler)
        self._before = {}

    def _signalled(self, number: int, _: object) -> None:
        self.press(signal.Signals(number).name)

    def _look(self) -> None:
        while self._open:
            _ = self.pressed
            if self._stream is None or self._gone:
                time.sleep(_LOOK_S)
            elif select.select([self._stream], [], [], _LOOK_S)[0]:
                self.press("a key" if self._key() else "the terminal is gone")

    def _key(self) -> bytes:
        """The key that waits; a terminal that is gone has none, and will never have one."""
        assert self._stream is not None
        try:
            key = os.read(self._stream.fileno(), 1)
        except (OSError, ValueError):  # hung up, or closed
            key = b""
        self._gone = not key
        return key
