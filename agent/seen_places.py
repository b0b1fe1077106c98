"""Where the hand is seen, put right by the motion of a calibration.

A policy goes by the way from where it sees the hand to where it sees it in the goal picture.  In a view that no training
had both guesses are off, and not alike; during a calibration the arm knows where its hand was in every frame.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from world_model.heads.body import Body
from world_model.heads.policy import Policy

from .build import Mind

# Squared decimetres a frame, beside about 0.3 of the motion's own spread: what sixty frames within 9 cm say about the
# slopes is believed by three quarters.
RIDGE = 0.1
Places = list[list[float]]  # [4, 3]: what is added to a place, for each of its x, y, z and for 1, in metres


def fit_places(seen: Tensor, true: Tensor, *, ridge: float = RIDGE) -> Places:
    """The affine correction of places seen [n, 3] that brings them near the true ones [n, 3], both in metres."""
    seen, true = seen.double(), true.double()
    middle = seen.mean(0)
    given = torch.cat([10 * (seen - middle), torch.ones(len(seen), 1, dtype=seen.dtype)], 1)
    held = torch.diag(torch.tensor([ridge, ridge, ridge, 0.0], dtype=seen.dtype)) * len(seen)
    slopes = torch.linalg.solve(given.T @ given + held, given.T @ (10 * (true - seen)))
    shift = slopes[3] / 10 - middle @ slopes[:3]
    return [*slopes[:3].tolist(), shift.tolist()]


def corrected(places: Places, seen: Tensor) -> Tensor:
    """Places [..., 3], put right."""
    matrix = torch.tensor(places, dtype=seen.dtype, device=seen.device)
    return seen + seen @ matrix[:3] + matrix[3]


class CorrectedBody(nn.Module):
    """A head whose guesses are put right."""

    def __init__(self, body: Body, places: Places) -> None:
        super().__init__()
        self.body, self.places = body, places

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        place, closed = self.body(z)
        return corrected(self.places, place), closed


def body_of(mind: Mind) -> Body | None:
    """What the mind's policy sees the hand with."""
    policy = mind.heads.get("policy")
    return policy.body if isinstance(policy, Policy) else None


def with_places(mind: Mind, places: Sequence[Sequence[float]]) -> Mind:
    """The same mind, whose policy sees the hand where it is; as it was where there is nothing to put right."""
    body = body_of(mind)
    if body is None or not places:
        return mind
    policy = copy.deepcopy(mind.heads["policy"])
    policy.body = CorrectedBody(body, [list(row) for row in places])
    return replace(mind, heads={**mind.heads, "policy": policy})
