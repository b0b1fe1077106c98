"""Episodes that an agent drives: as it is, or until the scripted hand takes over and finishes.

The second kind is what teaches Mode 1 to get out of what it gets itself into: the agent acts for a while, unrecorded;
then the scripted hand does what is left of the task, and only that is written.  So every recorded step is worth
imitating, and it begins where the agent, and no script, would have come.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.types import Observation
from envs.expert import Waypoint, grasp, lift, place, reach
from envs.keyboard import Finished
from envs.tasks import OBJECT, Judge, TaskGoal, begin, make_goal

from .build import Mind, build_agent, load_mind, unwatched
from .collect import CollectSettings, Recording, Tally, write_episode
from .hands import ImperfectHand
from .settings import DrivenConfig
from .task import Task
from .trials import BUDGET_STEPS, Cell, agent_task

TASKS = {"reach": 0.1, "grasp": 0.4, "reach_with_object": 0.1, "pick_place": 0.4}
_BESIDE_M = (
    0.03  # nearer than this to the thing, seen from above, the hand need not rise before it comes down
)
_STILL_STEPS = 2


_minds: dict[str, Mind] = {}


def record_driven(out: Path, seed: int, settings: CollectSettings, arm: Any, driver: Any) -> Tally:
    """One episode: a task, a scene and goals of `seed`."""
    driven = settings.driven
    assert driven is not None
    rng = np.random.default_rng([seed, 4243])
    task = str(rng.choice(list(TASKS), p=list(TASKS.values())))
    observation = begin(task, arm, driver, seed=seed)
    goal = make_goal(task, arm, driver, seed=seed)
    if rng.uniform() < 0.5:
        goal = goal.final_only()
    if rng.uniform() < 0.25 and task in (
        "grasp",
        "pick_place",
    ):  # it lies elsewhere than the goal picture shows
        driver.move_object(OBJECT, rng.normal(size=2) * 0.02)
        observation = arm.observe()
    steps = int(rng.integers(2, BUDGET_STEPS[task])) if driven.correct else settings.steps
    work = agent_task(Cell(task=task, method=driven.mode), goal, steps)
    if not driven.correct:
        with Recording(out, seed, settings, arm, driver, kind=f"agent_{task}") as recording:
            _drive(_Taped(arm, driver, recording), driver, driven, work, goal, seed, until_still=False)
        return recording.tally
    success = _drive(arm, driver, driven, work, goal, seed)
    observation = arm.observe()
    waypoints = what_is_left(task, driver, observation, goal.target, done=success)
    noise = float(rng.choice(np.array(driven.noise_m)))
    hand = _Ends(ImperfectHand(waypoints, rng, noise_m=noise, interruptions=0.0))
    return write_episode(
        out, seed, settings, arm, driver, kind=f"corrected_{task}", hand=hand, observation=observation
    )


def what_is_left(
    task: str, driver: Any, observation: Observation, target: np.ndarray, *, done: bool = False
) -> list[Waypoint]:
    """The scripted hand's waypoints from here to the end of a task; where nothing is left, the thing is held, or picked up.

    A thing that is held as it should be is not let go of to be taken again: that would be a lesson in dropping it.
    """
    thing = driver.object_poses()[OBJECT][:3]
    closed = float(observation.commanded[6]) > 0.5
    holds = closed and OBJECT in driver.touching()
    height = driver.scene.object(OBJECT).half_height_m
    if task == "reach":
        x, y, z = (float(v) for v in target)
        return reach((x, y, z), closedness=float(closed))
    if done and not holds:
        return grasp(OBJECT) + lift(OBJECT)
    fetch: list[Waypoint] = []
    if not holds:
        beside = float(np.linalg.norm(thing[:2] - observation.pose[:2])) < _BESIDE_M
        fetch = grasp(OBJECT)[1 if beside and not closed else 0 :] + lift(OBJECT)
    if task == "reach_with_object":
        x, y, z = (float(v) for v in target)
        return fetch + reach((x, y, z), closedness=1.0)
    if task == "grasp":
        return fetch or lift(OBJECT)
    there = float(np.linalg.norm(thing[:2] - target[:2]))
    put = place((float(target[0]), float(target[1])), height)
    if not holds and there < 0.02 and thing[2] < height + 0.01:
        return put[-1:]  # it lies there already: leave it
    if holds and there < 0.012:
        return put[1:]
    return fetch + put


def _drive(
    arm: Any,
    driver: Any,
    driven: DrivenConfig,
    work: Task,
    goal: TaskGoal,
    seed: int,
    *,
    until_still: bool = True,
) -> bool:
    """Let the agent act until its steps are over, it succeeds or it stands still; whether it succeeded."""
    judge = Judge(goal, driver)
    seen: list[Observation] = []
    succeeded = False

    def watch(step: Any) -> bool:
        nonlocal succeeded
        seen.append(step.percept.observation)
        succeeded = judge.see(seen[-1]).success
        still = len(seen) > _STILL_STEPS and all(
            float(np.linalg.norm(a.pose[:3] - seen[-1].pose[:3])) < 0.004
            and a.commanded[6] == seen[-1].commanded[6]
            for a in seen[-1 - _STILL_STEPS : -1]
        )
        return succeeded or (still and until_still)

    agent = build_agent(_mind(driven.model), arm, unwatched(driven.mode))
    agent.pursue(work, seed=seed, on_step=watch, stop_when_reached=False)
    return succeeded


class _Ends:
    """A scripted hand that ends the episode two steps after it has nothing left to do."""

    def __init__(self, hand: ImperfectHand) -> None:
        self._hand, self._idle = hand, 0

    def act(self, pose: np.ndarray, commanded: np.ndarray, objects: Mapping[str, np.ndarray]) -> np.ndarray:
        action = self._hand.act(pose, commanded, objects)
        self._idle += self._hand.done
        if self._idle > 2:
            raise Finished
        return np.zeros(7) if self._hand.done else action


class _Taped:
    """An arm whose every command is recorded."""

    def __init__(self, arm: Any, driver: Any, recording: Recording) -> None:
        self._arm, self._driver, self._recording = arm, driver, recording
        self._before: Observation | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arm, name)

    def observe(self) -> Observation:
        seen: Observation = self._arm.observe()
        self._before = seen
        return seen

    def act(self, action: np.ndarray) -> Any:
        assert self._before is not None, "the agent looks before it acts"
        objects = self._driver.object_poses()
        outcome = self._arm.act(action)
        self._recording.add(self._before, outcome.commanded, objects)
        self._recording.look()
        return outcome


def _mind(model: str) -> Mind:
    if model not in _minds:
        _minds[model] = load_mind(model)
    return _minds[model]
