"""A scripted hand that sees the truth: waypoints relative to objects, followed a step at a time.

It is the expert of every task, and, with noise, interruptions and play, the hand that collects data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

STEP_M = 0.06  # what the hand moves in one model step at most
HOVER_M = 0.10
RETREAT_M = 0.12
LIFT_M = 0.12


@dataclass(kw_only=True, slots=True)
class Waypoint:
    """Go to `offset` from the object (or from the world's origin), with the gripper as told."""

    name: str
    offset: tuple[float, float, float]
    closedness: float
    object: str | None = None
    tolerance_m: float = 0.008
    dwell_steps: int = 0  # steps to stay once there
    absolute_z: bool = False  # z from the table, not from the object


def reach(position: tuple[float, float, float], closedness: float = 0.0) -> list[Waypoint]:
    return [Waypoint(name="reach", offset=position, closedness=closedness)]


def grasp(name: str, hover_m: float = HOVER_M) -> list[Waypoint]:
    return [
        Waypoint(name="hover", object=name, offset=(0, 0, hover_m), closedness=0.0, tolerance_m=0.015),
        Waypoint(name="descend", object=name, offset=(0, 0, 0.0), closedness=0.0, tolerance_m=0.006),
        Waypoint(
            name="close", object=name, offset=(0, 0, 0.0), closedness=1.0, tolerance_m=0.02, dwell_steps=1
        ),
    ]


def lift(name: str, height_m: float = LIFT_M) -> list[Waypoint]:
    return [Waypoint(name="lift", object=name, offset=(0, 0, height_m), closedness=1.0, absolute_z=True)]


def place(xy: tuple[float, float], height_m: float, carry_m: float = LIFT_M) -> list[Waypoint]:
    """Carry to above `xy`, lower until the object stands, let go, retreat.  `height_m`: of the grasp above the table."""
    x, y = xy
    return [
        Waypoint(name="carry", offset=(x, y, carry_m), closedness=1.0, tolerance_m=0.012),
        Waypoint(name="lower", offset=(x, y, height_m + 0.003), closedness=1.0, tolerance_m=0.006),
        Waypoint(
            name="release", offset=(x, y, height_m + 0.003), closedness=0.0, tolerance_m=0.02, dwell_steps=1
        ),
        Waypoint(name="retreat", offset=(x, y, height_m + RETREAT_M), closedness=0.0, tolerance_m=0.012),
    ]


class ScriptedHand:
    """Follows waypoints; `act` returns a change of pose for `Arm.act`, a zero one when all is done."""

    def __init__(self, waypoints: list[Waypoint], *, step_m: float = STEP_M, patience: int = 14) -> None:
        self.waypoints = list(waypoints)
        self.index = 0
        self._step_m, self._patience = step_m, patience
        self._dwelt = self._tried = 0
        self._anchor: np.ndarray | None = None

    @property
    def done(self) -> bool:
        return self.index >= len(self.waypoints)

    @property
    def phase(self) -> str:
        return "done" if self.done else self.waypoints[self.index].name

    def act(self, pose: np.ndarray, commanded: np.ndarray, objects: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action [7] from here."""
        self._advance(pose, objects)
        if self.done:
            return np.zeros(7)
        waypoint = self.waypoints[self.index]
        self._tried += 1
        step = self._target(waypoint, objects) - pose[:3]
        distance = float(np.linalg.norm(step))
        if distance > self._step_m:
            step *= self._step_m / distance
        action = np.zeros(7)
        action[:3] = pose[:3] + step - commanded[:3]
        action[6] = waypoint.closedness - commanded[6]
        return action

    def _advance(self, pose: np.ndarray, objects: Mapping[str, np.ndarray]) -> None:
        while not self.done:
            waypoint = self.waypoints[self.index]
            there = float(np.linalg.norm(self._target(waypoint, objects) - pose[:3])) <= waypoint.tolerance_m
            told = self._tried > 0 or waypoint.name not in ("close", "release")
            if (there and told and self._dwelt >= waypoint.dwell_steps) or self._tried >= self._patience:
                self._next()
            else:
                self._dwelt += int(there and self._tried > 0)
                return

    def _next(self) -> None:
        self.index += 1
        self._dwelt = self._tried = 0
        self._anchor = None

    def _target(self, waypoint: Waypoint, objects: Mapping[str, np.ndarray]) -> np.ndarray:
        offset = np.asarray(waypoint.offset, dtype=np.float64)
        if waypoint.object is None:
            return offset
        if self._anchor is None or waypoint.name in ("hover", "descend"):
            self._anchor = objects[waypoint.object][:3].copy()
        target = self._anchor + offset
        if waypoint.absolute_z:
            target[2] = offset[2]
        return target
