"""What a future costs when nothing is hidden: the ceilings' energies, in the true state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data.types import Imagined, Memory
from envs.expert import LIFT_M
from planners.costs.total import Term, TotalCost


@dataclass(kw_only=True)
class TrueDistance:
    """Metres between hands, and between objects, over `unit_m`; closedness counts `grip`."""

    goal: Tensor  # [1, 1, 7]
    unit_m: float = 0.05
    object_weight: float = 2.0
    grip: float = 1.0

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        gap = imagined.latents[:, :, -1, 0] - self.goal[:, None, 0]  # [B, K, 7]
        hand, grip, thing = gap[..., :3].norm(dim=-1), gap[..., 3].abs(), gap[..., 4:].norm(dim=-1)
        return (hand + self.object_weight * thing) / self.unit_m + self.grip * grip


@dataclass(kw_only=True)
class TrueWayToGo:
    """What is still to be done for a thing to be somewhere else, over `unit_m`, in the mean of all steps so that none
    is put off: a perfect critic.

    While the thing is not there, the hand's way is to the thing and, later, from where the thing will be to its own
    last place; it is open until it is beside the thing.  Far from its place a thing is best carried at the script's
    height.
    """

    goal: Tensor  # [1, 1, 7]
    unit_m: float = 0.05
    object_weight: float = 2.0
    grip: float = 1.0
    height_weight: float = 0.3
    there_m: float = 0.015  # as near as this the thing is where it should be
    beside_m: float = 0.02  # from where on the thing may be grasped
    above_m: float = 0.05  # from where on, sideways, it is to be lowered

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        state, goal = imagined.latents[:, :, :, 0], self.goal[:, None]  # [B, K, H, 7]
        hand, closed, thing = state[..., :3], state[..., 3], state[..., 4:]
        gap = thing - goal[..., 4:]
        aside = gap[..., :2].norm(dim=-1)
        high = LIFT_M + (thing[..., 2] - LIFT_M).abs()
        height = torch.lerp(gap[..., 2].abs(), high, (aside / self.above_m).clamp(0, 1))
        carry = aside + self.height_weight * height
        missing = ((carry - self.there_m) / self.there_m).clamp(0, 1)
        to_thing = (hand - thing).norm(dim=-1)
        away = ((to_thing - self.beside_m) / self.beside_m).clamp(0, 1)
        afterwards = (goal[..., :3] - goal[..., 4:]).norm(dim=-1)
        way = torch.lerp((hand - goal[..., :3]).norm(dim=-1), to_thing + afterwards, missing)
        grip = torch.lerp((closed - goal[..., 3]).abs(), away * closed + (1 - goal[..., 3]), missing)
        return ((way + self.object_weight * carry) / self.unit_m + self.grip * grip).mean(-1)


@dataclass
class TrueCosts:
    """The agent's `Costs` when nothing is hidden."""

    way_to_go: bool = False  # rather than the distance, which leads to goals that are near only

    def for_goal(self, goal: Tensor, pose: Tensor | None) -> TotalCost:
        if self.way_to_go:
            return TotalCost([Term(name="true way to go", cost=TrueWayToGo(goal=goal))])
        return TotalCost([Term(name="true distance", cost=TrueDistance(goal=goal))])

    def steps_to_go(self, latent: Tensor, goal: Tensor, pose: Tensor) -> float:
        return float("inf")

    def distance(self, latent: Tensor, goal: Tensor) -> float:
        """Metres: the hand's gap or the object's, whichever is larger; ten per cent of closedness count a centimetre."""
        gap = (latent - goal)[0, 0]
        return float(torch.stack([gap[:3].norm(), gap[4:].norm(), 0.1 * gap[3].abs()]).max())
