"""Proposals that need no network: action sequences that are remembered, and the last plan shifted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data.types import CLOSEDNESS, Memory
from planners.actions import GripperRule
from planners.protocols import Plan


def shifted(actions: Tensor, steps: int, horizon: int, rule: GripperRule) -> Tensor:
    """Actions [..., H, A] without their first `steps`, filled up to `horizon` with holding still."""
    rest = actions[..., min(steps, actions.shape[-2] - 1) :, :]
    if steps >= actions.shape[-2]:
        rest = rest[..., :0, :]
    missing = horizon - rest.shape[-2]
    if missing <= 0:
        return rest[..., :horizon, :]
    still = actions.new_zeros(*actions.shape[:-2], missing, actions.shape[-1])
    if rule is GripperRule.TARGET:
        still[..., CLOSEDNESS] = actions[..., -1:, CLOSEDNESS]
    return torch.cat([rest, still], -2)


@dataclass(kw_only=True)
class Remembered:
    """Proposes what it holds."""

    actions: Tensor
    """[B, M, H, A], the best first."""
    rule: GripperRule = GripperRule.TARGET

    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        if len(self.actions) != len(memory.poses):
            raise ValueError(
                f"remembered plans of {len(self.actions)} problems offered to {len(memory.poses)}"
            )
        return shifted(self.actions[:, :count], 0, horizon, self.rule)

    @staticmethod
    def after(plan: Plan, steps: int, rule: GripperRule) -> Remembered:
        """The plan, then its elites, as they look `steps` later."""
        sequences = [plan.actions[:, None]]
        elites = plan.info.get("elites")
        if elites is not None:
            sequences.append(elites)
        actions = torch.cat(sequences, 1)
        return Remembered(actions=shifted(actions, steps, actions.shape[2], rule), rule=rule)
