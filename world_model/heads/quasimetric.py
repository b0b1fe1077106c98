"""A distance that need not be the same both ways: never negative, nothing from x to x, and no detour is shorter.

d(x, y) = |s(y) - s(x)| + mean over groups of max over k of relu(a_k(y) - a_k(x)): a norm is a metric, a clipped
difference is a quasimetric (it costs to climb and nothing to fall), and maxima and sums of quasimetrics are ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .policy import mlp

UNIT_STEPS = 10.0  # between embeddings that are 1 apart


class Quasimetric(nn.Module):
    """Embeds two states alike and measures from the one to the other, in steps."""

    def __init__(
        self, features: int, *, width: int = 512, depth: int = 2, both_ways: int = 64, groups: int = 16, each: int = 8
    ) -> None:  # fmt: skip
        super().__init__()
        self.sizes, self.groups = (both_ways, groups * each), groups
        self.net = mlp([features, *[width] * depth, sum(self.sizes)], dropout=0.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x, y [..., F] -> [...]."""
        return self.between(self.net(x).float(), self.net(y).float())

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """From one embedding to another [...]."""
        way, climb = (y - x).split(self.sizes, -1)
        highest = climb.relu().unflatten(-1, (self.groups, -1)).amax(-1)
        return UNIT_STEPS * (torch.linalg.vector_norm(way, dim=-1) + highest.mean(-1))
