"""The cost of a goal: critic far away, latent distance near, what is forbidden always."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from planners.costs.critic import CriticCost, NearGoal
from planners.costs.goal import GoalDistance, Over
from planners.costs.intrinsic import Table, Workspace
from planners.costs.pose import PoseDistance
from planners.costs.total import Term, TotalCost
from world_model.heads.critic import Critic

from .settings import CostSettings


class Costs(Protocol):
    def for_goal(self, goal: Tensor, pose: Tensor | None) -> TotalCost: ...

    def steps_to_go(self, latent: Tensor, goal: Tensor, pose: Tensor) -> float: ...

    def distance(self, latent: Tensor, goal: Tensor) -> float: ...


class GoalCost:
    """Builds the energy of one goal."""

    def __init__(
        self,
        critic: Critic | None,
        settings: CostSettings | None = None,
        *,
        latent_scale: float = 2.0,
        low: tuple[float, float, float] = (0.25, -0.35, 0.012),
        high: tuple[float, float, float] = (0.75, 0.35, 0.50),
    ) -> None:
        self.settings, self._critic = settings or CostSettings(), critic
        self._latent_scale, self._low, self._high = latent_scale, low, high

    def for_goal(self, goal: Tensor, pose: Tensor | None) -> TotalCost:
        weights, parts = self.settings, []
        gate = None
        if self._critic is not None and weights.critic:
            # The critic speaks near the goal too: there the distance adds to it, far away it would mislead.
            gate = NearGoal(steps_to_go=self._to_go, goal=goal, near_steps=weights.near_steps)
            parts.append(
                Term(
                    name="critic", cost=CriticCost(steps_to_go=self._to_go, goal=goal), weight=weights.critic
                )
            )
        parts.append(
            Term(
                name="distance",
                cost=GoalDistance(goal=goal),
                weight=weights.distance,
                scale=self._latent_scale,
                gate=gate,
            )
        )
        if pose is not None and weights.pose:
            parts.append(Term(name="pose", cost=PoseDistance(goal=pose, over=Over.LAST), weight=weights.pose))
        parts.append(
            Term(
                name="workspace",
                cost=Workspace(low=self._low, high=self._high),
                weight=weights.intrinsic,
                scale_from_data=False,
            )
        )
        parts.append(Term(name="table", cost=Table(), weight=weights.intrinsic, scale_from_data=False))
        return TotalCost(parts)

    @torch.no_grad()
    def steps_to_go(self, latent: Tensor, goal: Tensor, pose: Tensor) -> float:
        if self._critic is None:
            return float("inf")
        return float(self._critic.steps_to_go(latent, goal, pose).mean())

    @torch.no_grad()
    def distance(self, latent: Tensor, goal: Tensor) -> float:
        """Relative to the distance between frames taken at random."""
        return float((latent - goal).square().mean()) / self._latent_scale

    def _to_go(self, latents: Tensor, poses: Tensor, goal: Tensor) -> Tensor:
        assert self._critic is not None
        return self._critic.steps_to_go(latents, goal, poses)
