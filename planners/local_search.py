"""A search in a local model of what was imagined: where to imagine next, for a few milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from planners.belief import Belief, elites_of
from planners.local import LocalModel
from planners.search import INFINITY, Search
from planners.surface import MOST, with_guesses

DOUBT = 0.3  # share of the identity in the elites' correlation, which a dozen of them tell only roughly


@dataclass(kw_only=True)
class LocalSearch:
    """Moves a belief to where a local model of the candidates imagined so far expects the least energy.

    It is a small CEM with full covariance: steps of a plan that make up for each other form a narrow valley.
    """

    narrow: float = 0.35
    """The deviation of what is imagined falls to this share every round: the model is right only near its samples."""
    reach: float = 2.5
    """The search within the local model begins with the belief's deviation times this: valleys are long and narrow."""
    rounds: int = 3
    """Rounds within the local model."""
    candidates: int = 256
    """Candidates of each of them."""
    elites: int = 16
    """Candidates that the next of them is drawn around."""
    guesses: int = 3
    """Candidates of every later round where a quadratic surface through the energies is lowest, at most 4; plans of
    more than 12 searched numbers get none."""

    @torch.no_grad()
    def move(self, search: Search, belief: Belief, smallest: float) -> bool:
        """Centre the belief where the search in the local model ends; False where there was no time for it."""
        left = search.clock.left_ms()
        if search.best is None or not search.recent or (left is not None and left <= 0):
            return False
        model = LocalModel(belief.space, search.memory, search.recent)
        there = replace(belief, centre=search.best.actions, std=self.reach * belief.std)
        if belief.plans is not None and belief.allowed is not None:
            there.allowed = belief.allowed & model.known
            there.allowed = torch.where(there.allowed.any(1, keepdim=True), there.allowed, belief.allowed)
            share = there.allowed * (belief.plans + 1e-6)
            there.plans = share / share.sum(1, keepdim=True)
        energies = actions = plans = shape = None
        seen: list[tuple[Tensor, Tensor, Tensor | None]] = []
        for round_ in range(self.rounds):
            noise = search.normal(self.candidates, belief.std[0].numel())
            if shape is not None:
                noise = torch.stack([n @ s for n, s in zip(noise, shape, strict=True)])
            drawn, chosen = there.sample(search, self.candidates, noise.unflatten(2, belief.std.shape[1:]))
            if seen and self.guesses and belief.std[0].numel() <= MOST:
                drawn, chosen = with_guesses(search, there, drawn, chosen, seen[-2:], self.guesses)
            terms = search.energy.terms(search.memory, model.imagine(search.memory, drawn), drawn)
            found = torch.nan_to_num(torch.stack(list(terms.values())).sum(0), nan=INFINITY, neginf=INFINITY)
            seen.append((belief.space.take(drawn), found, chosen))
            if energies is not None and actions is not None:
                found, drawn = torch.cat([energies, found], 1), torch.cat([actions, drawn], 1)
                chosen = None if chosen is None or plans is None else torch.cat([plans, chosen], 1)
            energies, (actions, plans) = elites_of(found, self.elites, drawn, chosen)
            assert actions is not None
            if round_ == self.rounds - 1:
                break
            there.fit(actions, plans, momentum=0.1, std_momentum=0.1, smallest=0.2 * smallest, doubt=0.02)
            shape = _shape(belief.space.take(actions).flatten(2))
        assert energies is not None
        assert actions is not None
        good = torch.isfinite(energies[:, 0])[:, None, None]
        belief.centre = torch.where(good, actions[:, 0], search.best.actions)
        belief.std = torch.maximum(self.narrow * belief.std, smallest * (belief.high - belief.low) / 2)
        belief.lean(search.memory, 0.9)
        return True


def _shape(points: Tensor) -> list[Tensor]:
    """For each problem the factor [d, d] that gives white noise the correlation of points [B, E, d]."""
    found = []
    for each in points.double():
        offset = each - each.mean(0)
        unit = offset / offset.square().mean(0).sqrt().clamp(min=1e-9)
        correlation = (1 - DOUBT) * unit.T @ unit / len(each)
        correlation.diagonal().fill_(1.0)
        found.append(torch.linalg.cholesky(correlation).T.to(points))
    return found
