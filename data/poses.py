"""Poses, their differences and sums; torch, vectorised over leading dimensions, differentiable.

Rotations are Euler angles "xyz" extrinsic: R = Rz(yaw) Ry(pitch) Rx(roll), as DROID and V-JEPA 2-AC have them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_from_euler(euler: Tensor) -> Tensor:
    """[..., 3] roll pitch yaw -> [..., 3, 3]."""
    cr, cp, cy = torch.cos(euler).unbind(-1)
    sr, sp, sy = torch.sin(euler).unbind(-1)
    rows = [
        cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr,
        sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr,
        -sp, cp * sr, cp * cr,
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def euler_from_rotation(rotation: Tensor) -> Tensor:
    """[..., 3, 3] -> [..., 3] roll pitch yaw; at gimbal lock roll takes what yaw cannot."""
    cp = torch.hypot(rotation[..., 0, 0], rotation[..., 1, 0])
    locked = cp < 1e-6
    one = torch.ones_like(cp)
    # atan2(0, 0) has no gradient: feed it ones where the other branch is taken.
    roll = torch.atan2(
        torch.where(locked, torch.zeros_like(cp), rotation[..., 2, 1]),
        torch.where(locked, one, rotation[..., 2, 2]),
    )
    yaw = torch.atan2(
        torch.where(locked, -rotation[..., 0, 1], rotation[..., 1, 0]),
        torch.where(locked, rotation[..., 1, 1], rotation[..., 0, 0]),
    )
    pitch = torch.atan2(-rotation[..., 2, 0], cp)
    return torch.stack([roll, pitch, yaw], -1)


def pose_difference(before: Tensor, after: Tensor) -> Tensor:
    """The action [..., 7] that leads from one pose [..., 7] to another."""
    turn = rotation_from_euler(after[..., 3:6]) @ rotation_from_euler(before[..., 3:6]).transpose(-1, -2)
    return torch.cat(
        [after[..., :3] - before[..., :3], euler_from_rotation(turn), after[..., 6:] - before[..., 6:]], -1
    )


def apply_action(pose: Tensor, action: Tensor) -> Tensor:
    """The pose [..., 7] that an action [..., 7] leads to; closedness stays within 0 and 1."""
    rotation = rotation_from_euler(action[..., 3:6]) @ rotation_from_euler(pose[..., 3:6])
    closedness = (pose[..., 6:] + action[..., 6:]).clamp(0.0, 1.0)
    return torch.cat([pose[..., :3] + action[..., :3], euler_from_rotation(rotation), closedness], -1)


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """[..., 3, 3] -> xyzw [..., 4] with w >= 0; stable for every angle."""
    m = rotation
    t = torch.stack(
        [
            1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2],
            1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2],
        ],
        -1,
    )
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    options = torch.stack(
        [
            torch.stack([t[..., 0], d, e, a], -1),
            torch.stack([d, t[..., 1], f, b], -1),
            torch.stack([e, f, t[..., 2], c], -1),
            torch.stack([a, b, c, t[..., 3]], -1),
        ],
        -2,
    )
    best = t.argmax(-1)[..., None, None].expand(*t.shape[:-1], 1, 4)
    q = options.gather(-2, best).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., 3:] < 0, -q, q)


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """xyzw [..., 4] -> [..., 3, 3]; the quaternion need not be of unit length."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def poses_from(position: Tensor, quaternion: Tensor, closedness: Tensor) -> Tensor:
    """Position [..., 3], xyzw [..., 4], closedness [...] -> poses [..., 7]."""
    return torch.cat(
        [position, euler_from_rotation(rotation_from_quaternion(quaternion)), closedness[..., None]], -1
    )
