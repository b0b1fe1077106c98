"""The Panda in MuJoCo: a `Driver` with the truth (`Simulated`) beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from data.types import Camera, Observation

from .controller import InverseKinematics, rotation_vector
from .mujoco_cameras import Cameras, Portrait
from .mujoco_world import TIMESTEP_S, build_model
from .panda import FINGER_OPEN_M, HOME_JOINTS, JOINT_HIGH, JOINT_LOW
from .poses import pose_from, rotation_from_pose
from .scenes import Scene, SceneConfig, check_scene, draw_scene

CONTROL_S = 0.008  # one inverse-kinematics step
MOVE_SHARE = 0.75  # of a model step; the rest lets the servos settle


@dataclass(slots=True)
class _Saved:
    state: np.ndarray
    desired: np.ndarray
    commanded: np.ndarray


class MujocoDriver:
    """Panda, table and objects.  Same seed and actions, same bits."""

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
        self.period_s = period_s
        self.joint_low, self.joint_high = JOINT_LOW, JOINT_HIGH
        self.scene_config = scene or SceneConfig()
        self.split = split
        self._camera_names, self._width, self._height = tuple(cameras), width, height
        self._portrait: Portrait | None = None
        self._views: Cameras | None = None
        self.scene: Scene = draw_scene(self.scene_config, 0, split)
        self._build(self.scene)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        assert self._views is not None
        return self._views.describe(self.data)

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        """Draw the scene of `seed` (or take options["scene"]) and put the arm at its start pose."""
        given = (options or {}).get("scene")
        if given is not None:
            check_scene(given)
        self._build(given if given is not None else draw_scene(self.scene_config, seed or 0, self.split))
        return self.observe()

    def observe(self) -> Observation:
        assert self._views is not None
        observation = self.state()
        observation.frames = self._views.render(self.data)
        observation.frame_times_s = dict.fromkeys(observation.frames, observation.time_s)
        return observation

    def state(self) -> Observation:
        return Observation(
            frames={},
            pose=self._measured_pose(),
            commanded=self._commanded.copy(),
            joints=self.data.qpos[self._arm].copy(),
            time_s=float(self.data.time),
            gripper_force_n=float(abs(self.data.actuator_force[7])),
        )

    def joints_for(self, pose: np.ndarray) -> np.ndarray | None:
        return self._ik.solve(self._desired, pose[:3], rotation_from_pose(pose))

    def go(self, pose: np.ndarray, *, duration_s: float, blocking: bool = True) -> None:
        """Interpolate the target over the first three quarters; a target that jumps flings the object.

        Simulated time has no life of its own, so that `blocking` makes no difference here.
        """
        start = self._commanded.copy()
        turn = _turn_between(start, pose)
        base = rotation_from_pose(start)
        self.data.ctrl[7] = FINGER_OPEN_M * (1.0 - pose[6])
        ticks = max(1, round(duration_s / CONTROL_S))
        per_tick = round(CONTROL_S / TIMESTEP_S)
        for tick in range(1, ticks + 1):
            share = min(1.0, tick / (MOVE_SHARE * ticks))
            position = start[:3] + share * (pose[:3] - start[:3])
            self._desired = self._ik.step(self._desired, position, _rotation_about(turn * share) @ base)
            self.data.ctrl[:7] = self._desired
            mujoco.mj_step(self.model, self.data, per_tick)
        self._commanded = np.asarray(pose, dtype=np.float64).copy()
        mujoco.mj_forward(self.model, self.data)

    def hold(self) -> None:
        measured = self._measured_pose()
        self._desired = self.data.qpos[self._arm].copy()
        self._commanded = np.concatenate([measured[:6], self._commanded[6:]])
        self.data.ctrl[:7] = self._desired

    def close(self) -> None:
        if self._views is not None:
            self._views.close()
        if self._portrait is not None:
            self._portrait.close()
            self._portrait = None

    # The truth, for judges, experts and ceilings.

    def object_poses(self) -> dict[str, np.ndarray]:
        poses = {}
        for item in self.scene.objects:
            body = self.data.body(item.name)
            w, x, y, z = body.xquat
            poses[item.name] = np.array([*body.xpos, x, y, z, w])
        return poses

    def touching(self) -> set[str]:
        names: set[str] = set()
        for contact in self.data.contact[: self.data.ncon]:
            bodies = {self._body_of(int(contact.geom1)), self._body_of(int(contact.geom2))}
            if bodies & {"panda_leftfinger", "panda_rightfinger"}:
                names |= bodies & {item.name for item in self.scene.objects}
        return names

    def move_object(self, name: str, offset: np.ndarray) -> None:
        """Push an object by `offset` [2] metres on the table, as a passer-by would."""
        start = int(self.model.joint(name).qposadr[0])
        self.data.qpos[start : start + 2] += offset
        mujoco.mj_forward(self.model, self.data)

    def save(self) -> _Saved:
        state = np.zeros(mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(self.model, self.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return _Saved(state, self._desired.copy(), self._commanded.copy())

    def restore(self, state: _Saved) -> None:
        mujoco.mj_setState(self.model, self.data, state.state, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._desired, self._commanded = state.desired.copy(), state.commanded.copy()
        mujoco.mj_forward(self.model, self.data)

    def portrait(self, width: int = 640, height: int = 480, camera: str | None = None) -> np.ndarray:
        if self._portrait is None:
            self._portrait = Portrait(self.scene)
        return self._portrait.render(self.data.qpos, width, height, camera)

    def _body_of(self, geom: int) -> str:
        return self.model.body(int(self.model.geom_bodyid[geom])).name

    def _build(self, scene: Scene) -> None:
        if self._portrait is not None:
            self._portrait.close()
            self._portrait = None
        self.scene = scene
        self.model = build_model(scene)
        self.data = mujoco.MjData(self.model)
        if self._views is None:
            self._views = Cameras(self.model, self._camera_names, self._width, self._height)
        else:
            self._views.use(self.model)
        self._ik = InverseKinematics(self.model)
        self._arm = [int(self.model.joint(f"panda_joint{i}").qposadr[0]) for i in range(1, 8)]
        self._fingers = [int(self.model.joint(f"panda_finger_joint{i}").qposadr[0]) for i in (1, 2)]
        down = np.diag([1.0, -1.0, -1.0])
        joints = self._ik.solve(HOME_JOINTS.copy(), np.array(scene.start_position), down)
        if joints is None:
            raise ValueError(f"the arm cannot start at {scene.start_position}: no joints reach it")
        self._desired = joints
        self.data.qpos[self._arm] = joints
        self.data.qpos[self._fingers] = FINGER_OPEN_M * (1.0 - scene.start_closedness)
        self.data.ctrl[:7] = joints
        self.data.ctrl[7] = FINGER_OPEN_M * (1.0 - scene.start_closedness)
        mujoco.mj_forward(self.model, self.data)
        self._commanded = self._measured_pose()

    def _measured_pose(self) -> np.ndarray:
        site = self.data.site("tool")
        opening = float(self.data.qpos[self._fingers].mean()) / FINGER_OPEN_M
        return pose_from(site.xpos, site.xmat.reshape(3, 3), float(np.clip(1.0 - opening, 0.0, 1.0)))


def _turn_between(start: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return rotation_vector(rotation_from_pose(goal) @ rotation_from_pose(start).T)


def _rotation_about(vector: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = vector / angle
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
