"""Forward kinematics of the arms that logs come from: joints in, pose of the tool in the base frame out.

An arm is a chain: from link to link a fixed transform, then a turn about one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PANDA_LOWER_RAD = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
PANDA_UPPER_RAD = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
FLANGE_M = 0.107  # from joint 7 to the flange
TCP_M = 0.1034  # from the flange to the middle of the finger tips
HAND_YAW_RAD = -np.pi / 4  # the hand is screwed to the flange at this angle


@dataclass(kw_only=True, frozen=True)
class Chain:
    """An arm: for each joint the roll of the frame, its offset in metres, and the axis (0 x, 1 y, 2 z)."""

    joints: tuple[tuple[float, tuple[float, float, float], int], ...]
    tools: dict[str, tuple[float, tuple[float, float, float]]]  # name -> yaw and offset after the last joint

    def base_T_tool(self, joints: np.ndarray, tool: str) -> np.ndarray:
        """Joints [..., n] rad -> [..., 4, 4]."""
        if tool not in self.tools:
            raise ValueError(f"tool {tool!r} is not known; this arm has {sorted(self.tools)}")
        if joints.shape[-1] != len(self.joints):
            raise ValueError(f"this arm has {len(self.joints)} joints, got {joints.shape[-1]}")
        pose = np.broadcast_to(np.eye(4), (*joints.shape[:-1], 4, 4))
        for (roll, offset, axis), angle in zip(self.joints, np.moveaxis(joints, -1, 0)):
            pose = pose @ _transform(_turn(np.asarray(roll), 0), offset) @ _transform(_turn(angle, axis))
        yaw, offset = self.tools[tool]
        return pose @ _transform(offset=offset) @ _transform(_turn(np.asarray(yaw), 2))


def _turn(angle: np.ndarray, axis: int) -> np.ndarray:
    """Rotation about one axis: [...] rad -> [..., 3, 3]."""
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.zeros((*np.shape(angle), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation[..., axis, axis] = 1
    rotation[..., i, i] = rotation[..., j, j] = c
    rotation[..., j, i], rotation[..., i, j] = s, -s
    return rotation


def _transform(rotation: np.ndarray | None = None, offset: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    rotation = np.eye(3) if rotation is None else rotation
    transform = np.zeros((*rotation.shape[:-2], 4, 4))
    transform[..., :3, :3] = rotation
    # `roll` and `offset` of a joint are given in its parent's frame: the offset is not turned by the roll.
    transform[..., :3, 3] = offset
    transform[..., 3, 3] = 1
    return transform


_Q = np.pi / 2
PANDA = Chain(
    joints=(
        (0.0, (0, 0, 0.333), 2),
        (-_Q, (0, 0, 0), 2),
        (_Q, (0, -0.316, 0), 2),
        (_Q, (0.0825, 0, 0), 2),
        (-_Q, (-0.0825, 0.384, 0), 2),
        (_Q, (0, 0, 0), 2),
        (_Q, (0.088, 0, 0), 2),
    ),
    tools={
        "flange": (0.0, (0, 0, FLANGE_M)),
        "hand": (HAND_YAW_RAD, (0, 0, FLANGE_M)),
        "tcp": (HAND_YAW_RAD, (0, 0, FLANGE_M + TCP_M)),
    },
)
VIPERX_300S = Chain(
    joints=(
        (0.0, (0, 0, 0), 2),
        (0.0, (0, 0, 0.12705), 1),
        (0.0, (0.05955, 0, 0.3), 1),
        (0.0, (0, 0, 0), 0),
        (0.0, (0.3, 0, 0), 1),
        (0.0, (0, 0, 0), 0),
    ),
    tools={"tcp": (0.0, (0.176944, 0, 0))},
)
CHAINS = {"panda": PANDA, "viperx_300s": VIPERX_300S}
