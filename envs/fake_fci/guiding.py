"""A person's hand on the fake arm: it is taken somewhere while the robot says that it is being guided."""

from __future__ import annotations

import numpy as np

from .physics import STEP_S, Physics
from .robot import Robot


class Guide:
    """`cycle` once a robot millisecond."""

    def __init__(self, robot: Robot, physics: Physics) -> None:
        self._robot, self._physics = robot, physics
        self._left = 0

    @property
    def guiding(self) -> bool:
        return self._left > 0

    def begin(self, move_m: list[float], seconds: float, width_m: float | None = None) -> None:
        """Take the hand `move_m` [3] further within so many seconds of the robot's; put the fingers at a width."""
        if self._robot.mode not in ("Idle", "Guiding"):
            raise ValueError(f"the arm can be guided when it is idle; it is in mode {self._robot.mode}")
        if width_m is not None:
            self._physics.grip(width_m, 20.0)
        self._start, self._move = self._physics.tool(), np.array(move_m, dtype=float).reshape(3)
        self._all = self._left = max(1, round(seconds / STEP_S))
        self._robot.mode = "Guiding"

    def cycle(self) -> None:
        if not self._left:
            return
        self._left -= 1
        share = 1.0 - self._left / self._all
        frame = self._start.copy()
        frame[:3, 3] += (10 * share**3 - 15 * share**4 + 6 * share**5) * self._move
        physics = self._physics
        joints, _ = physics.joints_towards(frame)
        physics.drive_joints(joints, (joints - physics.q_d) / STEP_S)
        if not self._left:
            physics.drive_joints(physics.q_d, np.zeros(7))
            if self._robot.mode == "Guiding":
                self._robot.mode = "Idle"
