"""Statistics for success rates: intervals that hold for few trials, and paired comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence


def wilson(successes: int, trials: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95 % Wilson interval of a rate."""
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At 0 and at all the ends are exact, whatever rounding says.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def mcnemar(first: list[bool], second: list[bool]) -> tuple[int, int, float]:
    """Trials that only the first won, only the second won, and the exact two-sided p-value of the difference."""
    if len(first) != len(second):
        raise ValueError(f"McNemar's test compares the same trials; got {len(first)} and {len(second)}")
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1)) / 2**discordant
    return only_first, only_second, min(1.0, 2 * tail)


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Area under the ROC curve: how often one of the positive is above one of the negative; a tie counts half."""
    if not len(positive) or not len(negative):
        raise ValueError(f"an ROC curve needs both kinds; got {len(positive)} and {len(negative)}")
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return wins / (len(positive) * len(negative))
