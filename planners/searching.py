"""What planners that search have in common: how they are asked, and how a search begins and ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from data.types import Memory
from planners.actions import ActionSpace
from planners.protocols import Budget, Energy, Imagines, Plan, Proposes
from planners.search import Pruning, Search


class Searching(ABC):
    """A `Planner` whose dataclass says what may be searched and how far, and whose `find` does the rest."""

    space: ActionSpace
    horizon: int
    pruning: Pruning | None = None

    def plan(
        self,
        memory: Memory,
        model: Imagines,
        energy: Energy,
        *,
        proposers: tuple[Proposes, ...] = (),
        budget: Budget | None = None,
        seed: int | Sequence[int] = 0,
        keep_clouds: bool = False,
    ) -> Plan:
        """The best plan that the search saw, and why; see `planners.protocols.Planner`."""
        search = Search(
            memory=memory, model=model, energy=energy, space=self.space, horizon=self.horizon, budget=budget,
            seed=seed, keep_clouds=keep_clouds, pruning=self.pruning,
        )  # fmt: skip
        self.find(search, proposers)
        return search.finish()

    @abstractmethod
    def find(self, search: Search, proposers: tuple[Proposes, ...]) -> None:
        """Evaluate candidates until the rounds or the budget are over; `search` keeps the best."""
