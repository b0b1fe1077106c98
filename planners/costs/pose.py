"""Distance from imagined poses to a goal pose, for goals that are known as poses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from data.poses import rotation_from_euler
from data.types import CLOSEDNESS, Imagined, Memory
from planners.costs.goal import Over, over_steps, per_problem

SMOOTH = 1e-4  # the distance is round below this, so that its gradient has no jump at the goal


@dataclass(kw_only=True)
class PoseDistance:
    """Metres over `position_m`, plus radians over `rotation_rad`, plus closedness over `closedness`; zero: leave out."""

    goal: Tensor
    """[7] for all problems or [B, 7]."""
    position_m: float = 0.1
    """Distance that counts as one."""
    rotation_rad: float = 0.0
    """Angle that counts as one."""
    closedness: float = 0.0
    """Difference of closedness that counts as one."""
    over: Over = Over.LAST

    def __post_init__(self) -> None:
        self.over = Over(self.over)

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        poses = imagined.poses if self.over != Over.LAST else imagined.poses[:, :, -1:]  # [B, K, H, 7]
        goal = per_problem(self.goal, len(poses), 1, "the goal pose")[:, None, None]
        energy = poses.new_zeros(poses.shape[:3])
        if self.position_m:
            energy = energy + _length(poses[..., :3] - goal[..., :3]) / self.position_m
        if self.rotation_rad:
            # The Frobenius norm of the difference is 2 sqrt(2) sin(angle / 2): smooth at any angle.
            differ = rotation_from_euler(poses[..., 3:6]) - rotation_from_euler(goal[..., 3:6])
            energy = energy + _length(differ.flatten(-2)) / 2**0.5 / self.rotation_rad
        if self.closedness:
            energy = energy + (poses[..., CLOSEDNESS] - goal[..., CLOSEDNESS]).abs() / self.closedness
        return over_steps(energy, self.over)


def _length(difference: Tensor) -> Tensor:
    return (difference.square().sum(-1) + SMOOTH**2).sqrt() - SMOOTH
