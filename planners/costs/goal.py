"""Distance from imagined latents to the goal's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from data.types import Imagined, Memory


class Distance(StrEnum):
    """How two latents are compared, token by token; the mean over channels."""

    L1 = "l1"  # mean absolute difference, as V-JEPA 2-AC plans
    L2 = "l2"  # mean squared difference
    COSINE = "cosine"  # one minus the cosine


class Over(StrEnum):
    """Which imagined steps count."""

    LAST = "last"
    SUM = "sum"
    MIN = "min"  # the nearest that it ever comes


def latent_distance(
    latents: Tensor, goal: Tensor, kind: Distance = Distance.L2, token_weights: Tensor | None = None
) -> Tensor:
    """Distance of latents [..., N, D] to a goal of the same shape [...]; `token_weights` [..., N] say where to look."""
    if kind == Distance.L1:
        each = (latents - goal).abs().mean(-1)
    elif kind == Distance.L2:
        each = (latents - goal).square().mean(-1)
    else:
        each = 1.0 - cosine_similarity(latents, goal, dim=-1)
    if token_weights is None:
        return each.mean(-1)
    return (each * token_weights).sum(-1) / token_weights.sum(-1)


def over_steps(values: Tensor, over: Over) -> Tensor:
    """[B, K, H] -> [B, K]."""
    if over == Over.SUM:
        return values.sum(-1)
    return values.amin(-1) if over == Over.MIN else values[..., -1]


def per_problem(goal: Tensor, problems: int, dims: int, what: str) -> Tensor:
    """A goal for all problems or one for each -> [B or 1, ...] with `dims` dimensions behind the first."""
    goal = goal if goal.dim() == dims + 1 else goal[None]
    if goal.dim() != dims + 1 or len(goal) not in (1, problems):
        raise ValueError(
            f"{what} has shape {list(goal.shape)} for {problems} problems; give one, or one each"
        )
    return goal


@dataclass(kw_only=True)
class GoalDistance:
    """The latent distance to a goal picture."""

    goal: Tensor
    """[N, D] for all problems or [B, N, D]."""
    distance: Distance = Distance.L2
    over: Over = Over.LAST
    token_weights: Tensor | None = None
    """[N] or [B, N], zero or more: where to look."""

    def __post_init__(self) -> None:
        self.distance, self.over = Distance(self.distance), Over(self.over)
        weights = self.token_weights
        if weights is not None and (bool((weights < 0).any()) or not bool((weights.sum(-1) > 0).all())):
            raise ValueError("token weights must be zero or more, with at least one above zero")

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        latents = imagined.latents  # [B, K, H, N, D]
        goal = per_problem(self.goal, len(latents), 2, "the goal latent")
        if goal.shape[1:] != latents.shape[3:]:
            raise ValueError(
                f"the goal latent is [tokens, channels] = {list(goal.shape[1:])}, the imagined ones are "
                f"{list(latents.shape[3:])}: encode the goal with the model that plans"
            )
        if self.over == Over.LAST:
            latents = latents[:, :, -1:]
        weights = self.token_weights
        if weights is not None:
            weights = per_problem(weights, len(latents), 1, "token_weights")[:, None, None]
        return over_steps(latent_distance(latents, goal[:, None, None], self.distance, weights), self.over)


@torch.no_grad()
def latent_scale(latents: Tensor, distance: Distance = Distance.L2, shift: int = 1) -> float:
    """The mean distance between latents [M, N, D] and others of the same data: the size of "far".

    Shuffle them first: each is compared with the one `shift` places on.
    """
    if len(latents) < 2:
        raise ValueError(f"{len(latents)} latents: give at least two (hundreds, shuffled) to measure a scale")
    return float(latent_distance(latents, latents.roll(shift, 0), Distance(distance)).mean())
