"""Claims of the planners' benchmark about its own table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.planner_tables import against, with_rows


def row(name: str, energy: float) -> dict:
    return {"planner": name, "energy_of_theirs": energy}


def test_rows_measured_again_are_replaced_and_the_others_stay() -> None:
    old = [row("theirs", 1.0), row("local", 0.98), row("mppi", 0.99)]
    new = [row("theirs", 1.0), row("local", 0.97), row("another", 0.9)]
    assert with_rows(old, new) == [
        row("theirs", 1.0),
        row("local", 0.97),
        row("mppi", 0.99),
        row("another", 0.9),
    ]
    assert with_rows([], new) == new


def plan(*history: tuple[float, float]) -> dict:
    """Milliseconds and the best energy of each round."""
    return {
        "energy": history[-1][1], "milliseconds": history[-1][0], "candidate_steps": 80, "history": [*map(list, history)]
    }  # fmt: skip


def test_time_to_theirs_is_judged_by_problem_and_by_the_mean_of_all() -> None:
    theirs = [plan((50, 3.0), (100, 1.0)), plan((50, 3.0), (100, 1.0)), plan((50, 3.0), (100, 1.0))]
    ours = [
        plan((4, 2.0), (8, 0.5)),
        plan((4, 2.0), (8, 1.2), (12, 0.9)),
        plan((4, 2.0), (8, 1.2), (12, 1.1)),
    ]
    found = against("ours", ours, theirs, 2)
    assert found["time_to_theirs"] == pytest.approx(0.12)  # 0.08, 0.12 and never
    assert found["within_a_tenth"] == 1
    assert found["mean_reaches_theirs"] == pytest.approx(0.08)  # (0.5 + 1.2 + 1.2) / 3 < 1
    assert found["lower"] == 2
    never = against("ours", [plan((4, 2.0))] * 3, theirs, 2)
    assert never["time_to_theirs"] == never["mean_reaches_theirs"] == float("inf")
