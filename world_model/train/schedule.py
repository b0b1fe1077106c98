"""The learning rate as a function of the step: warm-up, plateau, cool-down."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(kw_only=True, frozen=True)
class Schedule:
    """Linear from `start` to `peak` over `warmup_steps`, flat, then down to `final` over the last `cooldown_fraction`.

    `cooldown_fraction=1` with `shape="cosine"` is the usual cosine; a small fraction with `"linear"` is the
    warm-up, constant, anneal schedule of V-JEPA 2-AC.
    """

    steps: int
    peak: float
    warmup_steps: int = 0
    cooldown_fraction: float = 1.0
    shape: str = "cosine"  # cosine | linear
    start: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in ("cosine", "linear"):
            raise ValueError(f"schedule shape {self.shape!r} is not known; there are 'cosine' and 'linear'")
        if not 0 <= self.cooldown_fraction <= 1:
            raise ValueError(
                f"cooldown_fraction is a share of the steps, 0 to 1, not {self.cooldown_fraction}"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is more than all {self.steps} steps")

    def at(self, step: int) -> float:
        """The rate used for step `step`, counted from 0."""
        done = step + 1
        if done <= self.warmup_steps:
            return self.start + (self.peak - self.start) * done / self.warmup_steps
        cooldown_steps = min(round(self.steps * self.cooldown_fraction), self.steps - self.warmup_steps)
        left = self.steps - done
        if left >= cooldown_steps:
            return self.peak
        share = left / cooldown_steps
        if self.shape == "cosine":
            share = 0.5 * (1 - math.cos(math.pi * share))
        return self.final + (self.peak - self.final) * share
