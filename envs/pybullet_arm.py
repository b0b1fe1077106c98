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

from data.types import Camera

from .arm import ArmError
from .controller import InverseKinematics
from .panda import TOOL_OFFSET_M, panda_spec
from .pybullet_cameras import Cameras, look
from .pybullet_world import TIMESTEP_S, World
from .scenes import Scene
from .simulated import CONTROL_S, SimulatedDriver

_JOINT_FORCE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
_JOINT_GAIN = 0.04  # per physics step: the time constant of 0.1 s that the MuJoCo servos have
_FINGER_FORCE_N, _FINGER_GAIN = 15.0, 0.07


class _Snapshot:
    """A state kept inside the engine, freed with this object."""

    def __init__(self, bullet: Any, world: World, alive: _Alive, steps: int) -> None:
        self.world, self.steps = world, steps
        self.number = bullet.saveState()
        self._free = weakref.finalize(self, _forget, bullet, self.number, alive)


@dataclass(slots=True)
class _Alive:
    """Which world of a client is loaded: its snapshots die with it."""

    world: World | None = None


class PybulletDriver(SimulatedDriver):
    """Panda, table and objects.  Same seed and actions, same bits."""

    _bullet: Any = None

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._views.describe()

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

    def move_object(self, name: str, offset: np.ndarray) -> None:
        self.scene.object(name)  # names the others when there is none
        body = self._world.objects[name]
        (x, y, z), quaternion = self._bullet.getBasePositionAndOrientation(body)
        speed = self._bullet.getBaseVelocity(body)
        self._bullet.resetBasePositionAndOrientation(body, (x + offset[0], y + offset[1], z), quaternion)
        self._bullet.resetBaseVelocity(body, *speed)

    def portrait(self, width: int = 640, height: int = 480, camera: str | None = None) -> np.ndarray:
        if self._portrait is None:
            self._portrait = Portrait(self.scene)
        return self._portrait.render(self._bullet, self._world, width, height, camera)

    # What `SimulatedDriver` asks for.

    def _load(self, scene: Scene) -> None:
        if self._bullet is None:
            self._bullet = _client()
            # One set of kinematics for both engines: the URDF is the same.
            self._ik = InverseKinematics(_kinematics())
        else:
            self._alive.world = None
        self._alive = _Alive()
        self._world = self._alive.world = World(self._bullet, scene)
        self._views = Cameras(self._bullet, self._world, scene, self._camera_names, self._width, self._height)
        self._steps = 0

    def _place(self, joints: np.ndarray, finger_m: float) -> None:
        for index, value in zip(self._world.arm, joints):
            self._bullet.resetJointState(self._world.robot, index, float(value))
        for index in self._world.fingers:
            self._bullet.resetJointState(self._world.robot, index, finger_m)
        self._tell_servos()
        self._bullet.stepSimulation()  # contacts exist from here on, so that a snapshot of the start is exact too

    def _tell_servos(self) -> None:
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
            targetPositions=[self._grip_m] * 2,
            forces=[_FINGER_FORCE_N] * 2,
            positionGains=[_FINGER_GAIN] * 2,
            velocityGains=[1.0] * 2,
        )

    def _tick(self) -> None:
        for _ in range(round(CONTROL_S / TIMESTEP_S)):
            self._bullet.stepSimulation()
            self._steps += 1

    def _joints(self) -> np.ndarray:
        return np.array([s[0] for s in self._bullet.getJointStates(self._world.robot, self._world.arm)])

    def _measure(self) -> tuple[np.ndarray, np.ndarray, float]:
        state = self._bullet.getLinkState(self._world.robot, self._world.hand, computeForwardKinematics=1)
        rotation = np.reshape(self._bullet.getMatrixFromQuaternion(state[5]), (3, 3))
        fingers = self._bullet.getJointStates(self._world.robot, self._world.fingers)
        tool = np.array(state[4]) + TOOL_OFFSET_M * rotation[:, 2]
        return tool, rotation, float(np.mean([s[0] for s in fingers]))

    def _time_s(self) -> float:
        return self._steps * TIMESTEP_S

    def _gripper_force_n(self) -> float:
        states = self._bullet.getJointStates(self._world.robot, self._world.fingers)
        return float(sum(abs(s[3]) for s in states))

    def _render(self) -> dict[str, np.ndarray]:
        return self._views.render()

    def _save_engine(self) -> _Snapshot:
        return _Snapshot(self._bullet, self._world, self._alive, self._steps)

    def _restore_engine(self, state: _Snapshot) -> None:
        if state.world is not self._world:
            raise ArmError(
                "this state was saved in another scene; reset() to that scene's seed and save again"
            )
        self._bullet.restoreState(stateId=state.number)
        self._steps = state.steps


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
