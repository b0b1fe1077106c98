"""What MuJoCo's cameras see: fast hull pictures for the model, portraits with shadows for people."""

from __future__ import annotations

import sys

import mujoco
import numpy as np

from data.types import Camera

from .arm import ArmError
from .gl import named_errors, new_context
from .mujoco_world import build_model
from .scenes import Scene

_MOST_GEOMS = 1000


class Cameras:
    """Renders the named cameras of a model at one size.  Without shadows, multisampling and reflections."""

    def __init__(self, model: mujoco.MjModel, names: tuple[str, ...], width: int, height: int) -> None:
        self.names, self.width, self.height = names, width, height
        self._screen: _Screen | None = None
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.use(model)

    def use(self, model: mujoco.MjModel) -> None:
        """Look at another model from now on; costs next to nothing where meshes and textures are the same."""
        known = [model.camera(i).name for i in range(model.ncam)]
        for name in self.names:
            if name not in known:
                raise ArmError(f"no camera {name!r}; there are {known}")
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=_MOST_GEOMS)
        if self._screen is not None and not self._screen.fits(model):
            self.close()

    def render(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        if not self.names:
            return {}
        if self._screen is None:
            self._screen = _Screen(self._model, self.width, self.height)
        return {name: self._render(data, name) for name in self.names}

    def _render(self, data: mujoco.MjData, name: str) -> np.ndarray:
        assert self._screen is not None
        self._view.fixedcamid = self._model.camera(name).id
        return self._screen.picture(self._model, data, self._view, self._scene)

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
        if self._screen is not None:
            self._screen.close()
            self._screen = None


class _Screen:
    """An OpenGL context that holds a model's meshes and textures; making one costs as much as 80 frames."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int, *, shadows: bool = False) -> None:
        self._open = False
        self._uploaded = _uploads(model)
        self._shadows = shadows
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._option, self._perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._gl = new_context(width, height)
        with named_errors():
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        self._open = True
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def fits(self, model: mujoco.MjModel) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(self._uploaded, _uploads(model)))

    def picture(
        self, model: mujoco.MjModel, data: mujoco.MjData, view: mujoco.MjvCamera, scene: mujoco.MjvScene
    ) -> np.ndarray:
        self._gl.make_current()
        mujoco.mjv_updateScene(
            model,
            data,
            self._option,
            self._perturbation,
            view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            scene,
        )
        if not self._shadows:
            scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        mujoco.mjr_render(self._rect, scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        return self._pixels[::-1].copy()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._gl.make_current()
            self._context.free()
            self._gl.free()

    def __del__(self) -> None:
        if sys is not None and not sys.is_finalizing():
            self.close()


def _uploads(model: mujoco.MjModel) -> tuple[np.ndarray, ...]:
    """What a context keeps of a model."""
    return (
        model.mesh_vert.copy(), model.mesh_face.copy(), model.mesh_normal.copy(), model.mesh_faceadr.copy(),
        model.tex_data.copy(), model.tex_width.copy(), model.tex_height.copy(), model.tex_type.copy(),
    )  # fmt: skip


class Portrait:
    """A second model of the same scene with full meshes and shadows; shares nothing but the joint positions."""

    def __init__(self, scene: Scene) -> None:
        self._model = build_model(scene, full_meshes=True)
        self._data = mujoco.MjData(self._model)
        self._scene = mujoco.MjvScene(self._model, maxgeom=_MOST_GEOMS)
        self._screens: dict[tuple[int, int], _Screen] = {}

    def render(self, qpos: np.ndarray, width: int, height: int, camera: str | None = None) -> np.ndarray:
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self._model, self._data)
        if (width, height) not in self._screens:
            self._screens[width, height] = _Screen(self._model, width, height, shadows=True)
        view = mujoco.MjvCamera()
        if camera is None:
            view.lookat[:] = (0.42, 0.0, 0.18)
            view.distance, view.azimuth, view.elevation = 1.45, 215, -24
        else:
            view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._model.camera(camera).id
        return self._screens[width, height].picture(self._model, self._data, view, self._scene)

    def close(self) -> None:
        for screen in self._screens.values():
            screen.close()
        self._screens.clear()
