"""The statistics that LeRobot keeps beside its data: per episode, and summed up over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)


def column_stats(values: np.ndarray) -> dict[str, Any]:
    """Statistics of a numeric column [T] or [T, n], each a list of n numbers."""
    table = np.asarray(values, np.float64).reshape(len(values), -1)
    found = {
        "min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0),
        **{name: np.quantile(table, q, axis=0) for name, q in QUANTILES.items()},
    }  # fmt: skip
    return {"count": [len(table)]} | {name: numbers.tolist() for name, numbers in found.items()}


def picture_stats(frames: np.ndarray, count: int) -> dict[str, Any]:
    """Statistics of pictures uint8 [n, H, W, 3] by channel, as [3, 1, 1] in 0..1; `count` frames stand behind them."""
    stats = column_stats(frames.reshape(-1, 3)[:: max(1, frames.size // 3_000_000)] / 255.0)
    return {n: [count] if n == "count" else [[[v]] for v in stats[n]] for n in NAMES}


def together(episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of all episodes from those of each; quantiles are means weighted by length, as LeRobot has them."""
    weight = np.array([e["count"][0] for e in episodes], np.float64)
    stacked = {n: np.array([e[n] for e in episodes], np.float64) for n in NAMES if n != "count"}
    share = (weight / weight.sum()).reshape(-1, *([1] * (stacked["mean"].ndim - 1)))
    mean = (share * stacked["mean"]).sum(0)
    variance = (share * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    found = {
        "min": stacked["min"].min(0),
        "max": stacked["max"].max(0),
        "mean": mean,
        "std": np.sqrt(variance),
    }
    found |= {name: (share * stacked[name]).sum(0) for name in QUANTILES}
    return {n: v.tolist() for n, v in found.items()} | {"count": [int(weight.sum())]}
