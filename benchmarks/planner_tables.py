"""Energy against time as rows of a table: each planner's traces against those of V-JEPA 2's on the same problems."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from planners.protocols import Plan


def trace(plan: Plan) -> dict[str, Any]:
    return {
        "energy": float(plan.energy),
        "milliseconds": plan.milliseconds["total"],
        "candidate_steps": plan.info["candidate_steps"],
        "history": [[line["milliseconds"], line["best"]] for line in plan.history],
    }


def against(
    name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]], horizon: int
) -> dict[str, Any]:
    """One line of the table: a planner's traces against those of V-JEPA 2's planner on the same problems."""
    shares, gains = [], []
    for plan, other in zip(ours, theirs, strict=True):
        reached = [instant for instant, best in plan["history"] if best <= other["energy"]]
        shares.append(reached[0] / other["milliseconds"] if reached else float("inf"))
        gains.append(plan["energy"] / other["energy"])
    return {
        "planner": name,
        "horizon": horizon,
        "milliseconds": statistics.median(p["milliseconds"] for p in ours),
        "candidate_steps": statistics.median(p["candidate_steps"] for p in ours),
        "energy_of_theirs": statistics.mean(gains),
        "worst": max(gains),
        "lower": sum(g < 1 for g in gains),
        "time_to_theirs": statistics.median(shares),
        "within_a_tenth": sum(s <= 0.1 for s in shares),
        "mean_reaches_theirs": mean_reaches(ours, theirs),
        "problems": len(ours),
        "curve": curve([p["history"] for p in ours]),
    }


def mean_reaches(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """When the mean over problems of ours is down to that of theirs in the end, as a share of their mean time."""
    wanted = statistics.mean(plan["energy"] for plan in theirs)
    whole = statistics.mean(plan["milliseconds"] for plan in theirs)
    first = max(plan["history"][0][0] for plan in ours)
    for instant in sorted(i for plan in ours for i, _ in plan["history"] if i >= first):
        best = [[b for i, b in plan["history"] if i <= instant][-1] for plan in ours]
        if statistics.mean(best) <= wanted:
            return instant / whole
    return float("inf")


def with_rows(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A table whose rows of the same planners are replaced; those not measured this time stay, in their places."""
    fresh = {row["planner"]: row for row in new}
    kept = [fresh.pop(row["planner"], row) for row in old]
    return [*kept, *fresh.values()]


def curve(histories: list[list[list[float]]], points: int = 12) -> list[list[float]]:
    """[milliseconds, mean of the best energy so far] at times spread evenly over the longest plan."""
    longest = max(history[-1][0] for history in histories)
    found = []
    for instant in np.geomspace(longest / 50, longest, points):
        energies = []
        for history in histories:
            seen = [best for milliseconds, best in history if milliseconds <= instant]
            energies.append(seen[-1] if seen else history[0][1])
        found.append([round(float(instant), 2), round(statistics.mean(energies), 5)])
    return found


def show_energy(rows: list[dict[str, Any]]) -> None:
    print(f"\nhorizon {rows[0]['horizon']}, {rows[0]['problems']} problems")
    print(
        "planner            CPU ms  cand. steps  end / theirs  worst   lower  time to theirs  within 1/10  time of the mean"
    )
    for row in rows:
        print(
            f"{row['planner']:16s} {row['milliseconds']:8.1f} {row['candidate_steps']:12.0f} "
            f"{row['energy_of_theirs']:13.5f} {row['worst']:8.5f} {row['lower']:4d} {row['time_to_theirs']:15.3f} "
            f"{row['within_a_tenth']:8d} / {row['problems']} {row['mean_reaches_theirs']:13.3f}"
        )
