"""Why a trial failed, from what truly happened."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.types import Observation
from envs.arm import Simulated
from envs.tasks import OBJECT, TaskGoal, Verdict

KINDS = (
    "never reached",
    "closed early",
    "never lifted",
    "dropped in transit",
    "released early",
    "lost by a tolerance",
    "timed out",
)


@dataclass(kw_only=True)
class Trace:
    """The truth of a trial, step by step."""

    goal: TaskGoal
    hand: list[np.ndarray] = field(default_factory=list)  # [3]
    object: list[np.ndarray] = field(default_factory=list)  # [3]
    told_closed: list[bool] = field(default_factory=list)
    touching: list[bool] = field(default_factory=list)
    distances_m: list[float] = field(default_factory=list)
    success: bool = False

    def add(self, observation: Observation, truth: Simulated, verdict: Verdict) -> None:
        poses = truth.object_poses()
        self.hand.append(observation.pose[:3].copy())
        self.object.append(poses[OBJECT][:3].copy() if OBJECT in poses else np.zeros(3))
        self.told_closed.append(bool(observation.commanded[6] > 0.5))
        self.touching.append(OBJECT in truth.touching())
        self.distances_m.append(verdict.distance_m)
        self.success |= verdict.success


def classify(task: str, trace: Trace, tolerance_m: float) -> str:
    """One of `KINDS`."""
    if trace.distances_m[-1] <= 2 * tolerance_m and task != "grasp":
        return "lost by a tolerance"
    if task == "reach":
        return "timed out" if trace.distances_m[-1] < trace.distances_m[0] / 2 else "never reached"
    if task == "reach_with_object":  # it begins with the object in the hand
        if trace.touching[-1]:
            return "timed out"
        held = len(trace.touching) - 1 - trace.touching[::-1].index(True) if any(trace.touching) else -1
        return "dropped in transit" if trace.told_closed[held + 1] else "released early"
    hand, thing = np.array(trace.hand), np.array(trace.object)
    gap = np.linalg.norm(hand - thing, axis=1)
    lifted = thing[:, 2] - thing[0, 2] > 0.03
    if not lifted.any():
        if gap.min() > 0.04:
            return "never reached"
        closed = np.array(trace.told_closed)
        if closed.any() and gap[int(closed.argmax())] > 0.03:
            return "closed early"
        return "never lifted"
    last = len(lifted) - 1 - int(lifted[::-1].argmax())
    if not lifted[-1] and last + 1 < len(lifted):
        far = np.linalg.norm(thing[last, :2] - trace.goal.target[:2]) > tolerance_m
        if task == "pick_place" and not far:
            return "timed out"
        return (
            "released early"
            if not trace.told_closed[min(last + 1, len(lifted) - 1)]
            else "dropped in transit"
        )
    return "timed out"
