"""The Panda in PyBullet: a `Driver` with the truth (`Simulated`) beside it; the twin of `envs.mujoco_arm`."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from data.types import Camera, Observation

from .arm import ArmError
from .controller import InverseKinematics, rotation_vector
from .panda import FINGER_OPEN_M, HOME_JOINTS, JOINT_HIGH, JOINT_LOW, TOOL_OFFSET_M, panda_spec
from .poses import pose_from, rotation_about, rotation_from_pose
from .pybullet_cameras import Cameras, look
from .pybullet_world import TIMESTEP_S, World
from .scenes import Scene, SceneConfig, check_scene, draw_scene

CONTROL_S = 0.008  # one inverse-kinematics step
MOVE_SHARE = 0.75  # of a model step; the rest lets the servos settle
_JOINT_FORCE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
_JOINT_GAIN = 0.04  # per physics step: the time constant of 0.1 s that the MuJoCo servos have
_FINGER_FORCE_N, _FINGER_GAIN = 15.0, 0.07


class Saved:
    """A snapshot inside the engine, freed with this object."""

    def __init__(self, driver: PybulletDriver) -> None:
        bullet = driver._bullet
        self.world = driver._world
        self.snapshot = bullet.saveState()
        self.desired, self.commanded = driver._desired.copy(), driver._commanded.copy()
        self.steps, self.grip = driver._steps, driver._grip
        self._free = weakref.finalize(self, _forget, bullet, self.snapshot, driver._alive)


@dataclass(slots=True)
class _Alive:
    """Which world of a client is loaded: its snapshots die with it."""

    world: World | None = None


class PybulletDriver:
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
        self._bullet: Any = _client()
        self._portrait: Portrait | None = None
        self._alive = _Alive()
        # One set of kinematics for both engines: the URDF is the same.
        self._ik = InverseKinematics(_kinematics())
        self._build(draw_scene(self.scene_config, 0, split))

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._views.describe()

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        """Draw the scene of `seed` (or take options["scene"]) and put the arm at its start pose."""
        given = (options or {}).get("scene")
        if given is not None:
            check_scene(given)
        self._build(given if given is not None else draw_scene(self.scene_config, seed or 0, self.split))
        return self.observe()

    def observe(self) -> Observation:
        observation = self.state()
        observation.frames = self._views.render()
        observation.frame_times_s = dict.fromkeys(observation.frames, observation.time_s)
        return observation

    def state(self) -> Observation:
        states = self._bullet.getJointStates(self._world.robot, self._world.fingers)
        return Observation(
            frames={},
            pose=self._measured_pose(),
            commanded=self._commanded.copy(),
            joints=self._joints(),
            time_s=self._steps * TIMESTEP_S,
            gripper_force_n=float(sum(abs(s[3]) for s in states)),
        )

    def joints_for(self, pose: np.ndarray) -> np.ndarray | None:
        return self._ik.solve(self._desired, pose[:3], rotation_from_pose(pose))

    def go(self, pose: np.ndarray, *, duration_s: float, blocking: bool = True) -> None:
        """Interpolate the target over the first three quarters; simulated time waits, so `blocking` is all the same."""
        start, base = self._commanded.copy(), rotation_from_pose(self._commanded)
        turn = rotation_vector(rotation_from_pose(pose) @ base.T)
        self._grip = FINGER_OPEN_M * (1.0 - float(pose[6]))
        ticks = max(1, round(duration_s / CONTROL_S))
        for tick in range(1, ticks + 1):
            share = min(1.0, tick / (MOVE_SHARE * ticks))
            position = start[:3] + share * (pose[:3] - start[:3])
            self._desired = self._ik.step(self._desired, position, rotation_about(turn * share) @ base)
            self._drive()
            for _ in range(round(CONTROL_S / TIMESTEP_S)):
                self._bullet.stepSimulation()
                self._steps += 1
        self._commanded = np.asarray(pose, dtype=np.float64).copy()

    def hold(self) -> None:
        self._desired = self._joints()
        self._commanded = np.concatenate([self._measured_pose()[:6], self._commanded[6:]])
        self._drive()

    def close(self) -> None:
        self._drop_portrait()
        if self._bullet is not None:
            self._alive.world = None
            self._bullet.disconnect()
            self._bullet = None

    # The truth, for judges, experts and ceilings.

    def object_poses(self) -> dict[str, np.ndarray]:
        poses = {}
        for name, body in self._world.objects.items():
            position, quaternion = self._bullet.getBasePositionAndOrientation(body)
            rotation = np.reshape(self._bullet.getMatrixFromQuaternion(quaternion), (3, 3))
            poses[name] = np.array([*(position - rotation @ self._world.centres[name]), *quaternion])
        return poses

    def touching(self) -> set[str]:
        return {
            name
            for name, body in self._world.objects.items()
            for finger in self._world.fingers
            if any(
                contact[9] > 0
                for contact in self._bullet.getContactPoints(self._world.robot, body, linkIndexA=finger)
            )
        }

    def save(self) -> Saved:
        return Saved(self)

    def restore(self, state: Saved) -> None:
        if state.world is not self._world:
            raise ArmError(
                "this state was saved in another scene; reset() to that scene's seed and save again"
            )
        self._bullet.restoreState(stateId=state.snapshot)
        self._desired, self._commanded = state.desired.copy(), state.commanded.copy()
        self._steps, self._grip = state.steps, state.grip
        self._drive()

    def portrait(self, width: int = 640, height: int = 480, camera: str | None = None) -> np.ndarray:
        if self._portrait is None:
            self._portrait = Portrait(self.scene)
        return self._portrait.render(self._bullet, self._world, width, height, camera)

    def _build(self, scene: Scene) -> None:
        self._drop_portrait()
        self.scene = scene
        self._alive.world = None
        self._alive = _Alive()
        self._world = self._alive.world = World(self._bullet, scene)
        self._views = Cameras(self._bullet, self._world, scene, self._camera_names, self._width, self._height)
        joints = self._ik.solve(
            HOME_JOINTS.copy(), np.array(scene.start_position), np.diag([1.0, -1.0, -1.0])
        )
        if joints is None:
            raise ArmError(f"the arm cannot start at {scene.start_position}: no joints reach it")
        self._desired, self._steps = joints, 0
        self._grip = FINGER_OPEN_M * (1.0 - scene.start_closedness)
        for index, value in zip(self._world.arm, joints):
            self._bullet.resetJointState(self._world.robot, index, float(value))
        for index in self._world.fingers:
            self._bullet.resetJointState(self._world.robot, index, self._grip)
        self._drive()
        self._bullet.stepSimulation()  # contacts exist from here on, so that a snapshot of the start is exact too
        self._commanded = self._measured_pose()

    def _drop_portrait(self) -> None:
        if self._portrait is not None:
            self._portrait.close()
            self._portrait = None

    def _drive(self) -> None:
        robot, world = self._world.robot, self._world
        self._bullet.setJointMotorControlArray(
            robot,
            world.arm,
            self._bullet.POSITION_CONTROL,
            targetPositions=self._desired.tolist(),
            forces=_JOINT_FORCE,
            positionGains=[_JOINT_GAIN] * 7,
            velocityGains=[1.0] * 7,
        )
        self._bullet.setJointMotorControlArray(
            robot,
            world.fingers,
            self._bullet.POSITION_CONTROL,
            targetPositions=[self._grip] * 2,
            forces=[_FINGER_FORCE_N] * 2,
            positionGains=[_FINGER_GAIN] * 2,
            velocityGains=[1.0] * 2,
        )

    def _joints(self) -> np.ndarray:
        return np.array([s[0] for s in self._bullet.getJointStates(self._world.robot, self._world.arm)])

    def _measured_pose(self) -> np.ndarray:
        state = self._bullet.getLinkState(self._world.robot, self._world.hand, computeForwardKinematics=1)
        rotation = np.reshape(self._bullet.getMatrixFromQuaternion(state[5]), (3, 3))
        fingers = self._bullet.getJointStates(self._world.robot, self._world.fingers)
        opening = float(np.mean([s[0] for s in fingers])) / FINGER_OPEN_M
        tool = np.array(state[4]) + TOOL_OFFSET_M * rotation[:, 2]
        return pose_from(tool, rotation, float(np.clip(1.0 - opening, 0.0, 1.0)))


class Portrait:
    """A second world of the same scene with full meshes and shadows; shares nothing but the poses."""

    def __init__(self, scene: Scene) -> None:
        self._bullet: Any = _client()
        self._scene = scene
        self._world = World(self._bullet, scene, full_meshes=True)

    def render(self, source: Any, world: World, width: int, height: int, camera: str | None) -> np.ndarray:
        for index in (*world.arm, *world.fingers):
            self._bullet.resetJointState(
                self._world.robot, index, source.getJointState(world.robot, index)[0]
            )
        for name, body in world.objects.items():
            self._bullet.resetBasePositionAndOrientation(
                self._world.objects[name], *source.getBasePositionAndOrientation(body)
            )
        return look(self._bullet, self._world, self._scene, camera, width, height)

    def close(self) -> None:
        self._bullet.disconnect()


@functools.cache
def _kinematics() -> mujoco.MjModel:
    spec = panda_spec()
    for geom in list(spec.geoms):
        spec.delete(geom)  # only the joints matter
    for mesh in list(spec.meshes):
        spec.delete(mesh)
    return spec.compile()


def _client() -> Any:
    with _quiet():
        try:
            import pybullet
            from pybullet_utils.bullet_client import BulletClient
        except ImportError as error:
            raise ArmError(
                "engine 'pybullet' needs pybullet, which is missing: pip install pybullet"
            ) from error
        return BulletClient(pybullet.DIRECT)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PyBullet greets from C, on importing and on connecting; the output of commands must stay readable."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    kept = {channel: os.dup(channel) for channel in (1, 2)}
    with open(os.devnull, "w") as nowhere:
        for channel in kept:
            os.dup2(nowhere.fileno(), channel)
    try:
        yield
    finally:
        libc.fflush(None)
        for channel, copied in kept.items():
            os.dup2(copied, channel)
            os.close(copied)


def _forget(bullet: Any, snapshot: int, alive: _Alive) -> None:
    if alive.world is not None and bullet.isConnected():
        bullet.removeState(snapshot)
