"""The numpy side of `data.poses`, for control loops that handle one pose at a time."""

from __future__ import annotations

import numpy as np


def rotation_from_pose(pose: np.ndarray) -> np.ndarray:
    """[7] -> [3, 3], R = Rz(yaw) Ry(pitch) Rx(roll)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(pose[3:6]), np.sin(pose[3:6])
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def pose_from(position: np.ndarray, rotation: np.ndarray, closedness: float) -> np.ndarray:
    """Position [3], rotation [3, 3], closedness -> pose [7]."""
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    pitch = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    return np.array([*position, roll, pitch, yaw, closedness])


def rotation_about(vector: np.ndarray) -> np.ndarray:
    """Axis times angle [3] -> [3, 3]."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = vector / angle
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
