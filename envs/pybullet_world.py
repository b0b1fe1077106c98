"""A scene and the Panda, built into a PyBullet world: the same hulls, pads and colours as `envs.mujoco_world`.

The Panda's URDF is rewritten so that its visuals are its collision meshes: what the model sees is then the same in
both engines.  The copy is written to a temporary folder, named by its content, and shared by all processes.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import os
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .arm import ArmError
from .looks import GRIPPERS, GripperLook
from .panda import FINGER_NAMES, JOINT_HIGH, JOINT_LOW, JOINT_NAMES, STOP_RAD, panda_folder
from .scenes import ObjectSpec, Scene, primitives_of
from .textures import table_picture

TIMESTEP_S = 0.004
_WORLD, _HAND = 1, 2  # collision groups: table and objects; hand and fingers
_LINK_COLOUR = (0.93, 0.93, 0.94)
_FINGERS = ("panda_leftfinger", "panda_rightfinger")


class World:
    """Handles of what was loaded into one client: the robot, its joints, the objects by name."""

    def __init__(self, bullet: Any, scene: Scene, *, full_meshes: bool = False) -> None:
        self._bullet = bullet
        bullet.resetSimulation()
        bullet.setPhysicsEngineParameter(
            fixedTimeStep=TIMESTEP_S,
            numSolverIterations=80,
            deterministicOverlappingPairs=1,
            enableConeFriction=1,
        )
        bullet.setGravity(0, 0, -9.81)
        self.table = self._table(scene)
        self.robot = bullet.loadURDF(
            str(panda_urdf(full_meshes=full_meshes, look=GRIPPERS[scene.gripper])),
            useFixedBase=True,
            flags=bullet.URDF_USE_INERTIA_FROM_FILE,
        )
        joints = {
            bullet.getJointInfo(self.robot, i)[1].decode(): i for i in range(bullet.getNumJoints(self.robot))
        }
        links = {
            bullet.getJointInfo(self.robot, i)[12].decode(): i for i in range(bullet.getNumJoints(self.robot))
        }
        self.arm = [joints[name] for name in JOINT_NAMES]
        self.fingers = [joints[name] for name in FINGER_NAMES]
        self.hand = links["panda_hand"]
        self._set_contacts()
        self.objects = {item.name: self._object(item) for item in scene.objects}
        self.centres = {item.name: _centre(item) for item in scene.objects}
        # The fingers mirror each other.
        gear = bullet.createConstraint(
            self.robot, self.fingers[0], self.robot, self.fingers[1],
            bullet.JOINT_GEAR, (1, 0, 0), (0, 0, 0), (0, 0, 0),
        )  # fmt: skip
        bullet.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=50)

    def _table(self, scene: Scene) -> int:
        bullet, half = self._bullet, (0.55, 0.75, 0.02)
        table = bullet.createMultiBody(
            0,
            bullet.createCollisionShape(bullet.GEOM_BOX, halfExtents=half),
            bullet.createVisualShape(
                bullet.GEOM_MESH, fileName=str(_table_mesh(half)), rgbaColor=(*scene.table_colour, 1)
            ),
            (0.45, 0, -0.02),
        )
        picture = table_picture(scene)
        if picture is not None:
            file = cached_file("table.png", _png(picture))
            bullet.changeVisualShape(
                table, -1, textureUniqueId=bullet.loadTexture(str(file)), rgbaColor=(1, 1, 1, 1)
            )
        bullet.changeDynamics(table, -1, lateralFriction=1.0)
        bullet.setCollisionFilterGroupMask(table, -1, _WORLD, _WORLD | _HAND)
        return table

    def _set_contacts(self) -> None:
        # As in MuJoCo: the hand and the fingers touch the world, the links above them do not.
        bullet = self._bullet
        for link in range(-1, bullet.getNumJoints(self.robot)):
            bullet.setCollisionFilterGroupMask(self.robot, link, 0, 0)
            bullet.changeDynamics(self.robot, link, linearDamping=0.0, angularDamping=0.0)
        for link in (self.hand, *self.fingers):
            bullet.setCollisionFilterGroupMask(self.robot, link, _HAND, _WORLD)
        for link in self.fingers:
            bullet.changeDynamics(
                self.robot, link, lateralFriction=2.0, spinningFriction=0.05, rollingFriction=0.001
            )

    def _object(self, item: ObjectSpec) -> int:
        bullet, pieces = self._bullet, primitives_of(item)
        kinds = [bullet.GEOM_CYLINDER if p.kind == "cylinder" else bullet.GEOM_BOX for p in pieces]
        half = [p.size for p in pieces]
        radii = [p.size[0] for p in pieces]
        where = [p.position for p in pieces]
        turns = [(0, 0, float(np.sin(p.yaw_rad / 2)), float(np.cos(p.yaw_rad / 2))) for p in pieces]
        heights = [2 * p.size[2] for p in pieces]
        collision = bullet.createCollisionShapeArray(
            shapeTypes=kinds, halfExtents=half, radii=radii, lengths=heights,
            collisionFramePositions=where, collisionFrameOrientations=turns,
        )  # fmt: skip
        looks = [bullet.GEOM_MESH if p.kind == "cylinder" else bullet.GEOM_BOX for p in pieces]
        visual = bullet.createVisualShapeArray(
            shapeTypes=looks, halfExtents=half, fileNames=[str(_cylinder_mesh())] * len(pieces), meshScales=half,
            visualFramePositions=where, visualFrameOrientations=turns,
            rgbaColors=[(*item.colour, 1.0)] * len(pieces),
        )  # fmt: skip
        half_yaw = item.yaw_rad / 2
        body = bullet.createMultiBody(
            item.mass_kg,
            collision,
            visual,
            item.position,
            (0, 0, float(np.sin(half_yaw)), float(np.cos(half_yaw))),
            baseInertialFramePosition=_centre(item),
        )
        bullet.changeDynamics(
            body, -1, lateralFriction=1.0, spinningFriction=0.002, rollingFriction=0.0001, linearDamping=0.0,
            angularDamping=0.0, activationState=bullet.ACTIVATION_STATE_DISABLE_SLEEPING,
        )  # fmt: skip
        bullet.setCollisionFilterGroupMask(body, -1, _WORLD, _WORLD | _HAND)
        bullet.changeVisualShape(body, -1, rgbaColor=(*item.colour, 1.0))
        return body


def panda_urdf(*, full_meshes: bool = False, look: GripperLook = GRIPPERS["dark"]) -> Path:
    """Where the rewritten URDF lies; written on first use."""
    folder = panda_folder()
    return cached_file(
        "panda.urdf", _rewrite((folder / "panda.urdf").read_text(), folder, full_meshes, look).encode()
    )


@functools.cache
def _table_mesh(half: tuple[float, float, float]) -> Path:
    """A box whose top bears the texture once, as MuJoCo lays it: PyBullet's own box shows an eighth of it."""
    x, y, z = half
    lines = [f"v {a * x} {b * y} {c * z}" for c in (-1, 1) for b in (-1, 1) for a in (-1, 1)]
    lines += ["vt 0 0", "vt 1 0", "vt 0 1", "vt 1 1"]
    lines += ["vn 0 0 1", "vn 0 0 -1", "vn 1 0 0", "vn -1 0 0", "vn 0 1 0", "vn 0 -1 0"]
    faces = (
        (5, 6, 8, 7, 1),
        (2, 1, 3, 4, 2),
        (2, 4, 8, 6, 3),
        (3, 1, 5, 7, 4),
        (4, 3, 7, 8, 5),
        (1, 2, 6, 5, 6),
    )
    for a, b, c, d, n in faces:
        u = (1, 2, 4, 3) if n == 1 else (1, 1, 1, 1)
        lines.append(f"f {a}/{u[0]}/{n} {b}/{u[1]}/{n} {c}/{u[2]}/{n}")
        lines.append(f"f {a}/{u[0]}/{n} {c}/{u[2]}/{n} {d}/{u[3]}/{n}")
    return cached_file("table.obj", ("\n".join(lines) + "\n").encode())


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def cached_file(name: str, content: bytes) -> Path:
    """A file with this content in the temporary folder, named by its content, written all or nothing."""
    cache = Path(tempfile.gettempdir()) / f"forearm-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    stem, suffix = name.rsplit(".", 1)
    path = cache / f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
    try:
        if not path.is_file() or path.read_bytes() != content:
            cache.mkdir(mode=0o700, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
                file.write(content)
            os.replace(file.name, path)
    except OSError as error:
        raise ArmError(f"cannot write {path}: {error}; set TMPDIR to a folder that can be written") from error
    return path


@functools.cache
def _cylinder_mesh(sides: int = 24) -> Path:
    """Radius 1, half height 1, with flat caps: PyBullet's own cylinder is shaded as if it were round at the rim."""
    angles = 2 * np.pi * np.arange(sides) / sides
    lines = [f"v {np.cos(a):.6f} {np.sin(a):.6f} {z}" for z in (-1, 1) for a in angles]
    lines += [f"vn {np.cos(a):.6f} {np.sin(a):.6f} 0" for a in angles] + ["vn 0 0 -1", "vn 0 0 1"]
    for k in range(1, sides + 1):
        n = k % sides + 1
        lines.append(f"f {k}//{k} {n}//{n} {n + sides}//{n}")
        lines.append(f"f {k}//{k} {n + sides}//{n} {k + sides}//{k}")
        if 1 < k < sides:
            lines.append(f"f 1//{sides + 1} {k + 1}//{sides + 1} {k}//{sides + 1}")
            top = sides + 2
            lines.append(f"f {sides + 1}//{top} {sides + k}//{top} {sides + k + 1}//{top}")
    return cached_file("cylinder.obj", ("\n".join(lines) + "\n").encode())


def _rewrite(urdf: str, folder: Path, full_meshes: bool, look: GripperLook) -> str:
    colours = {"panda_hand": look.hand} | dict.fromkeys(_FINGERS, look.finger)
    root = ElementTree.fromstring(urdf)
    for link in root.findall("link"):
        name = link.get("name", "")
        for contact in link.findall(
            "contact"
        ):  # friction anchors: not part of a snapshot, which must be exact
            link.remove(contact)
        if name in _FINGERS:
            side = 1.0 if name == "panda_leftfinger" else -1.0
            link.append(_pad(side))
        if not full_meshes:
            for visual in link.findall("visual"):
                link.remove(visual)
            for index, collision in enumerate(link.findall("collision")):
                visual = copy.deepcopy(collision)
                visual.tag = "visual"
                pad = visual.find("geometry/box") is not None
                colour = look.pad if pad else colours.get(name, _LINK_COLOUR)
                _paint(visual, f"{name}_{index}", colour)
                link.append(visual)
    for name, low, high in zip(JOINT_NAMES, JOINT_LOW, JOINT_HIGH):  # where `envs.panda` has its stops
        limit = root.find(f"joint[@name='{name}']/limit")
        if limit is not None:
            limit.attrib |= {"lower": str(low + STOP_RAD), "upper": str(high - STOP_RAD)}
    for mesh in root.iter("mesh"):
        mesh.set("filename", mesh.get("filename", "").replace("package://", f"{folder}/"))
    return ElementTree.tostring(root, encoding="unicode")


def _pad(side: float) -> ElementTree.Element:
    """Flat fingertips, as `envs.panda` adds them for MuJoCo."""
    return ElementTree.fromstring(
        f'<collision><origin rpy="0 0 0" xyz="0 {side * 0.004} 0.0445"/>'
        '<geometry><box size="0.021 0.008 0.018"/></geometry></collision>'
    )


def _paint(visual: ElementTree.Element, name: str, colour: tuple[float, float, float]) -> None:
    for material in visual.findall("material"):
        visual.remove(material)
    material = ElementTree.SubElement(visual, "material", name=name)
    ElementTree.SubElement(material, "color", rgba=" ".join(str(c) for c in (*colour, 1.0)))


def _centre(item: ObjectSpec) -> tuple[float, float, float]:
    """Centre of mass in the object's frame; every piece weighs the same."""
    x, y, z = np.mean([p.position for p in primitives_of(item)], axis=0)
    return (float(x), float(y), float(z))
