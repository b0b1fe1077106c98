"""Things that should not happen, made to happen: eight violations of what a world model expects, in MuJoCo.

    arm = GuardedArm(Unexpected(driver, "vanishes", at_step=10))

`reset` ends an event and starts the count of steps anew.  With `wait` an event begins at the first step from `at_step`
on at which it makes a difference (`matters`): gravity is not missed by a thing that is held, nor an arm that stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import numpy as np

from data.types import Camera, Observation

from .arm import ArmError
from .mujoco_arm import MujocoDriver
from .scenes import COLOURS

FLOAT_M_S = (
    0.08  # how fast things drift up when gravity is off: without a nudge they would stay where they lie
)
TELEPORT_M = 0.12
KNOCK_DEG = 12.0
_BRAKE = 1e5  # N m s / rad
_MOVES_M = 0.012  # an arm that is sent less far hardly moves
_NEAR_M = 0.06
_SEEN_PIXELS, _SEEN_LEVELS = (
    16,
    12,
)  # what a thing's presence changes in the pictures, at least, to be in view


class Unexpected:
    """A MuJoCo driver with one event that begins when `at_step` actions have been carried out."""

    def __init__(
        self,
        driver: MujocoDriver,
        event: str | None,
        *,
        at_step: int,
        seed: int = 0,
        name: str = "object",
        wait: bool = False,
    ) -> None:
        if event is not None and event not in EVENTS:
            raise ArmError(f"no event {event!r}; there are {', '.join(EVENTS)}")
        self._driver, self.event, self.at_step = driver, event, at_step
        self._seed, self._name, self._wait = seed, name, wait
        self.period_s, self.joint_low, self.joint_high = driver.period_s, driver.joint_low, driver.joint_high
        self._steps = 0
        self._frozen: dict[str, np.ndarray] | None = None
        self.began_at: int | None = None  # the action during which it began

    @property
    def happening(self) -> bool:
        return self.began_at is not None

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._driver.cameras

    def observe(self) -> Observation:
        observation = self._driver.observe()
        if self._frozen is not None:
            observation.frames = {name: frame.copy() for name, frame in self._frozen.items()}
        return observation

    def go(self, pose: np.ndarray, *, duration_s: float, blocking: bool = True) -> None:
        due = self.event is not None and self.began_at is None and self._steps >= self.at_step
        if self.event and due and (not self._wait or matters(self.event, self._driver, pose, self._name)):
            self.began_at = self._steps
            if self.event == "frozen_frame":
                self._frozen = self._driver.observe().frames
            else:
                EVENTS[self.event](self._driver, self._name, np.random.default_rng([self._seed, 99]))
        self._driver.go(pose, duration_s=duration_s, blocking=blocking)
        self._steps += 1

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        self._steps, self._frozen, self.began_at = 0, None, None
        return self._driver.reset(seed=seed, options=options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)  # the rest of a driver, and the truth


def _vanishes(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    for geom in _geoms(driver, name):
        driver.model.geom_rgba[geom, 3] = 0.0
        driver.model.geom_contype[geom] = driver.model.geom_conaffinity[geom] = 0
    _move(driver, name, np.array([0.0, 0.0, -5.0]))


def _teleports(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    here = driver.data.body(name).xpos.copy()
    x, y = driver.scene_config.object_x_m, driver.scene_config.object_y_m
    there = here
    while np.linalg.norm(there[:2] - here[:2]) < TELEPORT_M:
        there = np.array([rng.uniform(*x), rng.uniform(*y), driver.scene.object(name).half_height_m])
    _move(driver, name, there)


def _through_table(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    for geom in _geoms(driver, name):  # touches the hand still, the table no more
        driver.model.geom_contype[geom], driver.model.geom_conaffinity[geom] = 0, 2


def _changes_colour(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    geoms = _geoms(driver, name)
    now = driver.model.geom_rgba[geoms[0], :3]
    farthest = max(COLOURS.values(), key=lambda colour: float(np.linalg.norm(np.array(colour) - now)))
    driver.model.geom_rgba[geoms, :3] = farthest


def _gravity_off(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    driver.model.opt.gravity[:] = 0.0
    for item in driver.scene.objects:
        dof = int(driver.model.joint(item.name).dofadr[0])
        driver.data.qvel[dof : dof + 6] = (*rng.normal(size=2) * 0.01, FLOAT_M_S, *rng.normal(size=3) * 0.3)


def _arm_blocked(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    for index in range(1, 8):
        driver.model.dof_damping[int(driver.model.joint(f"panda_joint{index}").dofadr[0])] = _BRAKE


def _camera_knocked(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    """Turns the first camera that stands in the room."""
    standing = [c for c in driver.cameras.values() if not c.moving] or list(driver.cameras.values())
    index = driver.model.camera(standing[0].name).id
    axis = rng.normal(size=3)
    turn, turned = np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), np.deg2rad(KNOCK_DEG))
    mujoco.mju_mulQuat(turned, driver.model.cam_quat[index], turn)
    driver.model.cam_quat[index] = turned
    mujoco.mj_forward(driver.model, driver.data)


def _frozen_frame(driver: MujocoDriver, name: str, rng: np.random.Generator) -> None:
    """The cameras repeat their last frame: `Unexpected` does it, nothing changes in the world."""


EVENTS: dict[str, Callable[[MujocoDriver, str, np.random.Generator], None]] = {
    "vanishes": _vanishes,
    "teleports": _teleports,
    "through_table": _through_table,
    "changes_colour": _changes_colour,
    "gravity_off": _gravity_off,
    "arm_blocked": _arm_blocked,
    "camera_knocked": _camera_knocked,
    "frozen_frame": _frozen_frame,
}


def matters(event: str, driver: MujocoDriver, pose: np.ndarray, name: str = "object") -> bool:
    """Whether the event would make a difference now that the arm is sent to `pose` [7]."""
    if event == "camera_knocked":
        return True
    if event in ("arm_blocked", "frozen_frame"):
        return float(np.linalg.norm(pose[:3] - driver.observe().pose[:3])) > _MOVES_M
    if event in ("through_table", "gravity_off") and _hand_is_near(driver, name):
        return False
    return _in_view(driver, name)


def _hand_is_near(driver: MujocoDriver, name: str) -> bool:
    """Whether the hand holds the thing, or may do so before the event shows."""
    return float(np.linalg.norm(driver.observe().pose[:3] - driver.data.body(name).xpos)) < _NEAR_M


def _in_view(driver: MujocoDriver, name: str) -> bool:
    with_it = driver.observe().frames
    geoms = _geoms(driver, name)
    shown = driver.model.geom_rgba[geoms, 3].copy()
    driver.model.geom_rgba[geoms, 3] = 0.0
    without = driver.observe().frames
    driver.model.geom_rgba[geoms, 3] = shown
    change = [np.abs(with_it[c].astype(np.int16) - without[c]).max(-1) > _SEEN_LEVELS for c in with_it]
    return sum(int(c.sum()) for c in change) >= _SEEN_PIXELS


def _geoms(driver: MujocoDriver, name: str) -> list[int]:
    body = driver.model.body(name).id
    return [g for g in range(driver.model.ngeom) if driver.model.geom_bodyid[g] == body]


def _move(driver: MujocoDriver, name: str, position: np.ndarray) -> None:
    joint = driver.model.joint(name)
    start, dof = int(joint.qposadr[0]), int(joint.dofadr[0])
    driver.data.qpos[start : start + 3] = position
    driver.data.qvel[dof : dof + 6] = 0.0
    mujoco.mj_forward(driver.model, driver.data)
