"""A gripper's client in a process of its own: some libraries keep the interpreter locked while the fingers move."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

from .client import ClientError, Reading, Settings

WIDE_M = 0.08  # tolerance of a grasp: whatever width is reached counts as held


class HandProcess:
    """The gripper's client in a process of its own (see `serve_hand`)."""

    def __init__(self, library: str, settings: Settings) -> None:
        command = [sys.executable, "-m", "envs.franka.hand", library, json.dumps(settings.as_dict())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._speed = settings.gripper_speed_m_s
        first = self._line()
        self._width, self._max_width = first["width"], first["max_width"]
        self._grasped = first["is_grasped"]
        self._motion: tuple[float, float, float] | None = None  # from, to, since

    def ask(self, verb: str, width_m: float) -> str:
        assert self._process.stdin is not None
        self._motion = (self._width, width_m, time.monotonic())
        self._process.stdin.write(json.dumps([verb, width_m]) + "\n")
        self._process.stdin.flush()
        answer = self._line()
        self._motion = None
        self._width, self._grasped = answer["width"], answer["is_grasped"]
        return answer["what"]

    def stop(self) -> None:
        """End a motion that `ask` waits for in another thread, which gets the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(["stop", 0.0]) + "\n")
        self._process.stdin.flush()

    def describe(self, reading: Reading) -> None:
        """The library cannot read while the fingers move: until they are there, the width is an estimate."""
        motion, width = self._motion, self._width
        if motion is not None:
            start, goal, since = motion
            far = self._speed * (time.monotonic() - since)
            width = start + float(np.clip(goal - start, -far, far))
        reading.width_m, reading.max_width_m, reading.is_grasped = width, self._max_width, self._grasped

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ClientError("the gripper's client ended; is the hand connected and initialised in Desk?")
        answer = json.loads(line)
        if "failed" in answer:
            raise ClientError(f"the gripper: {answer['failed']}")
        return answer

    def close(self) -> None:
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()


def serve_hand(library: str, settings: Settings) -> None:
    """Own a gripper: one JSON command a line in, one answer a line out."""
    module = importlib.import_module({"pylibfranka": "pylibfranka", "panda": "panda_py.libfranka"}[library])
    try:
        gripper = module.Gripper(settings.host)
    except Exception as error:  # whatever the library has
        print(json.dumps({"failed": str(error)}), flush=True)
        return

    def say(what: str) -> None:
        state = gripper.read_once()
        answer = {"what": what, "width": state.width, "max_width": state.max_width}
        print(json.dumps({**answer, "is_grasped": bool(state.is_grasped)}), flush=True)

    def carry_out(verb: str, width: float) -> None:
        try:
            if verb == "grasp":
                force, speed = settings.gripper_force_n, settings.gripper_speed_m_s
                good = gripper.grasp(width, speed, force, WIDE_M, WIDE_M)
            else:
                good = gripper.move(width, settings.gripper_speed_m_s)
            what = "done" if good else "blocked or empty"
        except Exception as error:
            what = f"refused: {error}"
        say(what)

    say("ready")
    for line in sys.stdin:
        verb, width = json.loads(line)
        if verb == "stop":
            with contextlib.suppress(RuntimeError):  # it goes on, and whoever waits hears when it is done
                gripper.stop()
        else:  # whoever gave the order waits for its answer before the next one
            threading.Thread(target=carry_out, args=(verb, width), daemon=True).start()


if __name__ == "__main__":
    # The line or the gripper is gone: whoever asked sees the end of this process.
    with contextlib.suppress(BrokenPipeError, RuntimeError):
        serve_hand(sys.argv[1], Settings(**json.loads(sys.argv[2])))
