"""The planner that we recommend: proposals, CEM around the best of them, Adam on the best few.

It stays in a trust region around the proposal, because a search is only as wise as its energy, and returns the
best that it saw.  The proposal itself is always a candidate: under the energy the plan is never worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from planners.actions import ActionSpace
from planners.belief import Belief, elites_of
from planners.cem import explore
from planners.gradient import descend
from planners.local_search import LocalSearch
from planners.protocols import Proposes
from planners.search import Best, Pruning, Search
from planners.searching import Searching


@dataclass(kw_only=True)
class Seeded(Searching):
    """Proposals -> CEM -> Adam.  Without a proposer it starts from holding still and searches the whole box."""

    space: ActionSpace = field(default_factory=ActionSpace)
    """What may be searched."""
    horizon: int = 4
    """Model steps that a plan looks ahead."""
    alone_horizon: int | None = None
    """Model steps looked ahead where nobody proposes; none: `horizon`."""
    candidates: int = 128
    """Action sequences per iteration of CEM."""
    iterations: int = 3
    """Rounds of CEM."""
    elites: int = 16
    """Candidates that the next round is drawn around."""
    spread: float = 0.3
    """First deviation, as a share of half the box."""
    momentum: float = 0.1
    """Share of the old mean and deviation that is kept."""
    smallest: float = 0.02
    """Least deviation, as a share of half the trust region."""
    trust: float = 0.6
    """Half the side of the trust region around the proposal, as a share of half the box; 1 or more: all of it."""
    patience_steps: float = 0.7
    """How many steps the gripper may differ from the proposal's before that is improbable."""
    fewer: float = 1.0
    """Each round draws this share of the candidates of the round before."""
    guesses: int = 4
    """Candidates of every later round that a quadratic surface through the energies suggests, at most 4; 0: none.
    Plans of more than 12 searched numbers get none."""
    local: LocalSearch | None = None
    """Settings of the search in a local model between rounds; none: rounds are drawn around the elites."""
    refine: int = 8
    """Candidates that Adam refines."""
    refine_steps: int = 6
    """Steps of Adam; 0: none (for models and costs without gradients)."""
    rate: float = 0.08
    """First step of Adam, as a share of half the trust region."""
    suggestions: int = 1
    """Action sequences asked of each proposer."""
    around: bool = True
    """Search around the best proposal; false: take the best proposal as it is, and search only where nobody proposes."""
    anchor_first: bool = False
    """Search around the first proposer's best guess, not around the best proposal."""
    margin: float = 0.0
    """Energy that a searched plan must win by before it replaces the best proposal."""
    pruning: Pruning | None = None
    """Drop candidates after their first steps; none: imagine all to the end."""

    def find(self, search: Search, proposers: tuple[Proposes, ...]) -> None:
        search.recall = 4 if self.local else 0
        search.pruning = None  # proposals are imagined to the end
        proposals = search.proposals(proposers, self.suggestions)
        lone = None  # a proposal that nothing has to be known of before the first round
        if (
            proposals is not None
            and proposals.shape[1] == 1
            and self.around
            and not (self.margin or self.pruning)
        ):
            lone = proposals[:, 0]
        offer = None if proposals is None or lone is not None else self._offer(search, proposals)
        if offer is not None and not self.around:
            return
        if proposals is None:
            search.horizon = self.alone_horizon or self.horizon
        centre = lone if offer is None else offer[1]
        search.pruning = self.pruning
        belief = Belief.around(
            search, self.space.hold(search.memory, search.horizon) if centre is None else centre, spread=self.spread,
            trust=1.0 if centre is None else self.trust, patience=None if centre is None else self.patience_steps,
        )  # fmt: skip
        search.stage = "cem"
        found, scores = explore(
            search, belief, iterations=self.iterations, candidates=self.candidates, elites=self.elites,
            momentum=self.momentum, smallest=self.smallest, keep=self.elites, fewer=self.fewer,
            guesses=self.guesses, local=self.local, proposal=lone,
        )  # fmt: skip
        search.info["elites"] = found
        if lone is not None:
            search.name_source("proposal", search.info["proposal_energy"])
        if self.refine_steps and not search.over and found is not None and scores is not None:
            if centre is not None:
                best = lone if offer is None else offer[0].actions
                assert best is not None
                found = torch.cat([found, best[:, None]], 1)
                scores = torch.cat([scores, search.info["proposal_energy"][:, None]], 1)
            descend(
                search,
                self._promising(search, belief, found, scores),
                belief.low[:, None],
                belief.high[:, None],
                steps=self.refine_steps,
                rate=self.rate,
                final=0.2,
            )
        if self.margin > 0.0 and offer is not None and search.best is not None:
            search.best.keep(offer[0], search.best.energy > offer[0].energy - self.margin)

    def _offer(self, search: Search, proposals: Tensor) -> tuple[Best, Tensor]:
        """The best proposal, and the actions [B, H, A] to search around."""
        search.stage = "proposal"
        offered = search.evaluate(proposals)
        assert offered is not None
        assert search.best is not None
        search.note_iteration(offered)
        best = search.best.copy()
        search.info["proposal_energy"] = best.energy
        return best, proposals[:, 0] if self.anchor_first else best.actions

    def _promising(self, search: Search, belief: Belief, pool: Tensor, scores: Tensor) -> Tensor:
        """What Adam refines [B, E, H, A]: half the best candidates, half the best one with other gripper plans.

        The gripper has no gradient, and a switch at another step shows its worth only once the rest has followed.
        """
        assert search.best is not None
        search.stage = "adam"
        variants = belief.regripped(search, search.best.actions)
        energies = None if variants is None else search.evaluate(variants)
        half = self.refine if energies is None else (self.refine + 1) // 2
        _, (few,) = elites_of(scores, half, pool)
        assert few is not None
        if variants is None or energies is None:
            return few
        _, (others,) = elites_of(energies, self.refine // 2, variants)
        assert others is not None
        return torch.cat([few, others], 1)
