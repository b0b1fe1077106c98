"""What both simulated Pandas have in common: scenes, the commanded pose, and the way to the next one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.types import Observation

from .arm import ArmError
from .controller import InverseKinematics, rotation_vector
from .panda import FINGER_OPEN_M, HOME_JOINTS, JOINT_HIGH, JOINT_LOW
from .poses import pose_from, rotation_about, rotation_from_pose
from .scenes import Scene, SceneConfig, check_scene, draw_scene

CONTROL_S = 0.008  # one inverse-kinematics step
MOVE_SHARE = 0.75  # of a model step; the rest lets the servos settle
_DOWN = np.diag([1.0, -1.0, -1.0])


@dataclass(slots=True)
class Saved:
    """A moment to go back to: what the engine keeps, and what the servos were told."""

    engine: Any
    desired: np.ndarray  # [7] joints
    commanded: np.ndarray  # [7] pose
    grip_m: float


class SimulatedDriver(ABC):
    """A `Driver` but for the physics.  An engine adds the abstract methods, and the truth (`Simulated`)."""

    def __init__(
        self,
        *,
        scene: SceneConfig | None = None,
        split: str = "train",
        cameras: tuple[str, ...] = ("exterior_left", "wrist"),
        width: int = 128,
        height: int = 128,
        period_s: float = 0.2,
    ) -> None:
        if not (width >= 1 and height >= 1 and period_s > 0):
            raise ArmError(
                f"pictures of {width} x {height} px, a model step of {period_s} s: all must be above zero"
            )
        self.period_s = period_s
        self.joint_low, self.joint_high = JOINT_LOW, JOINT_HIGH
        self.scene_config = scene or SceneConfig()
        self.split = split
        self._camera_names, self._width, self._height = tuple(cameras), width, height
        self._portrait: Any = None
        self._ik: InverseKinematics
        self._build(draw_scene(self.scene_config, 0, split))

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        """Draw the scene of `seed` (or take options["scene"]) and put the arm at its start pose."""
        given = (options or {}).get("scene")
        if given is not None:
            check_scene(given)
        self._build(given if given is not None else draw_scene(self.scene_config, seed or 0, self.split))
        return self.observe()

    def observe(self) -> Observation:
        observation = self.state()
        observation.frames = self._render()
        observation.frame_times_s = dict.fromkeys(observation.frames, observation.time_s)
        return observation

    def state(self) -> Observation:
        return Observation(
            frames={},
            pose=self._measured_pose(),
            commanded=self._commanded.copy(),
            joints=self._joints(),
            time_s=self._time_s(),
            gripper_force_n=self._gripper_force_n(),
        )

    def joints_for(self, pose: np.ndarray) -> np.ndarray | None:
        return self._ik.solve(self._desired, pose[:3], rotation_from_pose(pose))

    def go(self, pose: np.ndarray, *, duration_s: float, blocking: bool = True) -> None:
        """Interpolate the target over the first three quarters; a target that jumps flings the object.

        Simulated time has no life of its own, so that `blocking` makes no difference here.
        """
        start, base = self._commanded.copy(), rotation_from_pose(self._commanded)
        turn = rotation_vector(rotation_from_pose(pose) @ base.T)
        self._grip_m = FINGER_OPEN_M * (1.0 - float(pose[6]))
        ticks = max(1, round(duration_s / CONTROL_S))
        for tick in range(1, ticks + 1):
            share = min(1.0, tick / (MOVE_SHARE * ticks))
            position = start[:3] + share * (pose[:3] - start[:3])
            self._desired = self._ik.step(self._desired, position, rotation_about(turn * share) @ base)
            self._tell_servos()
            self._tick()
        self._commanded = np.asarray(pose, dtype=np.float64).copy()
        self._moved()

    def hold(self) -> None:
        self._desired = self._joints()
        self._commanded = np.concatenate([self._measured_pose()[:6], self._commanded[6:]])
        self._tell_servos()

    def save(self) -> Saved:
        return Saved(self._save_engine(), self._desired.copy(), self._commanded.copy(), self._grip_m)

    def restore(self, state: Saved) -> None:
        self._restore_engine(state.engine)
        self._desired, self._commanded = state.desired.copy(), state.commanded.copy()
        self._grip_m = state.grip_m
        self._tell_servos()
        self._moved()

    def _build(self, scene: Scene) -> None:
        self._drop_portrait()
        self.scene = scene
        self._load(scene)
        joints = self._ik.solve(HOME_JOINTS.copy(), np.array(scene.start_position), _DOWN)
        if joints is None:
            raise ArmError(f"the arm cannot start at {scene.start_position}: no joints reach it")
        self._desired = joints
        self._grip_m = FINGER_OPEN_M * (1.0 - scene.start_closedness)
        self._place(joints, self._grip_m)
        self._commanded = self._measured_pose()

    def _drop_portrait(self) -> None:
        if self._portrait is not None:
            self._portrait.close()
            self._portrait = None

    def _measured_pose(self) -> np.ndarray:
        position, rotation, finger_m = self._measure()
        return pose_from(position, rotation, float(np.clip(1.0 - finger_m / FINGER_OPEN_M, 0.0, 1.0)))

    # The engine's part.

    @abstractmethod
    def _load(self, scene: Scene) -> None:
        """Build the world of a scene, and the kinematics `_ik`."""

    @abstractmethod
    def _place(self, joints: np.ndarray, finger_m: float) -> None:
        """Put the arm there at once, and tell its servos to stay."""

    @abstractmethod
    def _tell_servos(self) -> None:
        """Send them `_desired` and `_grip_m`."""

    @abstractmethod
    def _tick(self) -> None:
        """Let `CONTROL_S` pass."""

    def _moved(self) -> None:  # noqa: B027 (an engine may have nothing to do)
        """Bring up to date what follows from the state."""

    @abstractmethod
    def _joints(self) -> np.ndarray: ...

    @abstractmethod
    def _measure(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Tool position [3] and rotation [3, 3], and the mean finger position in metres."""

    @abstractmethod
    def _time_s(self) -> float: ...

    @abstractmethod
    def _gripper_force_n(self) -> float: ...

    @abstractmethod
    def _render(self) -> dict[str, np.ndarray]: ...

    @abstractmethod
    def _save_engine(self) -> Any: ...

    @abstractmethod
    def _restore_engine(self, state: Any) -> None: ...
