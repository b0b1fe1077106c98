"""The process that holds one robot client: it follows targets, keeps watch over the agent, and never waits for it.

It runs in whatever Python has the client library (`python -m envs.franka.servant FD SETTINGS CLIENT`), so that the
agent's packages and the robot's need not agree, and so that an agent that hangs or dies cannot keep the arm moving:
    motion under way and no sign of life for one period   -> brake, hold, count it
    the agent's end of the line closes                    -> brake, hold, end the motion, exit
    this process is stuck in its library for 2 s         -> the kernel ends it, which the robot answers with a hold
    the robot or the connection ends the motion           -> report what the library said; never recover unasked
Orders and readings are JSON lines over a socket.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from .client import Client, ClientError, Settings
from .timing import LoopTimes
from .trajectory import BRAKE_S, Trajectory

CLIENTS = {
    "franky": "envs.franka.fr3:FrankyClient",
    "pylibfranka": "envs.franka.fr3:PylibfrankaClient",
    "panda": "envs.franka.panda:PandaClient",
    "droid": "envs.franka.droid:DroidClient",
}
READINGS_S = 0.02
_STUCK_S = 2.0  # at least; thrice the patience where that is longer
_FINGERS_ALIKE = 0.02  # closedness; less is not a new order
_GRASP_FROM = 0.9


class Servant:
    """Follow, as the client sees it; orders, as the agent sees it."""

    def __init__(self, client: Client, settings: Settings, line: socket.socket) -> None:
        self._client, self._settings, self._line = client, settings, line
        self._stuck_s = stuck_after_s(settings)
        self._lock, self._send_lock = threading.Lock(), threading.Lock()
        self._path: Trajectory | None = None
        self._clock = 0.0  # seconds that the control loop has followed
        self._wanted: dict[str, Any] | None = None
        self._number = 0  # of the newest go
        self._outcome = (0, "")  # the last go that ended, and how: arrived, or why it was held
        self._life = time.monotonic()
        self._start, self._ended, self._finish = threading.Event(), threading.Event(), False
        self._fingers: queue.Queue[tuple[int, Callable[[], str]]] = queue.Queue()
        # How many orders the fingers got, how many are done, and up to which they count no more.
        self._finger_orders = self._fingers_done = self._fingers_void = 0
        self._closedness: float | None = None
        self._max_width_m = client.read().max_width_m
        self._following = False
        self.error = ""
        self.fingers = "not asked"
        self.late = self.held = 0
        self._moving = False
        self.times = LoopTimes(client.loop_s)

    # What the control loop calls; nothing here waits for anybody.

    def begin(self, frame: np.ndarray) -> None:
        with self._lock:
            self._path, self._clock = Trajectory(frame), 0.0

    def next(self, dt_s: float) -> np.ndarray | None:
        self.times.tick()
        with self._lock:
            assert self._path is not None
            self._clock += dt_s
            if self._wanted is not None and self._moving:
                self._path.brake(
                    self._clock
                )  # a path that is bent in motion may leave the envelope in between
                self._moving = False
            if self._wanted is not None and self._path.finished(self._clock):
                order, self._wanted = self._wanted, None
                goal = np.array(order["frame"]).reshape(4, 4)
                self._path.aim(goal, order["duration_s"], self._clock)
                self._moving = True
            if self._moving and self._path.finished(self._clock):
                self._end("arrived")
            elif self._moving and time.monotonic() - self._life > self._settings.patience_s:
                self._path.brake(self._clock)
                self._end(f"the agent was silent for more than {self._settings.patience_s} s")
                self.held += 1
            if self._finish and self._path.finished(self._clock):
                return None
            return self._path.at(self._clock)

    def speed(self) -> np.ndarray:
        with self._lock:
            assert self._path is not None
            return self._path.speed(self._clock)

    def _end(self, how: str) -> None:
        self._moving = False
        if self._outcome[0] != self._number:
            self._outcome = (self._number, how)

    # What the agent orders.

    def go(self, order: dict[str, Any]) -> None:
        if not self._settings.armed:
            raise ClientError("dry run: this process was not armed and sends no motion")
        if self.error:
            raise ClientError(self.error)
        age_s, most_s = time.monotonic() - order.get("seen_s", np.inf), order.get("max_age_s", np.inf)
        if age_s > most_s:
            self.late += 1
            raise ClientError(
                f"late: the plan came {age_s:.1f} s after what it saw and was dropped; {most_s:.1f} s are allowed. "
                "Plan faster, or set env.max_plan_age_s"
            )
        self._grip(order["closedness"])
        with self._lock:
            self._wanted, self._number = order, order["number"]
        self._start.set()

    def hold(self, order: dict[str, Any]) -> None:
        with self._lock:
            if self._path is not None and self._moving:
                self._path.brake(self._clock)
            self._wanted = None
            self._end("told to hold")
            stop = order.get("fingers") and self._fingers_busy
            if stop:
                self._fingers_void, self._closedness = self._finger_orders, None
        if stop:  # what they hold they go on holding
            threading.Thread(target=self._stop_fingers, daemon=True).start()

    @property
    def _fingers_busy(self) -> bool:
        return self._fingers_done < self._finger_orders

    def _stop_fingers(self) -> None:
        for _ in range(20):  # the library may not have begun yet
            if not self._fingers_busy:
                return
            try:
                self._client.stop_fingers()
            except Exception as error:
                self.fingers = f"did not stop: {error}"
            time.sleep(0.05)

    def recover(self, _: dict[str, Any]) -> None:
        if not self._settings.armed:
            raise ClientError(
                "dry run: this process was not armed; recover in Desk, or in a run that may move"
            )
        self._client.recover()
        self.error = ""

    def forget_fingers(self, _: dict[str, Any]) -> None:
        self._closedness = None

    def _grip(self, closedness: float) -> None:
        last = self._closedness
        if last is not None and abs(closedness - last) < _FINGERS_ALIKE:
            return
        self._closedness = closedness
        opening = last is not None and closedness < last
        if closedness >= _GRASP_FROM and not opening:
            self._order_fingers(self._client.grasp)
        else:
            width = (1.0 - closedness) * self._max_width_m
            self._order_fingers(lambda: self._client.move_fingers(width))

    def _order_fingers(self, work: Callable[[], str]) -> None:
        self._finger_orders += 1
        self._fingers.put((self._finger_orders, work))

    # Threads.

    def run(self) -> None:
        for work in (self._listen, self._tell, self._move_fingers):
            threading.Thread(target=work, daemon=True).start()
        while not self._ended.is_set():
            self._follow_orders()
        self._client.close()

    def _follow_orders(self) -> None:
        """Wait a moment for an order, and follow it and those that come meanwhile until the motion ends."""
        if not self._start.wait(0.05):
            return
        # Cleared before the order is looked at: one that comes in between is seen the next time.
        self._start.clear()
        with self._lock:
            if self._wanted is None or self.error:  # held again in the meantime
                return
        self._following = True
        try:
            self._client.control(self)
        except ClientError as error:
            self.error = str(error)
        self._following = False
        with self._lock:
            self._path = self._wanted = None
            self._end(self.error or "the motion ended")

    def _listen(self) -> None:
        # An agent that crashes resets the line, or leaves half an order on it: an end, too.
        with contextlib.suppress(OSError, ValueError):
            self._obey_until_the_end()
        self.hold({})
        time.sleep(BRAKE_S)
        self._finish = True
        self._ended.set()
        # A client that is stuck in its library must not keep the connection, and with it the arm, alive.
        time.sleep(1.0)
        os._exit(0)

    def _obey_until_the_end(self) -> None:
        for text in self._line.makefile("r"):
            order = json.loads(text)
            self._life = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, self._stuck_s)
            do = order.get("do")
            if do == "beat":
                continue
            answer: dict[str, Any] = {"id": order["id"], "ok": True}
            try:
                {"go": self.go, "hold": self.hold, "recover": self.recover, "forget": self.forget_fingers}[
                    do
                ](order)
            except ClientError as error:
                answer.update(ok=False, error=str(error))
            except (KeyError, TypeError) as error:
                answer.update(
                    ok=False, error=f"{do!r} is not an order of ours, or lacks something: {error!r}"
                )
            self._say(answer)

    def _tell(self) -> None:
        while not self._ended.is_set():
            try:
                reading = vars(self._client.read())
                self._max_width_m = reading["max_width_m"]
            except Exception as error:  # client libraries raise whatever their languages have
                reading = None
                if not self._following:  # a motion that ends knows better why
                    self.error = self.error or str(error)
            self._say(
                {
                    "reading": reading,
                    "error": self.error,
                    "fingers": self.fingers,
                    "fingers_busy": self._fingers_busy,
                    "closedness": self._closedness,
                    "outcome": self._outcome,
                    "late": self.late,
                    "held": self.held,
                    "times": self.times.report(),
                }
            )
            time.sleep(READINGS_S)

    def _move_fingers(self) -> None:
        while True:
            number, work = self._fingers.get()
            if number > self._fingers_void:
                self.fingers = "moving"
                try:
                    self.fingers = work()
                except Exception as error:
                    self.fingers = f"refused: {error}"
            if number <= self._fingers_void:
                self.fingers = "stopped"
            self._fingers_done = number

    def _say(self, message: dict[str, Any]) -> None:
        try:
            with self._send_lock:
                self._line.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # the listener sees the end of the line and acts on it


def stuck_after_s(settings: Settings) -> float:
    return max(_STUCK_S, 3 * settings.patience_s)


def main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    settings = Settings(**json.loads(sys.argv[2]))
    where, name = CLIENTS.get(sys.argv[3], sys.argv[3]).split(":")
    try:
        client = getattr(importlib.import_module(where), name)(settings)
    except (ClientError, ImportError) as error:
        line.sendall(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        return
    except Exception:
        line.sendall(json.dumps({"failed": traceback.format_exc(limit=3)}).encode() + b"\n")
        return
    # Not Python's handler, which a library that keeps the interpreter locked would never let run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, stuck_after_s(settings))
    versions = getattr(client, "versions", {})
    line.sendall(json.dumps({"ready": True, "versions": versions}).encode() + b"\n")
    Servant(client, settings, line).run()
    os._exit(0)


if __name__ == "__main__":
    main()
