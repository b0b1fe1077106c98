"""The actor.  Mode 1 reacts: a policy.  Mode 2 deliberates: a search through imagined futures, seeded by Mode 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from data.types import Imagined, Memory
from planners.protocols import Budget, Energy, Imagines, Plan, Planner, Proposes
from world_model.heads.policy import Policy


@dataclass(kw_only=True, slots=True)
class Decision:
    """The action to take now (its last number is the commanded closedness) and how it was found."""

    action: Tensor  # [7]
    mode: str  # "policy" | "planner"
    plan: Plan
    improved: bool = False  # Mode 2 found something better than Mode 1 proposed


class Acts(Protocol):
    def decide(
        self,
        memory: Memory,
        goal: Tensor,
        energy: Energy,
        *,
        mode: str,
        budget: Budget | None,
        seed: int,
        keep_clouds: bool,
    ) -> Decision: ...


@dataclass
class PolicyProposals:
    """Mode 1, rolled out in imagination: what it would do, and what it would do in a slightly different mood.

    Proposals after the first come from moods of the policy's own dropout, or from noise on its moves.
    """

    policy: Policy
    model: Imagines
    goal: Tensor  # [1, N, D]
    noise_m: float = 0.01

    @torch.no_grad()
    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        problems = len(memory.latents)
        z = memory.latents[:, -1:].expand(-1, count, -1, -1)
        s = memory.poses[:, -1:].expand(-1, count, -1)
        goal = self.goal[:, None].expand(problems, count, -1, -1)
        actions = memory.poses.new_zeros(problems, count, 0, 7)
        for step in range(horizon):
            action = self.policy.act(z, goal, s)
            if count > 1:
                noise = torch.randn(action[:, 1:, :3].shape, generator=generator) * self.noise_m
                action[:, 1:, :3] += noise.to(action)
            action[..., 6] = action[..., 6].round()
            actions = torch.cat([actions, action[:, :, None]], 2)
            if step + 1 < horizon:
                imagined = self.model.imagine(memory, actions)
                z, s = imagined.latents[:, :, -1], imagined.poses[:, :, -1]
        return actions


class Actor:
    """Mode 1 needs a policy, Mode 2 a planner; with both, Mode 1 proposes to Mode 2."""

    def __init__(
        self, model: Imagines, policy: Policy | None, planner: Planner | None, *, horizon: int = 4
    ) -> None:
        if policy is None and planner is None:
            raise ValueError("an actor needs a policy (Mode 1), a planner (Mode 2) or both")
        self._model, self._policy, self._planner, self._horizon = model, policy, planner, horizon

    def decide(
        self,
        memory: Memory,
        goal: Tensor,
        energy: Energy,
        *,
        mode: str = "both",
        budget: Budget | None = None,
        seed: int = 0,
        keep_clouds: bool = False,
    ) -> Decision:
        """`mode`: policy (react), planner (search without proposals) or both (search around what Mode 1 would do)."""
        proposals: tuple[Proposes, ...] = ()
        if self._policy is not None and mode != "planner":
            proposals = (PolicyProposals(self._policy, self._model, goal),)
        if mode == "policy" or self._planner is None:
            return self._react(memory, energy, proposals, seed)
        plan = self._planner.plan(
            memory,
            self._model,
            energy,
            proposers=proposals,
            budget=budget,
            seed=seed,
            keep_clouds=keep_clouds,
        )
        offered = plan.info.get("proposal_energy")
        improved = offered is not None and bool((plan.energy < offered - 1e-6).all())
        return Decision(action=plan.actions[0, 0], mode="planner", plan=plan, improved=improved)

    @torch.no_grad()
    def _react(self, memory: Memory, energy: Energy, proposals: tuple[Proposes, ...], seed: int) -> Decision:
        if not proposals:
            raise ValueError(
                "Mode 1 was asked for, but the model has no policy: forearm train heads=policy makes one"
            )
        generator = torch.Generator().manual_seed(seed)
        actions = proposals[0].propose(memory, self._horizon, 1, generator)
        imagined: Imagined = self._model.imagine(memory, actions)
        terms = {name: value[:, 0] for name, value in energy.terms(memory, imagined, actions).items()}
        plan = Plan(
            actions=actions[:, 0],
            energy=torch.stack(list(terms.values())).sum(0),
            imagined=imagined,
            terms=terms,
        )
        return Decision(action=actions[0, 0, 0], mode="policy", plan=plan)
