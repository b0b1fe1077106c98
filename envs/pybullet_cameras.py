"""What PyBullet's cameras see: TinyRenderer, lit and coloured as `envs.mujoco_cameras` does it."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.types import Camera

from .arm import ArmError
from .pybullet_world import World
from .scenes import CameraSpec, Scene

_NEAR_M, _FAR_M = 0.01, 6.0
_HEADLIGHT = 0.07  # the mean effect of MuJoCo's headlight: TinyRenderer has one lamp only
_SKY_TOP, _SKY_BOTTOM = np.array([0.82, 0.86, 0.90]), np.array([0.55, 0.60, 0.66])
_PORTRAIT = CameraSpec(name="portrait", position=(1.50, 0.76, 0.77), look_at=(0.42, 0.0, 0.18), fovy_deg=45.0)


class Cameras:
    """Renders the named cameras of a scene at one size."""

    def __init__(
        self, bullet: Any, world: World, scene: Scene, names: tuple[str, ...], width: int, height: int
    ) -> None:
        known = {camera.name: camera for camera in scene.cameras}
        for name in names:
            if name not in known:
                raise ArmError(f"no camera {name!r}; there are {sorted(known)}")
        self.names, self.width, self.height = names, width, height
        self._bullet, self._world, self._scene = bullet, world, scene
        self._specs = {name: known[name] for name in names}
        self._skies: dict[str, np.ndarray] = {}

    def render(self) -> dict[str, np.ndarray]:
        return {name: self._render(name) for name in self.names}

    def describe(self) -> dict[str, Camera]:
        """Intrinsics and where each camera is now (optical frame: x right, y down, z forward)."""
        cameras = {}
        for name, spec in self._specs.items():
            focal = 0.5 * self.height / np.tan(np.deg2rad(spec.fovy_deg) / 2)
            cameras[name] = Camera(
                name=name,
                width=self.width,
                height=self.height,
                K=np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1.0]]),
                base_T_cam=self._pose(spec) @ np.diag([1.0, -1.0, -1.0, 1.0]),
                moving=spec.on_hand,
            )
        return cameras

    def _render(self, name: str) -> np.ndarray:
        spec = self._specs[name]
        pose = self._pose(spec)
        sky = self._skies.get(name)
        if sky is None:
            sky = _sky(pose, spec.fovy_deg, self.width, self.height)
            if not spec.on_hand:
                self._skies[name] = sky
        return _picture(self._bullet, self._scene, pose, spec.fovy_deg, sky)

    def _pose(self, spec: CameraSpec) -> np.ndarray:
        return _placed(self._bullet, self._world, spec)


def look(bullet: Any, world: World, scene: Scene, camera: str | None, width: int, height: int) -> np.ndarray:
    """One picture for people, with shadows; from in front of the arm, or from a camera of the scene."""
    if camera is None:
        lens, fovy = camera_pose(_PORTRAIT), _PORTRAIT.fovy_deg
    else:
        spec = scene.camera(camera)
        lens, fovy = _placed(bullet, world, spec), spec.fovy_deg
    return _picture(bullet, scene, lens, fovy, _sky(lens, fovy, width, height), shadow=True)


def _picture(
    bullet: Any, scene: Scene, pose: np.ndarray, fovy_deg: float, sky: np.ndarray, *, shadow: bool = False
) -> np.ndarray:
    height, width = sky.shape[:2]
    image = bullet.getCameraImage(
        width,
        height,
        viewMatrix=np.linalg.inv(pose).T.ravel().tolist(),
        projectionMatrix=projection(fovy_deg, width / height),
        lightDirection=(-np.array(scene.light_direction)).tolist(),
        lightColor=(1, 1, 1),
        lightDistance=10.0,
        shadow=int(shadow),
        lightAmbientCoeff=scene.light_ambient + _HEADLIGHT,
        lightDiffuseCoeff=scene.light_diffuse,
        lightSpecularCoeff=0.0,
        renderer=bullet.ER_TINY_RENDERER,
    )
    frame = np.reshape(image[2], (height, width, 4))[..., :3].astype(np.uint8)
    empty = np.reshape(image[4], (height, width)) < 0
    frame[empty] = sky[empty]
    return frame


def _sky(pose: np.ndarray, fovy_deg: float, width: int, height: int) -> np.ndarray:
    """MuJoCo's gradient, which TinyRenderer does not have."""
    focal = 0.5 * height / np.tan(np.deg2rad(fovy_deg) / 2)
    u = (np.arange(width) + 0.5 - width / 2) / focal
    v = (np.arange(height) + 0.5 - height / 2) / focal
    rays = np.stack(np.broadcast_arrays(u[None, :], -v[:, None], -1.0), -1) @ pose[:3, :3].T
    share = (1 + rays[..., 2:] / np.linalg.norm(rays, axis=-1, keepdims=True)) / 2
    colour = share * _SKY_TOP + (1 - share) * _SKY_BOTTOM
    return (255 * colour.clip(0, 1)).astype(np.uint8)


def _placed(bullet: Any, world: World, spec: CameraSpec) -> np.ndarray:
    pose = camera_pose(spec)
    if not spec.on_hand:
        return pose
    state = bullet.getLinkState(world.robot, world.hand, computeForwardKinematics=1)
    hand = np.eye(4)
    hand[:3, :3] = np.reshape(bullet.getMatrixFromQuaternion(state[5]), (3, 3))
    hand[:3, 3] = state[4]
    return hand @ pose


def camera_pose(spec: CameraSpec) -> np.ndarray:
    """[4, 4] in the base or the hand frame; x right, y up, z backward, as OpenGL has it."""
    forward = np.array(spec.look_at) - np.array(spec.position)
    back = -forward / np.linalg.norm(forward)
    right = np.cross((1.0, 0.0, 0.0) if spec.on_hand else (0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
    pose[:3, 3] = spec.position
    return pose


def projection(fovy_deg: float, aspect: float) -> list[float]:
    """OpenGL's projection matrix, by columns."""
    scale = 1 / np.tan(np.deg2rad(fovy_deg) / 2)
    depth = _NEAR_M - _FAR_M
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1] = scale / aspect, scale
    matrix[2, 2], matrix[2, 3], matrix[3, 2] = (_FAR_M + _NEAR_M) / depth, 2 * _FAR_M * _NEAR_M / depth, -1
    return matrix.T.ravel().tolist()
