"""What a task gives to hands that do not deserve it, and to the one that sees the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.types import Observation

from .arm import ArmError
from .expert import STEP_M, ScriptedHand
from .tasks import Judge, TaskGoal, begin, make_goal, script

STEPS = {"reach": 20, "grasp": 30, "reach_with_object": 20, "pick_place": 60}
Act = Callable[[Observation], np.ndarray]


@dataclass(kw_only=True, slots=True)
class Score:
    """How often a hand succeeded, and the seeds on which it did not."""

    task: str
    hand: str
    episodes: int = 0
    successes: int = 0
    failed: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.successes / max(1, self.episodes)


def still(task: str, driver: Any, seed: int) -> Act:
    """Holds."""
    return lambda observation: np.zeros(7)


def random(task: str, driver: Any, seed: int) -> Act:
    """Moves anywhere and works the gripper at random."""
    rng = np.random.default_rng([seed, 55])

    def act(observation: Observation) -> np.ndarray:
        return np.concatenate(
            [rng.uniform(-STEP_M, STEP_M, 3), rng.uniform(-0.1, 0.1, 3), rng.uniform(-1, 1, 1)]
        )

    return act


def scripted(task: str, driver: Any, seed: int) -> Act:
    """The expert, which sees where the object is."""
    hand = ScriptedHand(script(task, driver, seed=seed)[0])
    return lambda observation: hand.act(observation.pose, observation.commanded, driver.object_poses())


HANDS: dict[str, Callable[[str, Any, int], Act]] = {"still": still, "random": random, "scripted": scripted}


def _goal(task: str, arm: Any, driver: Any, seed: int) -> TaskGoal:
    """What the judge needs to know: for most tasks the target alone, and no pictures of it."""
    if task == "reach_with_object":
        return make_goal(task, arm, driver, seed=seed)  # where the object is in the hand at the goal
    return TaskGoal(task=task, views=[], target=script(task, driver, seed=seed)[2])


def score(task: str, arm: Any, driver: Any, hand: str, *, episodes: int, seed: int = 10_000) -> Score:
    """Let a hand try the task on consecutive seeds."""
    if hand not in HANDS:
        raise ArmError(f"no hand {hand!r}; there are {', '.join(HANDS)}")
    found = Score(task=task, hand=hand)
    for one in range(seed, seed + episodes):
        observation = begin(task, arm, driver, seed=one)
        judge = Judge(_goal(task, arm, driver, one), driver)
        act = HANDS[hand](task, driver, one)
        success = judge.see(observation).success
        for _ in range(STEPS[task]):
            if success:
                break
            arm.act(act(observation))
            observation = arm.observe()
            success = judge.see(observation).success
        found.episodes += 1
        found.successes += success
        if not success:
            found.failed.append(one)
    return found
