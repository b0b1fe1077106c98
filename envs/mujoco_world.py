"""A scene and the Panda, built into a MuJoCo model."""

from __future__ import annotations

import mujoco
import numpy as np

from .looks import GRIPPERS
from .panda import panda_spec
from .scenes import CameraSpec, ObjectSpec, Scene, primitives_of
from .textures import table_picture

TIMESTEP_S = 0.002  # at 4 ms a carried cube slips
_DIM = 0.75


def build_model(scene: Scene, *, full_meshes: bool = False) -> mujoco.MjModel:
    """Compile the scene; hulls only for the model's cameras, full meshes for pictures for people."""
    spec = panda_spec(full_meshes=full_meshes, look=GRIPPERS[scene.gripper])
    _set_physics(spec)
    _set_visuals(spec, scene, full_meshes)
    for item in scene.objects:
        _add_object(spec, item)
    for camera in scene.cameras:
        _add_camera(spec, camera)
    return spec.compile()


def _set_physics(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    spec.option.noslip_iterations = 4
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=(0.55, 0.75, 0.02),
        pos=(0.45, 0, -0.02),
        contype=1,
        conaffinity=3,
        friction=(1.0, 0.02, 0.0005),
    )


def _set_visuals(spec: mujoco.MjSpec, scene: Scene, full_meshes: bool) -> None:
    spec.geom("table").rgba = (*scene.table_colour, 1.0)
    picture = table_picture(scene)
    if picture is not None:
        height, width = picture.shape[:2]
        texture = spec.add_texture(
            name="table", type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height
        )
        # Light beyond 1 is cut off before the texture is laid on: a dimmer table under a brighter picture.
        texture.data = np.minimum(255, picture / _DIM).astype(np.uint8).tobytes()
        material = spec.add_material(name="table")
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
        spec.geom("table").material = "table"
        spec.geom("table").rgba = (_DIM, _DIM, _DIM, 1)
    spec.visual.quality.offsamples = 4 if full_meshes else 0
    spec.visual.quality.shadowsize = 2048
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    spec.visual.headlight.ambient = [scene.light_ambient] * 3
    spec.visual.headlight.diffuse = [0.12] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.map.znear = 0.01
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=(0.4, 0, 2.0),
        dir=scene.light_direction,
        diffuse=[scene.light_diffuse] * 3,
        specular=[0.1] * 3,
        castshadow=full_meshes,
    )
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.82, 0.86, 0.90],
        rgb2=[0.55, 0.60, 0.66],
        width=64,
        height=384,
    )


def _add_object(spec: mujoco.MjSpec, item: ObjectSpec) -> None:
    half = item.yaw_rad / 2
    body = spec.worldbody.add_body(name=item.name, pos=item.position, quat=(np.cos(half), 0, 0, np.sin(half)))
    body.add_freejoint(name=item.name)
    pieces = primitives_of(item)
    for index, piece in enumerate(pieces):
        angle = piece.yaw_rad / 2
        cylinder = piece.kind == "cylinder"
        body.add_geom(
            name=f"{item.name}_{index}",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER if cylinder else mujoco.mjtGeom.mjGEOM_BOX,
            size=(piece.size[0], piece.size[2], 0) if cylinder else piece.size,
            pos=piece.position,
            quat=(np.cos(angle), 0, 0, np.sin(angle)),
            rgba=(*item.colour, 1.0),
            mass=item.mass_kg / len(pieces),
            contype=1,
            conaffinity=3,
            condim=4,
            friction=(1.0, 0.02, 0.0005),
            solref=(0.005, 1),
            solimp=(0.95, 0.99, 0.001, 0.5, 2),
        )


def _add_camera(spec: mujoco.MjSpec, camera: CameraSpec) -> None:
    parent = spec.body("panda_hand") if camera.on_hand else spec.worldbody
    forward = np.array(camera.look_at) - np.array(camera.position)
    back = -forward / np.linalg.norm(forward)
    up_hint = np.array([1.0, 0.0, 0.0]) if camera.on_hand else np.array([0.0, 0.0, 1.0])
    right = np.cross(up_hint, back)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back], axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    parent.add_camera(name=camera.name, pos=camera.position, quat=quaternion, fovy=camera.fovy_deg)
