"""DROID's own stack: its ZeroRPC server on the robot's computer, at 15 Hz, by normalised Cartesian velocity.

An action of 1 moves 0.075 m or turns 0.15 rad in a step of its 15 Hz; the gripper's is a speed too, 0.25 of its
range a step.  The server's controller does the rest, and holds when nothing comes.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import numpy as np

from .client import ClientError, Follow, Reading, Settings
from .trajectory import rotation_about, rotation_vector

PORT = 4242
RATE_HZ = 15.0
MAX_STEP_M, MAX_TURN_RAD = 0.075, 0.15
_MAX_WIDTH_M = 0.085  # Robotiq 2F-85
_TIMEOUT_S = 2


class DroidClient:
    """Speaks to `FrankaRobot` as DROID's laptop does."""

    loop_s = 1.0 / RATE_HZ

    def __init__(self, settings: Settings) -> None:
        import zerorpc  # pyright: ignore[reportMissingImports]

        self._settings = settings
        self.versions = {"zerorpc": version("zerorpc"), "protocol": "DROID's FrankaRobot"}
        self._grip: float | None = None
        # gevent, beneath zerorpc, bears one thread only: every call is made by this one.  Nobody would answer a
        # heartbeat between calls, so that there is none; a call that takes longer than the timeout is an error.
        self._thread = ThreadPoolExecutor(max_workers=1)
        address = f"tcp://{settings.host}:{settings.extra.get('port', PORT)}"
        try:
            self._server = self._thread.submit(
                zerorpc.Client, address, timeout=_TIMEOUT_S, heartbeat=None
            ).result()
            self._reading = self._ask()
        except Exception as error:
            raise ClientError(f"no DROID server at {settings.host}: {error}") from error

    def read(self) -> Reading:
        return self._reading if time.monotonic() - self._reading.time_s < 0.5 / RATE_HZ else self._ask()

    def control(self, follow: Follow) -> None:
        reading = self._ask()
        follow.begin(np.array(reading.frame).reshape(4, 4))
        last = due = time.perf_counter()
        while True:
            now = time.perf_counter()
            frame, last = follow.next(now - last), now
            if frame is None:
                self._send(np.zeros(6))
                return
            self._send(_velocity(np.array(self._reading.frame).reshape(4, 4), frame))
            self._ask()
            due = max(due + self.loop_s, time.perf_counter() - self.loop_s)
            time.sleep(max(0.0, due - time.perf_counter()))

    def move_fingers(self, width_m: float) -> str:
        self._grip = 1.0 - width_m / _MAX_WIDTH_M
        return "done"

    def grasp(self) -> str:
        self._grip = 1.0
        return "done"

    def stop_fingers(self) -> None:
        raise ClientError("DROID's server does not tell whether fingers move")

    def recover(self) -> None:
        raise ClientError("DROID's server recovers on its own computer: restart its control process there")

    def close(self) -> None:
        self._thread.submit(self._server.close)
        self._thread.shutdown(wait=False)

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._thread.submit(getattr(self._server, name), *arguments).result()

    def _send(self, velocity: np.ndarray) -> None:
        # Every command carries the gripper, too: by position, since a speed of zero would end its squeeze.
        grip = self._reading.closedness if self._grip is None else self._grip
        try:
            command = [*velocity.tolist(), float(grip)]
            self._call("update_command", command, "cartesian_velocity", "position", False)
        except Exception as error:
            raise ClientError(f"the DROID server did not take a command: {error}") from error

    def _ask(self) -> Reading:
        try:
            state: Any = self._call("get_robot_state")
        except Exception as error:
            raise ClientError(f"the DROID server did not answer: {error}") from error
        state = state[0] if isinstance(state, (list, tuple)) else state
        frame = np.eye(4)
        position, euler = np.array(state["cartesian_position"][:3]), state["cartesian_position"][3:6]
        frame[:3, :3] = _rotation(*euler)
        frame[:3, 3] = position
        self._reading = Reading(
            time_s=time.monotonic(),
            frame=frame.ravel().tolist(),
            joints=list(state["joint_positions"]),
            mode="Move",
            errors=[],
            force_n=0.0,  # the server does not tell
            success=float(bool(state.get("prev_command_successful", True))),
            width_m=(1.0 - float(state["gripper_position"])) * _MAX_WIDTH_M,
            max_width_m=_MAX_WIDTH_M,
        )
        return self._reading


def _velocity(here: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """DROID's normalised twist [6] that closes the gap in one step, shortened where it is too long."""
    move = (goal[:3, 3] - here[:3, 3]) / MAX_STEP_M
    turn = rotation_vector(goal[:3, :3] @ here[:3, :3].T) / MAX_TURN_RAD
    return np.concatenate(
        [move / max(1.0, float(np.linalg.norm(move))), turn / max(1.0, float(np.linalg.norm(turn)))]
    )


def _rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    x, y, z = np.eye(3)
    return rotation_about(yaw * z) @ rotation_about(pitch * y) @ rotation_about(roll * x)
