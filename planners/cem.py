"""The cross-entropy method: draw, keep the best, draw again around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from planners.actions import ActionSpace
from planners.belief import Belief, elites_of
from planners.local_search import LocalSearch
from planners.protocols import Proposes
from planners.search import Pruning, Search
from planners.searching import Searching
from planners.surface import MOST, with_guesses


@dataclass(kw_only=True)
class CEM(Searching):
    """Returns the best candidate seen; proposals and the mean are candidates too."""

    space: ActionSpace = field(default_factory=ActionSpace)
    """What may be searched."""
    horizon: int = 4
    """Model steps that a plan looks ahead."""
    candidates: int = 256
    """Action sequences per iteration."""
    iterations: int = 6
    """Rounds of drawing and keeping."""
    elites: int = 24
    """Candidates that the next round is drawn around."""
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
        search.stage = "cem"
        belief = Belief.around(search, centre, spread=self.spread)
        search.info["elites"], _ = explore(
            search, belief, iterations=self.iterations, candidates=self.candidates, elites=self.elites,
            momentum=self.momentum, smallest=self.smallest,
        )  # fmt: skip


def explore(
    search: Search,
    belief: Belief,
    *,
    iterations: int,
    candidates: int,
    elites: int,
    momentum: float,
    smallest: float,
    keep: int = 0,
    fewer: float = 1.0,
    doubt: float = 0.02,
    guesses: int = 0,
    local: LocalSearch | None = None,
    noise: Callable[[int], Tensor] | None = None,
    proposal: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Rounds of CEM that move the belief; returns the last elites [B, E, H, A] and their energies [B, E].

    Args:
        keep: elites of a round that compete again in the next one, without being imagined again.
        fewer: each round draws this share of the candidates of the one before (at least twice the elites).
        doubt: probability that is always shared by all gripper plans.
        guesses: candidates of every later round that a quadratic surface through all energies suggests, for plans
            of few numbers.
        local: move the belief by a search in a local model of what was imagined, and not to the elites.
        noise: draws standard noise [B, count, H, S]; None: white.
        proposal: actions [B, H, A] looked at with the first round, in the same call; `search.info` tells its energy.
    """
    best = scores = best_plans = None
    guesses = guesses if belief.std[0].numel() <= MOST else 0
    seen: list[tuple[Tensor, Tensor, Tensor | None]] = []
    for round_ in range(iterations):
        count = max(min(candidates, 2 * elites), round(candidates * fewer**round_))
        guessed = guesses if seen else 0
        count -= guessed
        actions, plans = belief.sample(search, count, None if noise is None else noise(count))
        if guessed:
            actions, plans = with_guesses(search, belief, actions, plans, seen, guesses)
        first = proposal if not round_ else None
        energies = search.evaluate(actions if first is None else torch.cat([first[:, None], actions], 1))
        if energies is None:
            break
        if first is not None:
            search.info["proposal_energy"], energies = energies[:, 0], energies[:, 1:]
        if guesses:
            seen = [*seen[-2:], (belief.space.take(actions), energies, plans)]
        pool = energies
        if keep and best is not None and scores is not None:
            actions, pool = torch.cat([best[:, :keep], actions], 1), torch.cat([scores[:, :keep], pool], 1)
            plans = (
                None if plans is None or best_plans is None else torch.cat([best_plans[:, :keep], plans], 1)
            )
        scores, (best, best_plans) = elites_of(pool, elites, actions, plans)
        assert best is not None
        search.note_iteration(energies, scores)
        if search.over:
            break
        if local is None or not local.move(search, belief, smallest):
            belief.fit(
                best, best_plans, momentum=momentum, std_momentum=momentum, smallest=smallest, doubt=doubt
            )
    return best, scores
