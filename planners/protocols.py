"""What a planner knows: something that imagines, something that scores, something that proposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from data.types import Imagined, Memory


class Imagines(Protocol):
    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        """actions [B, K, H, A] -> what would follow."""
        ...


class Energy(Protocol):
    """Scores imagined futures; lower is better.  `planners.costs.total.TotalCost` adds weighted terms into one."""

    def terms(self, memory: Memory, imagined: Imagined, actions: Tensor) -> dict[str, Tensor]:
        """Weighted energy of each term, [B, K] each; the planner minimises their sum."""
        ...


class Proposes(Protocol):
    """Suggests action sequences worth a look: Mode 1, the last plan shifted, a remembered plan."""

    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        """[B, count, H, A]; the first is the proposer's best guess without noise.

        Draw noise of one problem's shape and use it for all, so that a problem is planned as it would be alone.
        """
        ...


@dataclass(kw_only=True, slots=True)
class Budget:
    """Stop after `deadline_ms` or after `candidate_steps` imagined (candidates x horizon), whichever is first."""

    deadline_ms: float | None = None
    candidate_steps: int | None = None


@dataclass(kw_only=True, slots=True)
class Plan:
    """The best action sequence found and why."""

    actions: Tensor  # [B, H, A]
    energy: Tensor  # [B]
    imagined: Imagined  # K = 1
    terms: dict[str, Tensor]  # [B] each, at the plan
    history: list[dict[str, float]] = field(
        default_factory=list
    )  # per iteration: best, mean, elite, term/<name>
    clouds: list[dict[str, Tensor]] = field(default_factory=list)  # kept on request: actions, energies, poses
    milliseconds: dict[str, float] = field(default_factory=dict)  # imagine, score, search, total
    finished: bool = True  # False: the budget ended it
    notes: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)


class Planner(Protocol):
    def plan(
        self,
        memory: Memory,
        model: Imagines,
        energy: Energy,
        *,
        proposers: tuple[Proposes, ...] = (),
        budget: Budget | None = None,
        seed: int | Sequence[int] = 0,  # one for all problems, or one each
        keep_clouds: bool = False,
    ) -> Plan: ...
