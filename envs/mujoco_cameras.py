"""What MuJoCo's cameras see: fast hull pictures for the model, portraits with shadows for people."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import mujoco
import mujoco.gl_context
import numpy as np

from data.types import Camera

from .arm import ArmError
from .mujoco_world import build_model
from .scenes import Scene

_MOST_GEOMS = 1000


class Cameras:
    """Renders the named cameras of a model at one size.  Without shadows, multisampling and reflections."""

    def __init__(self, model: mujoco.MjModel, names: tuple[str, ...], width: int, height: int) -> None:
        self.names, self.width, self.height = names, width, height
        self._screen: _Screen | None = None
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
        return {name: self._screen.picture(self._model, data, name, self._scene) for name in self.names}

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

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._open = False
        self._uploaded = _uploads(model)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._option, self._perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        with _named_gl_errors():
            self._gl = mujoco.gl_context.GLContext(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        self._open = True
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def fits(self, model: mujoco.MjModel) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(self._uploaded, _uploads(model)))

    def picture(
        self, model: mujoco.MjModel, data: mujoco.MjData, name: str, scene: mujoco.MjvScene
    ) -> np.ndarray:
        self._gl.make_current()
        self._camera.fixedcamid = model.camera(name).id
        mujoco.mjv_updateScene(
            model,
            data,
            self._option,
            self._perturbation,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            scene,
        )
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
    with _named_gl_errors():
        return mujoco.Renderer(model, height, width)


@contextlib.contextmanager
def _named_gl_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the GL back-ends raise their own kinds
        raise ArmError(
            f"no headless OpenGL: {error}. Set MUJOCO_GL=egl before Python starts; on Debian or Ubuntu "
            "apt-get install -y --no-install-recommends libegl1 libopengl0 libgl1-mesa-dri"
        ) from error
