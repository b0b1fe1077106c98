"""What MuJoCo's cameras see: fast hull pictures for the model, portraits with shadows for people."""

from __future__ import annotations

import mujoco
import numpy as np

from data.types import Camera

from .arm import ArmError
from .mujoco_world import build_model
from .scenes import Scene


class Cameras:
    """Renders the named cameras of a model at one size.  Without shadows, multisampling and reflections."""

    def __init__(self, model: mujoco.MjModel, names: tuple[str, ...], width: int, height: int) -> None:
        known = [model.camera(i).name for i in range(model.ncam)]
        for name in names:
            if name not in known:
                raise ArmError(f"no camera {name!r}; there are {known}")
        self.names, self.width, self.height = names, width, height
        self._model = model
        self._renderer: mujoco.Renderer | None = None

    def render(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        if not self.names:
            return {}
        if self._renderer is None:
            self._renderer = make_renderer(self._model, self.width, self.height)
        frames = {}
        for name in self.names:
            self._renderer.update_scene(data, camera=name)
            flags = self._renderer.scene.flags
            flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            frames[name] = self._renderer.render().copy()
        return frames

    def describe(self, data: mujoco.MjData) -> dict[str, Camera]:
        """Intrinsics and where each camera is now (optical frame: x right, y down, z forward)."""
        cameras = {}
        for name in self.names:
            index = self._model.camera(name).id
            focal = 0.5 * self.height / np.tan(np.deg2rad(self._model.cam_fovy[index]) / 2)
            base_T_cam = np.eye(4)
            base_T_cam[:3, :3] = data.cam_xmat[index].reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])
            base_T_cam[:3, 3] = data.cam_xpos[index]
            K = np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1.0]])
            moving = int(self._model.cam_bodyid[index]) != 0
            cameras[name] = Camera(
                name=name, width=self.width, height=self.height, K=K, base_T_cam=base_T_cam, moving=moving
            )
        return cameras

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class Portrait:
    """A second model of the same scene with full meshes and shadows; shares nothing but the joint positions."""

    def __init__(self, scene: Scene) -> None:
        self._model = build_model(scene, full_meshes=True)
        self._data = mujoco.MjData(self._model)
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}

    def render(self, qpos: np.ndarray, width: int, height: int, camera: str | None = None) -> np.ndarray:
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self._model, self._data)
        if (width, height) not in self._renderers:
            self._renderers[width, height] = make_renderer(self._model, width, height)
        renderer = self._renderers[width, height]
        view: mujoco.MjvCamera | str
        if camera is None:
            view = mujoco.MjvCamera()
            view.lookat[:] = (0.42, 0.0, 0.18)
            view.distance, view.azimuth, view.elevation = 1.45, 215, -24
        else:
            view = camera
        renderer.update_scene(self._data, camera=view)
        return renderer.render().copy()

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


def make_renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    """A renderer, or the sentence that says what is missing."""
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # the GL back-ends raise their own kinds
        raise ArmError(
            f"no headless OpenGL: {error}. Set MUJOCO_GL=egl before Python starts; on Debian or Ubuntu "
            "apt-get install -y --no-install-recommends libegl1 libopengl0 libgl1-mesa-dri"
        ) from error
