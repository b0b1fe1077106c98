"""iCEM: the cross-entropy method with coloured noise, kept elites, fewer candidates every round and a warm start."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from planners.actions import ActionSpace
from planners.belief import Belief
from planners.cem import explore
from planners.protocols import Proposes
from planners.search import Pruning, Search
from planners.searching import Searching


def coloured(white: Tensor, colour: float) -> Tensor:
    """White noise [B, K, H, S] -> noise of unit variance whose power falls as 1 / frequency^colour over H."""
    if white.shape[2] == 1 or colour == 0.0:
        return white
    return (white.flatten(2) @ _mixing(*white.shape[2:], colour).to(white)).view(white.shape)


@cache
def _mixing(horizon: int, axes: int, colour: float) -> Tensor:
    """[H * S, H * S]: each axis to the frequencies, these made smaller by their colour, and back."""
    frequency = torch.fft.rfftfreq(horizon, dtype=torch.float64)
    frequency[0] = frequency[1]  # as strong as the slowest wave that fits
    size = frequency ** (-colour / 2)
    both = torch.full_like(size, 2.0)  # every wave but the constant and the fastest stands for two
    both[0] = 1.0
    if horizon % 2 == 0:
        both[-1] = 1.0
    size = size * (horizon / (both * size.square()).sum()).sqrt()
    waves = torch.fft.rfft(torch.eye(horizon, dtype=torch.float64), dim=1)
    mixing = torch.fft.irfft(waves * size, n=horizon, dim=1)
    return torch.kron(mixing, torch.eye(axes, dtype=mixing.dtype))


@dataclass(kw_only=True)
class ICEM(Searching):
    """Sample-efficient CEM; wrap it in `Receding` for the shifted elites of the last plan."""

    space: ActionSpace = field(default_factory=ActionSpace)
    """What may be searched."""
    horizon: int = 4
    """Model steps that a plan looks ahead."""
    candidates: int = 128
    """Action sequences in the first iteration."""
    iterations: int = 5
    """Rounds of drawing and keeping."""
    elites: int = 16
    """Candidates that the next round is drawn around."""
    colour: float = 2.0
    """Power of the noise falls as 1 / frequency^colour: 0 white, 2 smooth motions."""
    fewer: float = 0.8
    """Each round draws this share of the round before."""
    kept: float = 0.3
    """Share of the elites that competes again in the next round."""
    spread: float = 0.5
    """First deviation, as a share of half the box."""
    momentum: float = 0.1
    """Share of the old mean and deviation that is kept."""
    smallest: float = 0.005
    """Least deviation, as a share of half the box."""
    suggestions: int = 8
    """Action sequences asked of each proposer (shifted elites of the last plan, for one)."""
    pruning: Pruning | None = None
    """Drop candidates after their first steps; none: imagine all to the end."""

    def find(self, search: Search, proposers: tuple[Proposes, ...]) -> None:
        centre = search.start(proposers, self.suggestions)
        search.stage = "icem"
        belief = Belief.around(search, centre, spread=self.spread)
        smooth = len(self.space.smooth_axes)

        def noise(count: int) -> Tensor:
            return coloured(search.normal(count, self.horizon, smooth), self.colour)

        search.info["elites"], _ = explore(
            search, belief, iterations=self.iterations, candidates=self.candidates, elites=self.elites,
            momentum=self.momentum, smallest=self.smallest, keep=round(self.kept * self.elites),
            fewer=self.fewer, noise=noise,
        )  # fmt: skip
