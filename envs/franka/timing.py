"""How punctual a loop is: jitter and missed deadlines, in fixed memory.  numpy only."""

from __future__ import annotations

import time

import numpy as np

_KEPT = 4096


class LoopTimes:
    """Call `tick` once a turn."""

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self._gaps = np.zeros(_KEPT)
        self._count = self.misses = 0
        self._last: float | None = None

    def tick(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            gap = now - self._last
            self._gaps[self._count % _KEPT] = gap
            self._count += 1
            self.misses += gap > 2 * self.period_s
        self._last = now

    def report(self) -> dict[str, float]:
        """Milliseconds of the last turns, and how many turns of all took more than two periods."""
        gaps = 1000 * self._gaps[: min(self._count, _KEPT)]
        if not len(gaps):
            return {"period_ms": 1000 * self.period_s, "turns": 0, "misses": 0}
        return {
            "period_ms": 1000 * self.period_s,
            "turns": self._count,
            "misses": int(self.misses),
            "median_ms": float(np.median(gaps)),
            "p99_ms": float(np.percentile(gaps, 99)),
            "worst_ms": float(gaps.max()),
        }
