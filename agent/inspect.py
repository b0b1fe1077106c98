"""What a folder of logs holds, added up and put into words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.report import Report
from data.source import Log
from data.survey import AXES, BINS, PERIOD_S, SPANS

_BARS = " ▁▂▃▄▅▆▇█"
_UNITS = (("mm", 1e3),) * 3 + (("deg", 180 / np.pi),) * 3 + (("%", 100.0),)


@dataclass(kw_only=True, slots=True)
class Summary:
    """The accepted episodes of a folder."""

    format: str
    episodes: int
    hours: float
    rows: int
    tasks: dict[str, int]
    objects: dict[str, int]
    cameras: dict[str, int]
    succeeded: int
    failed: int
    contact: float  # share of rows
    seconds: list[float] = field(default_factory=list)  # shortest, median, longest episode
    steps: np.ndarray = field(default_factory=lambda: np.zeros((7, BINS), np.int64))
    step_mean_abs: np.ndarray = field(default_factory=lambda: np.zeros(7))
    held_out: int = 0


def summarise_log(log: Log, report: Report, *, validation: float = 0.1) -> Summary:
    """Add up what the check of each accepted episode found."""
    found = [s for key in report.accepted if (s := log.entries[key].summary) is not None]
    seconds = np.array([s["seconds"] for s in found] or [0.0])
    rows = np.array([s["rows"] for s in found] or [0])
    counts = np.array([s["step_count"] for s in found] or [0])
    means = np.array([s["step_mean_abs"] for s in found] or [[0.0] * 7])
    steps = np.zeros((7, BINS), np.int64)
    for s in found:
        steps += np.frombuffer(bytes.fromhex(s["steps"]), np.uint16).reshape(7, BINS)
    return Summary(
        format=log.format,
        episodes=len(found),
        hours=float(seconds.sum() / 3600),
        rows=int(rows.sum()),
        tasks=_counted([s["task"] or "(no task)" for s in found]),
        objects=_counted([name for s in found for name in s["objects"]]),
        cameras=_counted([name for s in found for name in s["cameras"]]),
        succeeded=sum(s["success"] is True for s in found),
        failed=sum(s["success"] is False for s in found),
        contact=float(np.dot([s["contact"] for s in found] or [0.0], rows) / max(1, rows.sum())),
        seconds=[float(seconds.min()), float(np.median(seconds)), float(seconds.max())],
        steps=steps,
        step_mean_abs=(means * counts[:, None]).sum(0) / max(1, counts.sum()),
        held_out=len(log.split(report.accepted, validation)[1]),
    )


def _counted(names: list[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _few(counts: dict[str, int], shown: int = 5) -> str:
    parts = [f"{n} {name}" for name, n in list(counts.items())[:shown]]
    more = len(counts) - shown
    return "; ".join(parts) + (f"; {more} more" if more > 0 else "") if parts else "none"


def bars(histogram: np.ndarray) -> str:
    """A histogram as a line of small bars; what is there but rare stays visible."""
    most = max(1, int(histogram.max()))
    heights = np.ceil(np.sqrt(histogram / most) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[h] for h in heights)


def table(summary: Summary) -> list[str]:
    """The lines that `forearm inspect` prints."""
    judged = summary.succeeded + summary.failed
    unknown = summary.episodes - judged
    success = f"{100 * summary.succeeded / judged:.0f} % of {judged}" if judged else "not recorded"
    shortest, median, longest = summary.seconds
    lines = [
        f"format     {summary.format}",
        f"episodes   {summary.episodes}, {summary.hours:.2f} hours, {summary.rows} rows",
        f"length     {median:.1f} s in the middle, {shortest:.1f} to {longest:.1f} s",
        f"tasks      {_few(summary.tasks)}",
    ]
    if summary.objects:
        lines.append(f"objects    {_few(summary.objects)}")
    lines += [
        f"cameras    {_few(summary.cameras)}",
        f"success    {success}" + (f", {unknown} unknown" if unknown and judged else ""),
        f"contact    {100 * summary.contact:.0f} % of rows",
        f"held out   {summary.held_out} for validation, for ever the same ones",
        f"steps      over {PERIOD_S} s; the bars grow with the root of the count",
    ]
    for name, span, (unit, factor), histogram, mean in zip(
        AXES, SPANS, _UNITS, summary.steps, summary.step_mean_abs, strict=True
    ):
        reach = f"{span * factor:.0f}"
        lines.append(
            f"  {name:<8} -{reach:>3} {bars(histogram)} +{reach:<3} {unit:<3}  mean {mean * factor:.1f}"
        )
    return lines


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary for results.json."""
    return {
        "format": summary.format,
        "episodes": summary.episodes,
        "hours": summary.hours,
        "rows": summary.rows,
        "tasks": summary.tasks,
        "objects": summary.objects,
        "cameras": summary.cameras,
        "succeeded": summary.succeeded,
        "failed": summary.failed,
        "contact": summary.contact,
        "held_out": summary.held_out,
        "seconds": dict(zip(("shortest", "median", "longest"), summary.seconds, strict=True)),
        "step_mean_abs": dict(zip(AXES, summary.step_mean_abs.tolist(), strict=True)),
        "steps": {name: counts.tolist() for name, counts in zip(AXES, summary.steps, strict=True)},
    }
