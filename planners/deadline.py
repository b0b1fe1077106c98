"""Time and budget: how many more candidates fit, judged by what the ones before them took."""

from __future__ import annotations

import time
from collections.abc import Callable

from planners.protocols import Budget

PROBE = 8  # candidates of the first look, when nothing has been measured yet
CAUTION = 1.05  # iterations differ: expect the next to take this much longer than the slowest before it
GRADIENT_COST = 4.0  # a step with gradients against one without, until it has been measured


class Clock:
    """Counts candidate steps and milliseconds against a budget and predicts the cost of what comes next."""

    def __init__(self, budget: Budget | None, now: Callable[[], float] = time.perf_counter) -> None:
        self.budget = budget or Budget()
        for name in ("deadline_ms", "candidate_steps"):
            value = getattr(self.budget, name)
            if value is not None and not value > 0:
                raise ValueError(f"budget.{name} is {value}; give a number above zero, or none for no limit")
        self.now = now
        self.start = now()
        self.candidate_steps = 0
        self._rates: dict[
            bool, float
        ] = {}  # gradient? -> slowest seconds per candidate, of the larger batches
        self._largest: dict[bool, int] = {}
        self._floor: dict[bool, float] = {}  # the fastest evaluation of any size: what a call costs at least

    def elapsed_ms(self) -> float:
        return 1000.0 * (self.now() - self.start)

    def left_ms(self) -> float | None:
        """Milliseconds until the deadline; None where there is none."""
        return None if self.budget.deadline_ms is None else self.budget.deadline_ms - self.elapsed_ms()

    def fits(self, wanted: int, steps: int, *, gradient: bool = False) -> int:
        """How many of `wanted` candidates of `steps` steps can be evaluated within the budget."""
        allowed = wanted
        if self.budget.candidate_steps is not None:
            allowed = min(allowed, max(0, self.budget.candidate_steps - self.candidate_steps) // steps)
        if self.budget.deadline_ms is None or not allowed:
            return allowed
        left = (self.budget.deadline_ms - self.elapsed_ms()) / 1000.0
        if not self._rates:
            return min(PROBE, allowed)
        rate, floor = self._rates.get(gradient), self._floor.get(gradient)
        if rate is None or floor is None:
            known = not gradient
            rate, floor = self._rates[known] * GRADIENT_COST, self._floor[known] * GRADIENT_COST
        largest = self._largest.get(gradient, 0)
        if allowed <= largest:  # seen before at this size: linear between the cheapest call and the largest
            expected = floor + rate * allowed
            expected = min(expected, rate * largest)
        else:
            expected = rate * allowed
        if CAUTION * expected <= left:
            return allowed
        some = int((left / CAUTION - floor) / rate)
        return min(allowed, some) if some >= min(PROBE, allowed) else 0

    def record(
        self, candidates: int, candidate_steps: int, seconds: float, *, gradient: bool = False
    ) -> None:
        """Say what an evaluation of `candidates` took, and how many steps it imagined."""
        self.candidate_steps += candidate_steps
        rate, largest = seconds / candidates, self._largest.get(gradient, 0)
        if candidates > 2 * largest:  # small batches say little about large ones
            self._rates[gradient] = rate
        elif 2 * candidates >= largest:
            self._rates[gradient] = max(rate, self._rates[gradient])
        self._largest[gradient] = max(candidates, largest)
        self._floor[gradient] = min(seconds, self._floor.get(gradient, seconds))
