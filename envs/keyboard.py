"""A hand on the keyboard: one key, one model step.  It drives any arm and records demonstrations of one's own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from .arm import ArmError

HELP = (
    "w/s away and back   a/d left and right   r/f up and down   q/e turn   space gripper   . wait\n"
    "1/2/3 small, middle, large steps   Enter ends and keeps the episode   x throws it away"
)
STEPS_M = {"1": 0.01, "2": 0.03, "3": 0.06}
TURN_RAD = 0.15
_MOVES = {"w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "r": (2, 1), "f": (2, -1)}
_TURNS = {"q": 1, "e": -1}


class Finished(Exception):
    """The person pressed Enter: the episode ends here and is kept."""


class ThrownAway(Exception):
    """The person pressed x: the episode is not kept."""


class KeyboardHand:
    """Turns keys into actions; `read_key` waits for one key and returns it."""

    def __init__(self, read_key: Callable[[], str]) -> None:
        self._read_key = read_key
        self.step_m = STEPS_M["2"]

    def act(
        self, pose: np.ndarray, commanded: np.ndarray, objects: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """The action [7] of the next key that is one; raises Finished or ThrownAway."""
        action = np.zeros(7)
        while True:
            key = self._read_key()
            if key in ("\r", "\n", ""):  # also when the input has ended
                raise Finished
            if key in ("x", "\x03", "\x1b"):
                raise ThrownAway
            if key in STEPS_M:
                self.step_m = STEPS_M[key]
                continue
            if key in _MOVES:
                axis, sign = _MOVES[key]
                action[axis] = sign * self.step_m
            elif key in _TURNS:
                action[5] = _TURNS[key] * TURN_RAD
            elif key == " ":
                action[6] = -1.0 if commanded[6] > 0.5 else 1.0
            elif key != ".":
                continue
            return action


@contextlib.contextmanager
def terminal_keys() -> Iterator[Callable[[], str]]:
    """Keys as they are pressed, without Enter; the terminal is put back afterwards, whatever happens."""
    if not sys.stdin.isatty():
        raise ArmError(
            "driving by keyboard needs a terminal, and the input is not one; run it in a shell window"
        )
    try:
        import termios
        import tty
    except ImportError as error:
        raise ArmError("driving by keyboard needs a POSIX terminal (Linux, macOS, WSL)") from error
    channel = sys.stdin.fileno()
    before = termios.tcgetattr(channel)
    tty.setcbreak(channel)
    try:
        yield lambda: os.read(channel, 1).decode(errors="replace")
    finally:
        termios.tcsetattr(channel, termios.TCSADRAIN, before)


def picture(frames: Mapping[str, np.ndarray], columns: int = 60) -> str:
    """Frames side by side in coloured half blocks, for a terminal; begins at the screen's upper left corner."""
    rows = []
    for frame in frames.values():
        height, width = frame.shape[:2]
        lines = max(2, round(columns * height / width / 2) * 2)
        down = (np.arange(lines) * height) // lines
        across = (np.arange(columns) * width) // columns
        rows.append(frame[down][:, across])
    tallest = max(len(r) for r in rows)
    image = np.concatenate([np.pad(r, ((0, tallest - len(r)), (0, 1), (0, 0))) for r in rows], axis=1)
    text = ["\x1b[H"]
    for upper, lower in zip(image[::2], image[1::2]):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m\u2580"
            for a, b in zip(upper, lower)
        )
        text.append("".join(cells) + "\x1b[0m\n")
    return "".join(text)
