"""Each way to fail, acted by hand, gets its own name."""

import numpy as np
import pytest

from agent.failures import KINDS, Trace, classify
from envs.tasks import TaskGoal

REST = 0.02
TARGET = np.array([0.6, 0.2, REST])


def trace(task, heights, *, gaps=None, closed=None, touching=None, distances=None, at=(0.5, 0.0)):
    """An object that is at `heights` over steps; the hand is `gaps` beside it."""
    count = len(heights)
    thing = [np.array([*at, h]) for h in heights]
    gaps = gaps or [0.0] * count
    return Trace(
        goal=TaskGoal(task=task, views=[], target=TARGET),
        hand=[p + np.array([g, 0, 0]) for p, g in zip(thing, gaps, strict=True)],
        object=thing,
        told_closed=closed or [True] * count,
        touching=touching or [True] * count,
        distances_m=distances or [0.22] * count,
    )


UP = [REST, REST, 0.08, 0.12]
CASES = {
    "the hand stays away": ("grasp", trace("grasp", [REST] * 4, gaps=[0.2, 0.2, 0.1, 0.1]), "never reached"),
    "it closes on the way": (
        "grasp",
        trace("grasp", [REST] * 4, gaps=[0.2, 0.1, 0.05, 0.01], closed=[False, True, True, True]),
        "closed early",
    ),
    "it closes there and lifts nothing": (
        "grasp",
        trace("grasp", [REST] * 4, gaps=[0.2, 0.1, 0.01, 0.01], closed=[False, False, True, True]),
        "never lifted",
    ),
    "it slips": ("pick_place", trace("pick_place", [*UP, REST, REST]), "dropped in transit"),
    "it is let go on the way": (
        "pick_place",
        trace("pick_place", [*UP, REST, REST], closed=[True] * 4 + [False] * 2),
        "released early",
    ),
    "nearly": ("pick_place", trace("pick_place", UP, distances=[0.2, 0.2, 0.1, 0.05]), "lost by a tolerance"),
    "it still holds it": ("pick_place", trace("pick_place", UP), "timed out"),
    "it lay in place but time ran out": (
        "pick_place",
        trace("pick_place", [*UP, REST], at=TARGET[:2], distances=[0.2] * 5),
        "timed out",
    ),
    "pushed off the table": (
        "grasp",
        trace("grasp", [REST, REST, -0.4], gaps=[0.1, 0.01, 0.01], closed=[False, False, True]),
        "never lifted",
    ),
    "a hand that does not move": ("reach", trace("reach", [REST] * 3, distances=[0.3, 0.3, 0.29]), "never reached"),
    "a hand on its way": ("reach", trace("reach", [REST] * 3, distances=[0.3, 0.2, 0.1]), "timed out"),
    "carried level, too slowly": ("reach_with_object", trace("reach_with_object", [0.15] * 4), "timed out"),
    "carried down, still held": (
        "reach_with_object",
        trace("reach_with_object", [0.20, 0.15, 0.12, 0.10]),
        "timed out",
    ),
    "carried and lost": (
        "reach_with_object",
        trace("reach_with_object", [0.2, 0.2, REST, REST], touching=[True, True, False, False]),
        "dropped in transit",
    ),
    "carried and let go": (
        "reach_with_object",
        trace(
            "reach_with_object", [0.2, 0.2, REST, REST], touching=[True, True, False, False],
            closed=[True, True, False, False],
        ),
        "released early",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_a_failure_is_named(what):
    task, acted, kind = CASES[what]
    assert classify(task, acted, 0.02 if task == "reach" else 0.03) == kind


def test_the_cases_show_every_kind():
    assert {kind for _, _, kind in CASES.values()} == set(KINDS)
