"""What a robosuite file says of its world: where the robot stands, and which state is which object's pose."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from data.formats.rotations import rotation_of

_SIZE = {"free": 7, "ball": 4, "hinge": 1, "slide": 1}
_SPEEDS = {"free": 6, "ball": 3, "hinge": 1, "slide": 1}


def _tree(model: object) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(str(model or "<mujoco/>"))
    except ElementTree.ParseError:
        return None


def world_T_base(model: object) -> np.ndarray | None:
    """Where the robot's base stands in the world [4, 4], or None if the model does not say."""
    tree = _tree(model)
    body = None if tree is None else tree.find(".//body[@name='robot0_base']")
    if body is None:
        return None
    pose = np.eye(4)
    try:
        pose[:3, 3] = [float(v) for v in body.get("pos", "0 0 0").split()]
        wxyz = np.array([float(v) for v in body.get("quat", "1 0 0 0").split()])
    except ValueError:
        return None
    pose[:3, :3] = rotation_of(quaternion=wxyz[[1, 2, 3, 0]])
    return pose


def object_poses(model: object, states: np.ndarray) -> dict[str, np.ndarray]:
    """Poses in the world of everything that moves freely: name -> xyz and xyzw [T, 7].

    States are time, positions and speeds, in the order of the joints in the model.
    """
    tree = _tree(model)
    bodies = [] if tree is None else [b for b in tree.iter("body")]
    found: dict[str, np.ndarray] = {}
    at = speeds = 0
    for body in bodies:
        for joint in [*body.findall("joint"), *body.findall("freejoint")]:
            kind = "free" if joint.tag == "freejoint" else joint.get("type", "hinge")
            if kind == "free":
                pose = states[:, 1 + at : 1 + at + 7]
                if pose.shape[1] == 7:
                    name = (body.get("name") or f"object_{len(found)}").removesuffix("_main")
                    found[name] = np.concatenate([pose[:, :3], pose[:, 4:7], pose[:, 3:4]], 1)
            at += _SIZE.get(kind, 1)
            speeds += _SPEEDS.get(kind, 1)
    return found if states.shape[1] >= 1 + at + speeds else {}
