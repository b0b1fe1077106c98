"""Franka's hand, version 3 of its protocol: homing, moving, grasping, stopping, and refusing when told to."""

from __future__ import annotations

import numpy as np

from ..panda import FINGER_OPEN_M
from .network import FaultyUdp, Requests
from .physics import STEP_S, Physics
from .wire import (
    CONNECT,
    GRASP,
    GRIPPER_COMMANDS,
    GRIPPER_CONNECTED,
    GRIPPER_HEADER,
    GRIPPER_MOVE,
    GRIPPER_PORT,
    GRIPPER_STATE,
    GRIPPER_STATUS,
    GRIPPER_VERSION,
)

_STILL_STEPS = 60  # ms without motion: the fingers have arrived or touch something
_MOVE_FORCE_N = 30.0
_STATE_EVERY = 20  # ms


class Gripper:
    """Serves the gripper's port; commands run on the robot's clock."""

    def __init__(self, host: str, physics: Physics) -> None:
        self._requests = Requests(host, GRIPPER_PORT, GRIPPER_HEADER)
        self._udp = FaultyUdp(host)
        self._physics = physics
        self._to: tuple[str, int] | None = None
        self._running: tuple[int, int, float, tuple[float, float] | None] | None = (
            None  # command, id, goal, tolerance
        )
        self._speed, self._force, self._goal = 0.1, _MOVE_FORCE_N, 2 * FINGER_OPEN_M
        self._still, self._last, self._number = 0, physics.width, 0
        self.is_grasped = False
        self.refuses = False
        self.grasps = 0

    def cycle(self) -> None:
        if self._requests.accept():
            self._to, self._running = None, None
        for command, identity, payload in self._requests.receive() or []:
            self._serve(command, identity, payload)
        self._advance()
        self._number += 1
        if self._to is not None and self._requests.connected and self._number % _STATE_EVERY == 0:
            state = np.zeros((), GRIPPER_STATE)
            state["message_id"], state["width"] = self._number, self._physics.width
            state["max_width"], state["is_grasped"] = 2 * FINGER_OPEN_M, self.is_grasped
            state["temperature"] = 35
            self._udp.send(state.tobytes(), self._to)

    def _serve(self, command: int, identity: int, payload: bytes) -> None:
        name = GRIPPER_COMMANDS[command] if command < len(GRIPPER_COMMANDS) else "?"
        if name == "Connect":
            version, port = CONNECT.unpack(payload)
            self._to = (self._requests.peer, port)
            wrong = int(version != GRIPPER_VERSION)
            self._requests.reply(command, identity, GRIPPER_CONNECTED.pack(wrong, GRIPPER_VERSION))
        elif name == "Stop":
            self._finish("Aborted")
            self._goal = self._physics.width
            self._physics.grip(self._goal, self._force)
            self._answer(command, identity, "Success")
        elif self.refuses or name == "?":
            self._answer(command, identity, "Fail")
        else:
            self._finish("Aborted")
            tolerance = None
            goal, self._speed, self._force = 2 * FINGER_OPEN_M, 0.1, _MOVE_FORCE_N
            if name == "Grasp":
                goal, inner, outer, self._speed, self._force = GRASP.unpack(payload)
                tolerance = (goal - inner, goal + outer)
                goal = 0.0
                self.grasps += 1
            elif name == "Move":
                goal, self._speed = GRIPPER_MOVE.unpack(payload)
            self.is_grasped = False
            self._still = 0
            self._goal = self._physics.width_d
            self._running = (command, identity, goal, tolerance)

    def _advance(self) -> None:
        if self._running is None:
            return
        _, _, goal, tolerance = self._running
        change = np.clip(goal - self._goal, -self._speed * STEP_S, self._speed * STEP_S)
        self._goal += float(change)
        # What blocks the fingers is squeezed with the force asked for, not with the servo's full travel.
        self._physics.grip(self._goal, min(self._force, 70.0))
        width = self._physics.width
        self._still = self._still + 1 if abs(width - self._last) < 2e-6 else 0
        self._last = width
        if self._still < _STILL_STEPS or (abs(change) > 0 and tolerance is None):
            return
        if tolerance is not None:
            self.is_grasped = tolerance[0] < width < tolerance[1] and self._physics.grip_force_n > 1.0
            self._finish("Success" if self.is_grasped else "Unsuccessful")
        else:
            self._finish("Success" if abs(width - goal) < 0.004 else "Unsuccessful")

    def _finish(self, status: str) -> None:
        if self._running is not None:
            self._answer(self._running[0], self._running[1], status)
            self._running = None

    def _answer(self, command: int, identity: int, status: str) -> None:
        self._requests.reply(command, identity, GRIPPER_STATUS[status].to_bytes(2, "little"))

    def forget(self) -> None:
        """As after switching on: nothing to do, nothing held, nothing refused."""
        self._running, self._goal = None, 2 * FINGER_OPEN_M
        self.is_grasped = self.refuses = False
        self.grasps = 0

    def cut(self) -> None:
        self._requests.drop(abruptly=True)

    def silence(self, on: bool) -> None:
        self._udp.silent = self._requests.silent = on

    def close(self) -> None:
        self._requests.close()
        self._udp.close()
