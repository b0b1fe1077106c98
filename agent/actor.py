"""The actor.  Mode 1 reacts: a policy.  Mode 2 deliberates: a search through imagined futures, seeded by Mode 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from data.types import CLOSEDNESS, Imagined, Memory
from planners.protocols import Budget, Energy, Imagines, Plan, Planner
from world_model.heads.body import Body
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
    """Mode 1, rolled out in imagination: what it would do, and what it would do if it were taken somewhere first.

    Proposals after the first go a little elsewhere for a few steps, and some switch the gripper meanwhile; then the
    policy goes on from there, so that a proposal ends where a policy would, and not where no log has ever been.
    """

    policy: Policy
    model: Imagines
    goal: Tensor  # [1, N, D]
    aside_m: float = 0.012
    """Deviation of each step aside."""
    aside_steps: int = 3
    """Most steps aside."""
    switched: float = 0.25
    """Share of the proposals that hold the gripper the other way meanwhile."""

    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        return self._roll(memory, horizon, count, generator, to_the_end=False)[0]

    def roll(
        self, memory: Memory, horizon: int, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Imagined]:
        """Proposals [B, count, horizon, 7] and what they would lead to."""
        actions, after = self._roll(memory, horizon, count, generator, to_the_end=True)
        latents, poses = (torch.stack(x, 1).unflatten(0, (-1, count)) for x in zip(*after, strict=True))
        return actions, Imagined(latents=latents, poses=poses)

    @torch.no_grad()
    def _roll(
        self, memory: Memory, horizon: int, count: int, generator: torch.Generator, *, to_the_end: bool
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Actions, and latent and pose after each; after the last one only where it is asked for."""
        problems = len(memory.latents)
        context = max(memory.latents.shape[1], getattr(self.model, "context", 1))
        many = _repeated(memory, count)
        goal = self.goal.expand(len(many.latents), -1, -1)
        aside, until, switched = self._moods(problems, count, generator, like=memory.poses)
        taken: list[Tensor] = []
        after: list[tuple[Tensor, Tensor]] = []
        for step in range(horizon):
            pose = many.poses[:, -1]
            action = self.policy.act(many.latents[:, -1], goal, pose)
            on_the_way = step < until  # [problems * count]
            action[:, :3] += torch.where(on_the_way[:, None], aside, 0.0)
            closing = action[:, CLOSEDNESS].round()
            action[:, CLOSEDNESS] = torch.where(on_the_way & switched, 1.0 - closing, closing)
            taken.append(action)
            if step == horizon - 1 and not to_the_end:
                break
            many = _advanced(many, action, self.model, context)
            after.append((many.latents[:, -1], many.poses[:, -1]))
        return torch.stack(taken, 1).unflatten(0, (problems, count)), after

    def _moods(
        self, problems: int, count: int, generator: torch.Generator, *, like: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Per proposal: where it is taken [., 3], for how many steps [.], whether the gripper is switched [.]."""
        # Drawn for one problem and used for all, so that each is planned as it would be alone.
        aside = self.aside_m * torch.randn(count, 3, generator=generator).repeat(problems, 1, 1)
        until = torch.randint(1, self.aside_steps + 1, (count,), generator=generator).repeat(problems, 1)
        switched = (torch.rand(count, generator=generator) < self.switched).repeat(problems, 1)
        until[:, 0] = 0  # the first is the policy itself
        return tuple(x.flatten(0, 1).to(like.device) for x in (aside.to(like), until, switched))  # type: ignore[return-value]


@dataclass
class StraightThere:
    """To where the hand is seen in the goal picture, from where it is seen now, at several paces; fingers stay.

    What the two guesses get wrong alike falls out of their difference: the last centimetres that a policy creeps.
    """

    body: Body
    goal: Tensor  # [1, N, D]
    shares: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25)
    """Of the way."""
    most_m: float = 0.05
    """Longest step."""
    near_m: float = 0.1
    """Only for the last centimetres: farther away, what is to be carried there may not be in the hand."""

    @torch.no_grad()
    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        way = self.body(self.goal)[0] - self.body(memory.latents[:, -1])[0]
        near = way.norm(dim=-1) <= self.near_m  # [B]
        if not near.any():
            return memory.poses.new_zeros(len(way), 0, horizon, 7)
        left = (way * near[:, None])[:, None] * way.new_tensor(self.shares)[:, None]  # [B, P, 3]
        actions = memory.poses.new_zeros(*left.shape[:2], horizon, 7)
        actions[..., CLOSEDNESS] = (memory.poses[:, -1, None, None, CLOSEDNESS] > HELD_FROM).float()
        for step in range(horizon):
            length = left.norm(dim=-1, keepdim=True).clamp(min=1e-9)
            move = left * (self.most_m / length).clamp(max=1.0)
            actions[:, :, step, :3] = move
            left = left - move
        return actions


HELD_FROM = 0.35  # closedness of fingers that were told to close and stopped at a thing


def _repeated(memory: Memory, count: int) -> Memory:
    return Memory(
        latents=memory.latents.repeat_interleave(count, 0),
        poses=memory.poses.repeat_interleave(count, 0),
        actions=memory.actions.repeat_interleave(count, 0),
    )


def _advanced(memory: Memory, told: Tensor, model: Imagines, context: int) -> Memory:
    """The memory [B] one imagined step later, of at most `context` frames; told [B, 7] carries the closedness."""
    imagined = model.imagine(memory, told[:, None, None])
    done = told.clone()
    done[:, CLOSEDNESS] -= memory.poses[:, -1, CLOSEDNESS]
    return Memory(
        latents=torch.cat([memory.latents, imagined.latents[:, 0]], 1)[:, -context:],
        poses=torch.cat([memory.poses, imagined.poses[:, 0]], 1)[:, -context:],
        actions=torch.cat([memory.actions, done[:, None]], 1)[:, -(context - 1) :]
        if context > 1
        else memory.actions,
    )


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
        proposals: tuple[PolicyProposals, ...] = ()
        if self._policy is not None and mode != "planner":
            proposals = (PolicyProposals(self._policy, self._model, goal),)
        if mode == "policy" or self._planner is None:
            return self._react(memory, energy, proposals, seed)
        straight: tuple[StraightThere, ...] = ()
        if proposals and self._policy is not None and self._policy.body is not None:
            straight = (StraightThere(self._policy.body, goal),)
        plan = self._planner.plan(
            memory,
            self._model,
            energy,
            proposers=(*proposals, *straight),
            budget=budget,
            seed=seed,
            keep_clouds=keep_clouds,
        )
        offered = plan.info.get("proposal_energy")
        improved = offered is not None and bool((plan.energy < offered - 1e-6).all())
        return Decision(action=plan.actions[0, 0], mode="planner", plan=plan, improved=improved)

    @torch.no_grad()
    def _react(
        self, memory: Memory, energy: Energy, proposals: tuple[PolicyProposals, ...], seed: int
    ) -> Decision:
        if not proposals:
            raise ValueError(
                "Mode 1 was asked for, but the model has no policy: forearm train heads=policy makes one"
            )
        generator = torch.Generator().manual_seed(seed)
        actions, imagined = proposals[0].roll(memory, self._horizon, 1, generator)
        terms = {name: value[:, 0] for name, value in energy.terms(memory, imagined, actions).items()}
        plan = Plan(
            actions=actions[:, 0],
            energy=torch.stack(list(terms.values())).sum(0),
            imagined=imagined,
            terms=terms,
        )
        return Decision(action=actions[0, 0, 0], mode="policy", plan=plan)
