"""Cameras of the fake controller's table: a twin of its scene, drawn in this process from its state."""

from __future__ import annotations

import time

import mujoco
import numpy as np

from data.types import Camera

from ..franka.cameras import WatchedCamera
from ..mujoco_cameras import Cameras
from ..mujoco_world import build_model
from ..scenes import SceneConfig, draw_scene
from .doors import Visitor
from .spawn import FakeFranka

_NOISE = 2.0  # of 255: a sensor's pictures are never the same twice


class TwinSource:
    """One camera of the scene.  Everything that draws lives in the thread that reads."""

    def __init__(self, robot: FakeFranka | Visitor, name: str, size: int, rate_hz: float = 15.0) -> None:
        self._robot, self._name, self._size, self._period_s = robot, name, size, 1.0 / rate_hz
        self._cameras: Cameras | None = None
        self._random = np.random.default_rng(0)
        self._due = time.monotonic()

    def read(self) -> tuple[np.ndarray, float]:
        if self._cameras is None:
            known = self._robot.do("state")
            self._model = build_model(draw_scene(SceneConfig(), known["seed"], known["split"]))
            self._data = mujoco.MjData(self._model)
            self._cameras = Cameras(self._model, (self._name,), self._size, self._size)
            mujoco.mj_forward(self._model, self._data)
            self._cameras.render(
                self._data
            )  # the first picture takes seconds, which no time stamp should hide
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = max(self._due + self._period_s, time.monotonic())
        taken_s = time.monotonic()
        state = np.array(self._robot.do("save")["state"])
        mujoco.mj_setState(self._model, self._data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        mujoco.mj_forward(self._model, self._data)
        frame = self._cameras.render(self._data)[self._name]
        noisy = frame + self._random.normal(0, _NOISE, frame.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8), taken_s

    def close(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
        if isinstance(self._robot, Visitor):
            self._robot.close()


def twin_cameras(
    robot: FakeFranka, names: tuple[str, ...] = ("exterior_left", "wrist"), *, size: int = 128
) -> dict[str, WatchedCamera]:
    """Watched cameras for a `FrankaDriver` that drives `robot`."""
    return {
        name: WatchedCamera(
            TwinSource(robot, name, size), Camera(name=name, width=size, height=size, moving=name == "wrist")
        )
        for name in names
    }
