"""Model-predictive path integral control: the next mean is an average weighted by exp(-energy)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from planners.actions import ActionSpace
from planners.belief import Belief, elites_of
from planners.protocols import Proposes
from planners.search import Pruning, Search
from planners.searching import Searching


def path_weights(energies: Tensor, temperature: float) -> Tensor:
    """exp(-energy) weights [B, E]; the temperature is a share of the energies' own deviation, so it has no unit."""
    finite = torch.isfinite(energies)
    lowest = energies.amin(1, keepdim=True)
    above = torch.where(finite, energies - lowest, 0.0)
    count = finite.sum(1, keepdim=True).clamp(min=1)
    mean = above.sum(1, keepdim=True) / count
    deviation = (((above - mean) * finite).square().sum(1, keepdim=True) / count).sqrt()
    scale = temperature * deviation + torch.finfo(energies.dtype).tiny
    return torch.softmax((-above / scale).masked_fill(~finite, -torch.inf), 1)


@dataclass(kw_only=True)
class MPPI(Searching):
    """Returns the best candidate seen; the weighted mean is a candidate of the next round."""

    space: ActionSpace = field(default_factory=ActionSpace)
    """What may be searched."""
    horizon: int = 4
    """Model steps that a plan looks ahead."""
    candidates: int = 256
    """Action sequences per iteration."""
    iterations: int = 6
    """Rounds."""
    elites: int = 64
    """Candidates that are averaged, the lowest energies."""
    temperature: float = 0.5
    """Sharpness of the weights, as a share of the deviation of the energies; small: the best alone."""
    spread: float = 0.5
    """First deviation, as a share of half the box."""
    momentum: float = 0.1
    """Share of the old mean and deviation that is kept."""
    smallest: float = 0.005
    """Least deviation, as a share of half the box."""
    pruning: Pruning | None = None
    """Drop candidates after their first steps; none: imagine all to the end."""

    def find(self, search: Search, proposers: tuple[Proposes, ...]) -> None:
        centre = search.start(proposers)
        search.stage = "mppi"
        belief = Belief.around(search, centre, spread=self.spread)
        for _ in range(self.iterations):
            actions, plans = belief.sample(search, self.candidates)
            energies = search.evaluate(actions)
            if energies is None:
                break
            best, (kept, kept_plans) = elites_of(energies, self.elites, actions, plans)
            assert kept is not None
            search.note_iteration(energies, best)
            search.info["elites"] = kept
            if search.over:
                break
            belief.fit(
                kept, kept_plans, path_weights(best, self.temperature), momentum=self.momentum,
                std_momentum=self.momentum, smallest=self.smallest, doubt=0.02,
            )  # fmt: skip
