"""Poses and actions as networks like them: centred, scaled, angles without a jump at half a turn."""

from __future__ import annotations

import torch
from torch import Tensor

POSE_FEATURES = 10
ACTION_FEATURES = 8
_CENTRE = (0.50, 0.0, 0.15)  # metres: the middle of the workspace
_SPREAD = 0.12
STEP_M = 0.03  # a usual step
STEP_RAD = 0.1


def pose_features(poses: Tensor) -> Tensor:
    """[..., 7] -> [..., 10]."""
    position = (poses[..., :3] - poses.new_tensor(_CENTRE)) / _SPREAD
    angles = poses[..., 3:6]
    return torch.cat([position, angles.sin(), angles.cos(), 2 * poses[..., 6:] - 1], -1)


def action_features(actions: Tensor, poses: Tensor) -> Tensor:
    """Actions [..., 7] whose last number is the commanded closedness, taken at `poses` -> [..., 8]."""
    told = actions[..., 6:]
    return torch.cat(
        [actions[..., :3] / STEP_M, actions[..., 3:6] / STEP_RAD, 2 * told - 1, told - poses[..., 6:]], -1
    )
