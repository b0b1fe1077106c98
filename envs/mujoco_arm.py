"""The Panda in MuJoCo: a `Driver` with the truth (`Simulated`) beside it."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from data.types import Camera

from .controller import InverseKinematics
from .mujoco_cameras import Cameras, Portrait
from .mujoco_world import TIMESTEP_S, build_model
from .scenes import Scene
from .simulated import CONTROL_S, SimulatedDriver

_TICK_STEPS = round(CONTROL_S / TIMESTEP_S)
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class MujocoDriver(SimulatedDriver):
    """Panda, table and objects.  Same seed and actions, same bits."""

    _views: Cameras | None = None

    @property
    def cameras(self) -> Mapping[str, Camera]:
        assert self._views is not None
        return self._views.describe(self.data)

    def close(self) -> None:
        self._drop_portrait()
        if self._views is not None:
            self._views.close()

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
        self.scene.object(name)  # names the others when there is none
        start = int(self.model.joint(name).qposadr[0])
        self.data.qpos[start : start + 2] += offset
        mujoco.mj_forward(self.model, self.data)

    def portrait(self, width: int = 640, height: int = 480, camera: str | None = None) -> np.ndarray:
        if camera is not None:
            self.scene.camera(camera)  # names the others when there is none
        if self._portrait is None:
            self._portrait = Portrait(self.scene)
        return self._portrait.render(self.data.qpos, width, height, camera)

    def _body_of(self, geom: int) -> str:
        return self.model.body(int(self.model.geom_bodyid[geom])).name

    # What `SimulatedDriver` asks for.

    def _load(self, scene: Scene) -> None:
        self.model = build_model(scene)
        self.data = mujoco.MjData(self.model)
        if self._views is None:
            self._views = Cameras(self.model, self._camera_names, self._width, self._height)
        else:
            self._views.use(self.model)
        self._ik = InverseKinematics(self.model)
        self._arm = [int(self.model.joint(f"panda_joint{i}").qposadr[0]) for i in range(1, 8)]
        self._fingers = [int(self.model.joint(f"panda_finger_joint{i}").qposadr[0]) for i in (1, 2)]

    def _place(self, joints: np.ndarray, finger_m: float) -> None:
        self.data.qpos[self._arm] = joints
        self.data.qpos[self._fingers] = finger_m
        self._tell_servos()
        self._moved()

    def _tell_servos(self) -> None:
        self.data.ctrl[:7], self.data.ctrl[7] = self._desired, self._grip_m

    def _tick(self) -> None:
        mujoco.mj_step(self.model, self.data, _TICK_STEPS)

    def _moved(self) -> None:
        mujoco.mj_forward(self.model, self.data)

    def _joints(self) -> np.ndarray:
        return self.data.qpos[self._arm].copy()

    def _measure(self) -> tuple[np.ndarray, np.ndarray, float]:
        site = self.data.site("tool")
        return site.xpos, site.xmat.reshape(3, 3), float(self.data.qpos[self._fingers].mean())

    def _time_s(self) -> float:
        return float(self.data.time)

    def _gripper_force_n(self) -> float:
        return float(abs(self.data.actuator_force[7]))

    def _render(self) -> dict[str, np.ndarray]:
        assert self._views is not None
        return self._views.render(self.data)

    def _save_engine(self) -> np.ndarray:
        state = np.zeros(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def _restore_engine(self, state: np.ndarray) -> None:
        mujoco.mj_setState(self.model, self.data, state, _STATE)
