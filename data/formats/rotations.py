"""Rotations as logs have them: arrays in, arrays out, by the maths of `data/poses.py`.

Listing a log turns nothing, so torch, two thirds of the memory of all libraries, comes with the first turn.
"""

from __future__ import annotations

import numpy as np


def rotation_of(
    *, euler: np.ndarray | None = None, vector: np.ndarray | None = None, quaternion: np.ndarray | None = None
) -> np.ndarray:
    """Euler xyz extrinsic [..., 3], rotation vectors [..., 3] or xyzw [..., 4] -> [..., 3, 3]."""
    import torch

    from data.poses import rotation_from_euler, rotation_from_quaternion

    if euler is not None:
        return rotation_from_euler(torch.from_numpy(np.asarray(euler, np.float64))).numpy()
    if vector is not None:
        angle = np.linalg.norm(vector, axis=-1, keepdims=True)
        axis = vector / np.where(angle > 0, angle, 1.0)
        quaternion = np.concatenate([axis * np.sin(angle / 2), np.cos(angle / 2)], -1)
    if quaternion is None:
        raise ValueError("give euler, vector or quaternion")
    return rotation_from_quaternion(torch.from_numpy(np.array(quaternion))).numpy()


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """[T, 3, 3] -> xyzw [T, 4], continuous from row to row."""
    import torch

    from data.poses import quaternion_from_rotation

    quaternion = quaternion_from_rotation(torch.from_numpy(np.ascontiguousarray(rotation))).numpy()
    turns = np.sum(quaternion[1:] * quaternion[:-1], -1) < 0
    sign = np.where(np.cumsum(turns) % 2, -1.0, 1.0)
    quaternion[1:] *= sign[:, None]
    return quaternion


def euler_of(rotation: np.ndarray) -> np.ndarray:
    """[T, 3, 3] -> Euler xyz extrinsic [T, 3]."""
    import torch

    from data.poses import euler_from_rotation

    return euler_from_rotation(torch.from_numpy(np.ascontiguousarray(rotation))).numpy()


def matrix_of(pose: np.ndarray) -> np.ndarray:
    """xyz and Euler [6] -> [4, 4]."""
    transform = np.eye(4)
    transform[:3, :3] = rotation_of(euler=pose[3:6])
    transform[:3, 3] = pose[:3]
    return transform
