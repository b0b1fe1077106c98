"""The Panda that `pybullet_data` carries (Apache-2.0), made ready for MuJoCo: servos, a coupled gripper, gravity off.

Both engines load the same URDF and meshes; nothing is vendored.  `FOREARM_PANDA` may name another copy of the
folder, for machines without pybullet.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from .arm import ArmError
from .looks import GRIPPERS, GripperLook
from .meshes import read_obj

JOINT_NAMES = tuple(f"panda_joint{i}" for i in range(1, 8))
FINGER_NAMES = ("panda_finger_joint1", "panda_finger_joint2")
JOINT_LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])  # Franka's data sheet
JOINT_HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
HOME_JOINTS = np.array(
    [0.0, -0.2, 0.0, -2.35, 0.0, 2.15, np.pi / 4]
)  # hand square to the base, pointing down
STOP_RAD = 0.01  # before its limit a simulated joint meets a stop, whatever pushes it
FINGER_OPEN_M = 0.04  # each finger
TOOL_OFFSET_M = 0.105  # tool point in the hand frame, along its z

_SERVO_STIFFNESS = (4500, 4500, 3500, 3500, 2000, 2000, 2000)
_SERVO_FORCE = (87, 87, 87, 87, 12, 12, 12)
_GRIPPER_STIFFNESS = 1500.0  # N/m on the mean finger position
_GRIPPER_FORCE_N = 30.0


def panda_folder() -> Path:
    """Where `panda.urdf` and its meshes lie."""
    override = os.environ.get("FOREARM_PANDA")
    if override:
        folder = Path(override)
    else:
        spec = find_spec("pybullet_data")
        if spec is None or spec.origin is None:
            raise ArmError(
                "the Panda's description was not found: pybullet_data is not installed; "
                "pip install pybullet, or set FOREARM_PANDA to a folder with panda.urdf and meshes/"
            )
        folder = Path(spec.origin).parent / "franka_panda"
    if not (folder / "panda.urdf").is_file():
        raise ArmError(
            f"no panda.urdf in {folder}; FOREARM_PANDA must name a folder with panda.urdf and meshes/"
        )
    return folder


def panda_spec(*, full_meshes: bool = False, look: GripperLook = GRIPPERS["dark"]) -> mujoco.MjSpec:
    """A MuJoCo specification of the arm with a site `tool`: drawn as its hulls, or as its full meshes."""
    folder = panda_folder()
    urdf = (folder / "panda.urdf").read_text()
    urdf = urdf.replace("package://meshes/", f"{folder}/meshes/")
    compiler = '<mujoco><compiler discardvisual="false" strippath="false" fusestatic="false" balanceinertia="true"/></mujoco>'
    urdf = urdf.replace("</robot>", compiler + "</robot>")
    spec = mujoco.MjSpec.from_string(urdf)
    spec.modelname = "forearm"
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    for geom in spec.geoms:
        if geom.type != mujoco.mjtGeom.mjGEOM_MESH:
            continue
        geom.rgba = (0.93, 0.93, 0.94, 1.0)
        if geom.parent.name in ("panda_hand", "panda_leftfinger", "panda_rightfinger"):
            geom.rgba = (*(look.hand if "hand" in geom.parent.name else look.finger), 1.0)
    _choose_looks(spec, full_meshes)
    _add_fingertips(spec, look)
    spec.body("panda_hand").add_site(
        name="tool", pos=(0, 0, TOOL_OFFSET_M), size=(0.003, 0.003, 0.003), group=5
    )
    _add_servos(spec)
    # Neighbouring links overlap by construction of the hulls; the arm's own collisions are left to the joint limits.
    for geom in spec.geoms:
        if geom.contype and geom.parent.name not in ("panda_hand", "panda_leftfinger", "panda_rightfinger"):
            geom.contype, geom.conaffinity = 0, 0
        elif geom.contype:
            geom.contype, geom.conaffinity = 2, 1
    return spec


def _choose_looks(spec: mujoco.MjSpec, full_meshes: bool) -> None:
    """Hulls are geom group 0 and full meshes group 1 of what the URDF becomes."""
    for geom in list(spec.geoms):
        if geom.type != mujoco.mjtGeom.mjGEOM_MESH:
            continue
        if geom.group == 1 and not full_meshes:
            spec.delete(geom)
        elif geom.group == 0 and full_meshes:
            geom.group = 4
    used = {geom.meshname for geom in spec.geoms if geom.type == mujoco.mjtGeom.mjGEOM_MESH}
    for mesh in list(spec.meshes):
        if mesh.name not in used:
            spec.delete(mesh)
        elif full_meshes:
            vertices, triangles = read_obj(Path(mesh.file))
            mesh.file = ""
            mesh.uservert, mesh.userface = vertices.ravel(), triangles.ravel()


def _add_fingertips(spec: mujoco.MjSpec, look: GripperLook) -> None:
    """Flat pads: the finger hull alone touches with an edge, and a carried cube swings on it."""
    for name in ("panda_leftfinger", "panda_rightfinger"):
        body = spec.body(name)
        side = 1.0 if name == "panda_leftfinger" else -1.0
        for geom in body.geoms:
            if geom.contype:
                geom.friction = (1.0, 0.02, 0.0005)
        body.add_geom(
            name=f"{name}_pad",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(0.0105, 0.004, 0.009),
            pos=(0, side * 0.004, 0.0445),
            rgba=(*look.pad, 1),
            friction=(2.0, 0.05, 0.001),
            condim=6,
            priority=1,
            solref=(0.005, 1),
            solimp=(0.95, 0.99, 0.001, 0.5, 2),
            contype=2,
            conaffinity=1,
            mass=0.001,
            group=0,
        )


def _add_servos(spec: mujoco.MjSpec) -> None:
    for index, (name, stiffness, force) in enumerate(zip(JOINT_NAMES, _SERVO_STIFFNESS, _SERVO_FORCE)):
        joint = spec.joint(name)
        # The URDF's stops lie 4 degrees beyond the data sheet's limits: an arm that leans on an object got there.
        joint.range = (JOINT_LOW[index] + STOP_RAD, JOINT_HIGH[index] - STOP_RAD)
        joint.solref_limit, joint.solimp_limit = (0.005, 1), (0.95, 0.99, 0.001, 0.5, 2)
        joint.armature = 0.1
        joint.damping = (1.0, 0.0, 0.0)
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=stiffness, kv=stiffness / 10)
        actuator.forcerange = (-force, force)
        actuator.forcelimited = True
    for name in FINGER_NAMES:
        joint = spec.joint(name)
        joint.armature = 0.1
        joint.damping = (10.0, 0.0, 0.0)
    tendon = spec.add_tendon(name="grip")
    for name in FINGER_NAMES:
        tendon.wrap_joint(name, 0.5)
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT,
        name1=FINGER_NAMES[0],
        name2=FINGER_NAMES[1],
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        data=[0, 1] + [0] * 10,
        solref=(0.005, 1),
        solimp=(0.95, 0.99, 0.001, 0.5, 2),
    )
    grip = spec.add_actuator(name="grip", target="grip", trntype=mujoco.mjtTrn.mjTRN_TENDON)
    grip.set_to_position(kp=_GRIPPER_STIFFNESS, kv=60.0)
    grip.forcerange = (-_GRIPPER_FORCE_N, _GRIPPER_FORCE_N)
    grip.forcelimited = True
    grip.ctrlrange = (0.0, FINGER_OPEN_M)
    grip.ctrllimited = True
