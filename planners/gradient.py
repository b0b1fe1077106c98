"""Gradient descent through the model: Adam on the actions, from many starts, projected to the box."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from planners.actions import ActionSpace
from planners.belief import Belief
from planners.protocols import Proposes
from planners.search import Search
from planners.searching import Searching

BETAS = (0.9, 0.99)  # a plan takes tens of steps, not thousands: a shorter memory of squares than in training


def descend(
    search: Search, starts: Tensor, low: Tensor, high: Tensor, *, steps: int, rate: float, final: float = 0.05
) -> None:
    """Adam on the smooth axes of actions [B, K, H, A] within low and high [B, 1, H, S].

    Steps are shares of half the box, from `rate` down a cosine to `final` of it.  The search remembers the best
    point of every path; the gripper stays as it starts.
    """
    space = search.space
    half = (high - low) / 2
    values = space.take(starts)
    first, second = torch.zeros_like(values), torch.zeros_like(values)
    for step in range(1, steps + 1):
        values = values.detach().requires_grad_()
        energies = search.evaluate(space.put(starts, values), gradient=True)
        if energies is None:
            return
        slope = _slope(energies, values) * half
        search.note_iteration(energies)
        first = torch.lerp(slope, first, BETAS[0])
        second = torch.lerp(slope.square(), second, BETAS[1])
        fall = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        size = rate * fall / (1 - BETAS[0] ** step)
        norm = (second / (1 - BETAS[1] ** step)).sqrt() + 1e-12
        with torch.no_grad():
            values = torch.minimum(torch.maximum(values - size * half * first / norm, low), high)
    last = search.evaluate(space.put(starts, values.detach()))
    if last is not None:
        search.note_iteration(last)


def _slope(energies: Tensor, values: Tensor) -> Tensor:
    if not energies.requires_grad:
        raise ValueError(
            "the energies carry no gradient: `imagine` or a cost cuts it (no_grad, detach, numpy, argmax); "
            "use a planner without gradients (cem, icem, mppi) or mend it"
        )
    # One candidate's energy depends on its own actions alone, so the gradient of the sum is every gradient.
    slope = torch.autograd.grad(energies.where(torch.isfinite(energies), 0.0).sum(), values)[0]
    return torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(kw_only=True)
class Gradient(Searching):
    """Adam from proposals, from holding still and from random starts; returns the best point seen."""

    space: ActionSpace = field(default_factory=ActionSpace)
    """What may be searched; the gripper's switch is drawn at the start and kept."""
    horizon: int = 4
    """Model steps that a plan looks ahead."""
    starts: int = 16
    """Random starts."""
    steps: int = 30
    """Steps of Adam."""
    rate: float = 0.1
    """First step, as a share of half the box."""
    spread: float = 0.5
    """Deviation of the random starts, as a share of half the box."""

    def find(self, search: Search, proposers: tuple[Proposes, ...]) -> None:
        hold = self.space.hold(search.memory, self.horizon)
        search.stage = "proposal"
        proposals = search.proposals(proposers)
        search.evaluate(hold[:, None] if proposals is None else proposals)
        assert search.best is not None
        belief = Belief.around(search, search.best.actions, spread=self.spread)
        random, _ = belief.sample(search, self.starts)
        search.stage = "gradient"
        starts = torch.cat(
            [hold[:, None], random] if proposals is None else [proposals, hold[:, None], random], 1
        )
        descend(search, starts, belief.low[:, None], belief.high[:, None], steps=self.steps, rate=self.rate)
