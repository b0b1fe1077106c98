"""The actor.  Mode 1 reacts: a policy.  Mode 2 deliberates: a search through imagined futures, seeded by Mode 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from data.types import CLOSEDNESS, Imagined, Memory
from planners.protocols import Budget, Energy, Imagines, Plan, Planner
from world_model.compact import Acting
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

    @torch.no_grad()
    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        act, taken = self._acting(memory, count, generator)
        if horizon > 1:
            before = follow(self.model, memory, act, horizon - 1, count)
            act(horizon - 1, before.latents[:, :, -1], before.poses[:, :, -1])
        else:  # nobody asks where the last action leads
            act(0, memory.latents[:, None, -1], memory.poses[:, None, -1])
        return torch.stack(taken, 2)

    @torch.no_grad()
    def roll(
        self, memory: Memory, horizon: int, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Imagined]:
        """Proposals [B, count, horizon, 7] and what they would lead to."""
        act, taken = self._acting(memory, count, generator)
        imagined = follow(self.model, memory, act, horizon, count)
        return torch.stack(taken, 2), imagined

    def _acting(self, memory: Memory, count: int, generator: torch.Generator) -> tuple[Acting, list[Tensor]]:
        """What each of `count` proposals does next, and the list where that is kept."""
        shape = (len(memory.latents), count)
        aside, until, switched = self._moods(*shape, generator, like=memory.poses)
        taken: list[Tensor] = []

        def act(step: int, latents: Tensor, poses: Tensor) -> Tensor:
            z, s = latents.expand(*shape, -1, -1), poses.expand(*shape, -1)
            action = self.policy.act(z, self.goal[:, None].expand_as(z), s)
            on_the_way = step < until  # [B, count]
            action[..., :3] += torch.where(on_the_way[..., None], aside, 0.0)
            closing = action[..., CLOSEDNESS].round()
            action[..., CLOSEDNESS] = torch.where(on_the_way & switched, 1.0 - closing, closing)
            taken.append(action)
            return action

        return act, taken

    def _moods(
        self, problems: int, count: int, generator: torch.Generator, *, like: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Per proposal: where it is taken [B, K, 3], for how many steps [B, K], whether the gripper is switched [B, K]."""
        # Drawn for one problem and used for all, so that each is planned as it would be alone.
        aside = self.aside_m * torch.randn(count, 3, generator=generator).repeat(problems, 1, 1)
        until = torch.randint(1, self.aside_steps + 1, (count,), generator=generator).repeat(problems, 1)
        switched = (torch.rand(count, generator=generator) < self.switched).repeat(problems, 1)
        until[:, 0] = 0  # the first is the policy itself
        return aside.to(like), until.to(like.device), switched.to(like.device)


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


def follow(model: Imagines, memory: Memory, act: Acting, horizon: int, count: int) -> Imagined:
    """What would follow if `act(step, latents [B, K, N, D], poses [B, K, 7])` chose the actions [B, count, 7] on the way.

    A model that can do so goes on from what it worked out; another is asked anew at each step.
    """
    own = getattr(model, "follow", None)
    if own is not None:
        return own(memory, act, horizon)
    context = max(memory.latents.shape[1], getattr(model, "context", 1))
    many = Memory(
        latents=memory.latents.repeat_interleave(count, 0),
        poses=memory.poses.repeat_interleave(count, 0),
        actions=memory.actions.repeat_interleave(count, 0),
    )
    after: list[tuple[Tensor, Tensor]] = []
    for step in range(horizon):
        z, s = (x[:, -1].unflatten(0, (-1, count)) for x in (many.latents, many.poses))
        many = _advanced(many, act(step, z, s).flatten(0, 1), model, context)
        after.append((many.latents[:, -1], many.poses[:, -1]))
    latents, poses = (torch.stack(x, 1).unflatten(0, (-1, count)) for x in zip(*after, strict=True))
    return Imagined(latents=latents, poses=poses)


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
