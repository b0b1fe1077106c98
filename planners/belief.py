"""A belief about good actions: a Gaussian per step and axis, and a probability per gripper plan.

Letters: B problems, K candidates, E elites, H horizon, A action size, S smooth axes, P gripper plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from data.types import Memory
from planners.actions import ActionSpace
from planners.search import Search

GOLDEN = 0.6180339887498949
IMPROBABLE = 0.01


@dataclass(kw_only=True, slots=True)
class Belief:
    """What the search believes; `centre` holds the axes that are not searched too."""

    space: ActionSpace
    centre: Tensor  # [B, H, A], the smooth axes are the mean
    std: Tensor  # [B, H, S]
    low: Tensor  # [B, H, S]
    high: Tensor  # [B, H, S]
    plans: Tensor | None  # [B, P] probabilities; None: the gripper is not a switch
    table: Tensor | None  # [P, H] closedness targets
    allowed: Tensor | None  # [B, P] gripper plans that may be tried

    @staticmethod
    def around(
        search: Search, centre: Tensor, *, spread: float, trust: float = 1.0, patience: float | None = None
    ) -> Belief:
        """A belief around actions [B, H, A].

        Args:
            spread: first deviation as a share of half the box.
            trust: the box around the centre that is searched, as a share of half the box; 1 or more: all of it.
            patience: how many steps a gripper plan may differ from the centre's before it is improbable (below
                one per cent it is not tried); None: all plans are equally probable.
        """
        space = search.space
        low, high = (space.take(edge) for edge in space.box(centre))
        mean, half = space.take(centre), (high - low) / 2
        if trust < 1.0:
            low, high = torch.maximum(low, mean - trust * half), torch.minimum(high, mean + trust * half)
        std = (spread * half).expand_as(mean).clone()
        plans = table = allowed = None
        if space.switched:
            table = space.gripper_plans(search.horizon, centre)
            if patience is None:
                plans = table.new_full((len(centre), len(table)), 1.0 / len(table))
            else:
                wanted = space.targets(centre[:, None], search.memory)  # [B, 1, H]
                differ = (wanted - table).abs().sum(-1)  # [B, P]
                plans = torch.softmax(-differ / max(patience, 1e-3), -1)
            allowed = plans >= IMPROBABLE
            plans = plans * allowed / (plans * allowed).sum(1, keepdim=True)
        return Belief(
            space=space,
            centre=centre,
            std=std,
            low=low.expand_as(mean),
            high=high.expand_as(mean),
            plans=plans,
            table=table,
            allowed=allowed,
        )

    def sample(self, search: Search, count: int, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Candidates [B, K, H, A] and their gripper plans [B, K]; the first is the mean with its likeliest plan.

        The next are the mean with every other gripper plan, so that the switch is judged without noise.
        `noise` [B, K, H, S] may be coloured; None draws white noise.
        """
        if noise is None:
            noise = search.normal(count, *self.std.shape[1:])
        chosen, still = self._plans(search, count)
        mean = self.space.take(self.centre)[:, None]
        values = torch.addcmul(mean, noise, self.std[:, None])
        first = values[:, : still.shape[1]]
        first.copy_(torch.where(still[..., None, None], mean, first))
        values = torch.minimum(torch.maximum(values, self.low[:, None]), self.high[:, None])
        actions = self.space.put(self.centre[:, None].expand(-1, count, -1, -1), values)
        if chosen is None or self.table is None:
            return actions, None
        return self.space.with_targets(actions, self.table[chosen], search.memory), chosen

    def _plans(self, search: Search, count: int) -> tuple[Tensor | None, Tensor]:
        """The gripper plan of each candidate [B, K], and which of the first ones are the mean itself [B, n]."""
        itself = torch.ones(len(self.std), 1, dtype=torch.bool, device=self.std.device)
        if self.plans is None or self.table is None or self.allowed is None:
            return None, itself
        # A golden-ratio sequence: any first part of the candidates covers the plans by their probability.
        turn = torch.remainder(_golden(count).to(self.std.device) + search.uniform(1).double(), 1.0)  # [B, K]
        chosen = torch.searchsorted(self.plans.cumsum(1), turn.to(self.plans.dtype))
        chosen.clamp_(max=len(self.table) - 1)[:, 0] = self.plans.argmax(1)
        if len(self.table) > count // 4:  # a small budget is not spent on the switch alone
            return chosen, itself
        each = torch.arange(len(self.table), device=chosen.device)
        swept = chosen[:, 1 : len(each) + 1]
        swept.copy_(torch.where(self.allowed, each, swept))
        return chosen, torch.cat([itself, self.allowed], 1)

    def fit(
        self,
        actions: Tensor,
        plans: Tensor | None,
        weights: Tensor | None = None,
        *,
        momentum: float = 0.0,
        std_momentum: float = 0.0,
        smallest: float = 0.0,
        doubt: float = 0.0,
    ) -> None:
        """Move towards elites [B, E, H, A] with plans [B, E] and weights [B, E] (None: all alike).

        `smallest` is the least deviation as a share of half the box; `doubt` is the probability that is always
        shared by all gripper plans.
        """
        values = self.space.take(actions)
        if weights is None:
            variance, mean = torch.var_mean(values, 1, correction=0)
        else:
            share = weights[..., None, None]
            mean = (share * values).sum(1)
            variance = (share * (values - mean[:, None]).square()).sum(1)
        old = self.space.take(self.centre)
        mean = torch.lerp(mean, old, momentum)
        half = (self.high - self.low) / 2
        std = torch.lerp(variance.sqrt(), self.std, std_momentum)
        self.std = torch.maximum(std, smallest * half)
        self.centre = self.space.put(self.centre, torch.minimum(torch.maximum(mean, self.low), self.high))
        if self.plans is not None and plans is not None and self.allowed is not None:
            if weights is None:
                weights = mean.new_full(plans.shape, 1.0 / plans.shape[1])
            found = torch.zeros_like(self.plans).scatter_add_(1, plans, weights)
            shared = (self.allowed / self.allowed.sum(1, keepdim=True)).to(found)
            self.plans = torch.lerp(torch.lerp(found, self.plans, momentum), shared, doubt)

    def lean(self, memory: Memory, share: float) -> None:
        """Give the centre's gripper plan this share of the probability, and the rest to all that are allowed."""
        if self.plans is None or self.table is None or self.allowed is None:
            return
        same = (self.space.targets(self.centre[:, None], memory) == self.table).all(-1)  # [B, P]
        allowed = (self.allowed | same).to(self.plans)
        self.plans = share * same + (1.0 - share) * allowed / allowed.sum(1, keepdim=True)

    def regripped(self, search: Search, actions: Tensor) -> Tensor | None:
        """Actions [B, H, A] with every gripper plan [B, P, H, A]; plans that are not allowed become the likeliest."""
        if self.plans is None or self.table is None or self.allowed is None:
            return None
        count = len(self.table)
        each = torch.arange(count, device=actions.device)
        chosen = torch.where(self.allowed, each, self.plans.argmax(1, keepdim=True))
        copies = actions[:, None].repeat(1, count, 1, 1)
        return self.space.with_targets(copies, self.table[chosen], search.memory)


@lru_cache(maxsize=64)
def _golden(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64) * GOLDEN


def elites_of(energies: Tensor, count: int, *values: Tensor | None) -> tuple[Tensor, list[Tensor | None]]:
    """The lowest `count` energies [B, E] and what belongs to them, [B, E, ...] each."""
    best, index = energies.topk(min(count, energies.shape[1]), 1, largest=False)
    rows = torch.arange(len(energies), device=energies.device)[:, None]
    return best, [None if value is None else value[rows, index] for value in values]
