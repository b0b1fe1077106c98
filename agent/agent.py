"""The agent: observe, perceive, remember, be surprised, decide, act; until the world looks like the goal.

Six modules, each behind a protocol: perception and world model (what is, what would be), cost (what is wanted),
actor (what to do), short-term memory (what was), configurator (how to go about it).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from data.types import CLOSEDNESS, Observation
from envs.arm import Arm, ArmError, Refused, Stopped

from .actor import Acts, Decision
from .configurator import Choice, Configures, Situation
from .cost import Costs
from .memory import Remembers
from .perception import Perceives, Percept
from .surprise import Surprise
from .task import Task


@dataclass(kw_only=True, slots=True)
class Step:
    """What happened in one turn of the loop, for people and for pictures."""

    index: int
    goal_index: int
    percept: Percept
    decision: Decision | None
    choice: Choice
    surprise: float | None
    surprise_errors: dict[str, float]
    steps_to_go: float
    distance: float
    milliseconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Outcome:
    """How a task ended, in the agent's own judgement."""

    status: str  # "reached" | "out of steps" | "stopped: ..."
    steps: list[Step]
    goals: list[Tensor]

    @property
    def reached(self) -> bool:
        return self.status == "reached"


class Agent:
    """Drives an arm to what a picture shows."""

    def __init__(
        self,
        *,
        arm: Arm,
        perception: Perceives,
        memory: Callable[[], Remembers],
        costs: Costs,
        actor: Acts,
        configurator: Configures,
        surprise: Callable[[], Surprise] | None = None,
        stop_on_surprise: bool = True,
        keep_clouds: bool = False,
    ) -> None:
        self.arm, self.perception, self.costs, self.actor = arm, perception, costs, actor
        self.configurator, self._new_memory, self._new_surprise = configurator, memory, surprise
        self._stop_on_surprise, self._keep_clouds = stop_on_surprise, keep_clouds
        self.memory: Remembers = memory()

    def pursue(
        self,
        task: Task,
        *,
        seed: int = 0,
        on_step: Callable[[Step], bool | None] | None = None,
        stop_when_reached: bool = True,
    ) -> Outcome:
        """Work on a task.  `on_step` sees every step and ends the work by returning True."""
        self.memory = self._new_memory()
        surprise = self._new_surprise() if self._new_surprise else None
        goals = [self.perception.see_goal(goal) for goal in task.goals]
        steps: list[Step] = []
        goal_index = steps_on_goal = still_steps = 0
        decision: Decision | None = None
        status = "out of steps"
        for index in range(task.budget_steps + 1):
            started = time.perf_counter()
            before = steps[-1].percept.observation if steps else None
            try:
                observation = self.arm.observe()
            except ArmError as error:  # a camera, the line: the arm holds already
                if not steps:
                    raise
                status = f"stopped: {error}"
                break
            percept = self.perception.see(observation)
            perceived = time.perf_counter()
            still_steps = (
                still_steps + 1 if before is not None and hardly_moved(before, percept.observation) else 0
            )
            self.memory.perceive(percept)
            felt = None
            if surprise is not None and decision is not None:
                imagined = decision.plan.imagined
                felt = surprise.measure(imagined.latents[:, 0, 0], imagined.poses[:, 0, 0], percept)
            situation, choice = self._consider(
                task, goals, goal_index, steps_on_goal, percept, felt, still_steps
            )
            if choice.next_goal:
                goal_index, steps_on_goal = goal_index + 1, 0
                situation, later = self._consider(task, goals, goal_index, steps_on_goal, percept, felt, 0)
                choice.mode, choice.done = later.mode, later.done
                choice.reasons += later.reasons
            stop = (
                felt is not None
                and surprise is not None
                and self._stop_on_surprise
                and felt > surprise.scale.strong
            )
            ending = stop or index == task.budget_steps or (choice.done and stop_when_reached)
            decision, notes, decided = None, [], perceived
            if not ending:
                decision = self._decide(task, goals[goal_index], goal_index, choice, seed + index)
                decided = time.perf_counter()
            step = Step(
                index=index, goal_index=goal_index, percept=percept, decision=decision, choice=choice, surprise=felt,
                surprise_errors={} if surprise is None or felt is None else surprise.errors,
                steps_to_go=situation.steps_to_go, distance=situation.distance, notes=notes,
                milliseconds={"perceive": 1e3 * (perceived - started), "plan": 1e3 * (decided - perceived)},
            )  # fmt: skip
            steps.append(step)
            if on_step is not None and on_step(step):
                status = "reached" if choice.done else "stopped: asked to"
                break
            if ending:
                if stop and surprise is not None:
                    self.arm.stop()
                    status = f"stopped: {surprise.describe()}"
                elif choice.done:
                    status = "reached"
                break
            assert decision is not None
            try:
                notes += self._act(percept.observation, decision)
            except (
                ArmError
            ) as error:  # stopped by a person, a reflex, a lost connection: what was done is kept
                status = f"stopped: {error}"
                break
            steps_on_goal += 1
        return Outcome(status=status, steps=steps, goals=goals)

    def _consider(
        self,
        task: Task,
        goals: list[Tensor],
        index: int,
        steps_on_goal: int,
        percept: Percept,
        felt: float | None,
        still_steps: int,
    ) -> tuple[Situation, Choice]:
        situation = Situation(
            goal_index=index,
            steps_on_goal=steps_on_goal,
            steps_to_go=self.costs.steps_to_go(percept.latent, goals[index], percept.pose),
            distance=self.costs.distance(percept.latent, goals[index]),
            surprise=felt,
            still_steps=still_steps,
        )
        return situation, self.configurator.choose(task, situation)

    def _decide(self, task: Task, goal: Tensor, goal_index: int, choice: Choice, seed: int) -> Decision:
        wanted = task.goals[goal_index].pose if task.use_poses else None
        energy = self.costs.for_goal(goal, None if wanted is None else _tensor(wanted))
        return self.actor.decide(
            self.memory.context(),
            goal,
            energy,
            mode=choice.mode,
            budget=choice.budget,
            seed=seed,
            keep_clouds=self._keep_clouds,
        )

    def _act(self, observation: Observation, decision: Decision) -> list[str]:
        action = arm_action(observation, decision.action.numpy())
        try:
            outcome = self.arm.act(action)
        except Stopped:
            raise
        except Refused as refusal:
            self.memory.did(observation.commanded, float(decision.plan.energy[0]))
            return [f"refused: {refusal}"]
        self.memory.did(outcome.commanded, float(decision.plan.energy[0]))
        return list(outcome.notes)


def hardly_moved(before: Observation, after: Observation, least_m: float = 0.004) -> bool:
    """Whether a step did next to nothing: no move to speak of and the gripper told the same as before."""
    moved = float(np.linalg.norm(after.pose[:3] - before.pose[:3]))
    return moved < least_m and abs(float(after.commanded[CLOSEDNESS] - before.commanded[CLOSEDNESS])) < 0.5


def arm_action(observation: Observation, action: np.ndarray) -> np.ndarray:
    """What to tell the arm: the model's action starts from the measured pose, the arm's from the commanded one."""
    told = np.asarray(action, np.float64).copy()
    told[:3] += observation.pose[:3] - observation.commanded[:3]
    closed = 1.0 if action[CLOSEDNESS] > 0.5 else 0.0
    told[CLOSEDNESS] = closed - observation.commanded[CLOSEDNESS]
    return told


def _tensor(pose: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.asarray(pose, np.float32))
