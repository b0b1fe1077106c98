"""Receding horizon: plan, execute a few steps, plan again from the plan before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from data.types import Imagined, Memory
from planners.actions import GripperRule
from planners.proposals import Remembered
from planners.protocols import Budget, Energy, Imagines, Plan, Planner, Proposes


@dataclass(kw_only=True)
class Receding:
    """A planner around a planner; the caller executes the first action of what it returns.

    It remembers the last plan: call `reset` when the task, the arm or the world has changed under it.
    """

    planner: Planner
    execute: int = 1
    """Steps of a plan that are executed before the next is made."""
    warm_start: bool = True
    """Offer the last plan and its elites, shifted, behind the other proposals."""
    rule: GripperRule = GripperRule.TARGET
    """What the last number of an action means."""
    _plan: Plan | None = field(default=None, init=False, repr=False)
    _used: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.rule = GripperRule(self.rule)
        if self.execute < 1:
            raise ValueError(f"execute is {self.execute}; at least one step of a plan must be executed")

    def reset(self) -> None:
        """Forget the plan: the next call plans anew."""
        self._plan, self._used = None, 0

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
        """A new plan, or the rest of the last one while steps of it are to be executed."""
        last = self._plan
        if last is not None and len(last.actions) != len(memory.poses):
            last = None
        if last is not None and self._used < min(self.execute, last.actions.shape[1]):
            self._used += 1
            return _rest(last, self._used - 1)
        if last is not None and self.warm_start:
            proposers = (*proposers, Remembered.after(last, self._used, self.rule))
        plan = self.planner.plan(
            memory, model, energy, proposers=proposers, budget=budget, seed=seed, keep_clouds=keep_clouds
        )
        self._plan, self._used = plan, 1
        return plan


def _rest(plan: Plan, used: int) -> Plan:
    """What is left of a plan after its first `used` steps; its energies are those of the whole."""
    seen = plan.imagined
    return replace(
        plan,
        actions=plan.actions[:, used:],
        imagined=Imagined(
            latents=seen.latents[:, :, used:],
            poses=seen.poses[:, :, used:],
            extras={name: value[:, :, used:] for name, value in seen.extras.items() if value.dim() > 2},
        ),
        history=[],
        clouds=[],
        milliseconds={"imagine": 0.0, "score": 0.0, "search": 0.0, "total": 0.0},
        notes=[f"step {used + 1} of the plan before"],
    )
