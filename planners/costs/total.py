"""Energies that add: weighted, scaled by data, returned term by term so that a plan can be explained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from data.types import Imagined, Memory

log = logging.getLogger(__name__)

Gate = Callable[[Memory], Tensor]  # -> [B], a factor for each problem


class Cost(Protocol):
    """One energy: [B, K] for imagined futures and the actions [B, K, H, A] that lead there; lower is better."""

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor: ...


@dataclass(kw_only=True)
class Term:
    """weight * gate(memory) * cost / scale."""

    name: str
    cost: Cost
    weight: float = 1.0
    scale: float = 1.0
    """The cost's typical size, so that weights compare; `TotalCost.calibrate` measures it."""
    scale_from_data: bool = True
    """False for a cost in units of its own (a hinge that is zero in all good data)."""
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"cost {self.name!r}: scale is {self.scale}; it must be above zero")

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        value = self.cost(memory, imagined, actions) * (self.weight / self.scale)
        return value if self.gate is None else value * self.gate(memory)[:, None]


@dataclass
class TotalCost:
    """The sum of its terms.  Costs of weight zero are not computed."""

    parts: Sequence[Term] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two costs are called {twice[0]!r}; costs are told apart by name, rename one")

    def terms(self, memory: Memory, imagined: Imagined, actions: Tensor) -> dict[str, Tensor]:
        """Weighted energies by name, [B, K] each."""
        return {part.name: part(memory, imagined, actions) for part in self.parts if part.weight}

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        """Total energy [B, K]."""
        return torch.stack(list(self.terms(memory, imagined, actions).values())).sum(0)

    @torch.no_grad()
    def calibrate(self, samples: Iterable[tuple[Memory, Imagined, Tensor]]) -> dict[str, float]:
        """Set every scale to the median size of its cost on data; returns the scales.

        Give what the planner will meet: memories, imagined futures of ordinary actions, and those actions.
        """
        seen: dict[str, list[Tensor]] = {part.name: [] for part in self.parts}
        for memory, imagined, actions in samples:
            for part in self.parts:
                seen[part.name].append(part.cost(memory, imagined, actions).abs().flatten())
        for part in self.parts:
            if not part.scale_from_data:
                continue
            if not seen[part.name]:
                raise ValueError(f"cost {part.name!r} cannot be calibrated: no samples were given")
            typical = float(torch.cat(seen[part.name]).median())
            if typical > 0 and typical < float("inf"):
                part.scale = typical
            else:
                log.info(
                    "cost %s keeps its scale %g: its median on the data is %g", part.name, part.scale, typical
                )
        return {part.name: part.scale for part in self.parts}
