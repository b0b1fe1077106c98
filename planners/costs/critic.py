"""The cost still to come, by a trained critic; and who is asked: the critic far away, the distance near.

The critic need not be symmetric: putting back is not the same as dropping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from data.types import Imagined, Memory
from planners.costs.goal import Over, over_steps, per_problem

StepsToGo = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(latents [..., N, D], poses [..., 7], goal [..., N, D]) -> model steps still to go [...]."""


@dataclass(kw_only=True)
class CriticCost:
    """Model steps from the imagined end to the goal, as the critic judges."""

    steps_to_go: StepsToGo
    goal: Tensor
    """[N, D] for all problems or [B, N, D]."""
    over: Over = Over.LAST
    """last: the state in the end; sum: all states; min: the fastest way through any of them, its steps counted."""

    def __post_init__(self) -> None:
        self.over = Over(self.over)

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        latents, poses = imagined.latents, imagined.poses
        if self.over == Over.LAST:
            latents, poses = latents[:, :, -1:], poses[:, :, -1:]
        goal = per_problem(self.goal, len(latents), 2, "the goal latent")
        left = self.steps_to_go(latents, poses, goal[:, None, None].expand_as(latents))
        if left.shape != latents.shape[:3]:
            raise ValueError(f"the critic returned {list(left.shape)} for states {list(latents.shape[:3])}")
        if self.over == Over.MIN:
            left = left + torch.arange(1, left.shape[-1] + 1, device=left.device)
        return over_steps(left, self.over)


@dataclass(kw_only=True)
class NearGoal:
    """A gate: 1 near the goal and 0 far from it (or the reverse), by the critic's estimate from here.

    It looks at the present and not at the imagined future, so that all candidates of a problem are judged alike.
    """

    steps_to_go: StepsToGo
    goal: Tensor
    near_steps: float = 4.0
    """Where both count alike."""
    width_steps: float = 1.0
    """How fast the one gives way to the other."""
    far: bool = False
    """True: 1 far away, 0 near."""

    @torch.no_grad()
    def __call__(self, memory: Memory) -> Tensor:
        latents, poses = memory.latents[:, -1], memory.poses[:, -1]
        goal = per_problem(self.goal, len(latents), 2, "the goal latent").expand_as(latents)
        left = self.steps_to_go(latents, poses, goal)
        near = torch.sigmoid((self.near_steps - left) / self.width_steps)
        return 1.0 - near if self.far else near
