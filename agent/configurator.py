"""The configurator: turns a task into settings for the other five, and decides, step by step, what leads.

Every choice comes with a reason in words, and every choice can be overridden.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from planners.protocols import Budget

from .settings import ConfiguratorSettings
from .task import Task


@dataclass(kw_only=True, slots=True)
class Situation:
    """What the configurator looks at before each decision."""

    goal_index: int
    steps_on_goal: int
    steps_to_go: float
    distance: float
    surprise: float | None
    still_steps: int = 0  # for how many steps the hand has hardly moved and the gripper not switched


@dataclass(kw_only=True, slots=True)
class Choice:
    mode: str
    budget: Budget | None
    next_goal: bool = False
    done: bool = False
    reasons: list[str] = field(default_factory=list)


class Configures(Protocol):
    def brief(self, task: Task) -> list[str]: ...

    def choose(self, task: Task, situation: Situation) -> Choice: ...


@dataclass
class Configurator:
    settings: ConfiguratorSettings = field(default_factory=ConfiguratorSettings)

    def brief(self, task: Task) -> list[str]:
        """The choices made before the first step, with reasons."""
        s = self.settings
        lines = [
            f"{len(task.goals)} goal{'s' if len(task.goals) > 1 else ''}, at most {task.budget_steps} steps"
        ]
        lines.append(
            {
                "both": "Mode 1 while it gets on; Mode 2 around what it proposes when it hesitates or is surprised",
                "policy": "Mode 1 alone, as asked for",
                "planner": "Mode 2 alone, without proposals, as asked for",
            }[s.mode]
        )
        if s.deadline_ms:
            lines.append(f"a plan may take {s.deadline_ms:.0f} ms")
        lines.append(
            "energy: the critic's steps to go; the latent distance joins it near the goal, where it can be trusted"
        )
        if len(task.goals) > 1:
            lines.append(
                f"a sub-goal is reached at {s.reached_steps} steps to go or distance {s.reached_distance}, "
                f"or left after {s.patience_steps} steps"
            )
        return lines

    def choose(self, task: Task, situation: Situation) -> Choice:
        s = self.settings
        last = situation.goal_index == len(task.goals) - 1
        budget = Budget(deadline_ms=s.deadline_ms) if s.deadline_ms else None
        choice = Choice(mode=s.mode, budget=budget)
        near = situation.steps_to_go < s.reached_steps or situation.distance < s.reached_distance
        if near and situation.steps_on_goal > 0 and not last:
            choice.next_goal = True
            choice.reasons.append(
                f"sub-goal {situation.goal_index + 1} reached ({situation.steps_to_go:.1f} steps to go, "
                f"distance {situation.distance:.3f})"
            )
        elif near and last:
            choice.done = True
            choice.reasons.append(f"goal reached as far as can be seen (distance {situation.distance:.3f})")
        elif not last and situation.steps_on_goal >= s.patience_steps:
            choice.next_goal = True
            choice.reasons.append(
                f"sub-goal {situation.goal_index + 1} not reached in {s.patience_steps} steps: the next one may be nearer"
            )
        if s.mode == "both" and s.hesitation_steps:
            surprised = situation.surprise is not None and situation.surprise >= 1.0
            hesitant = situation.still_steps >= s.hesitation_steps
            if hesitant or surprised:
                why = "surprised" if surprised else f"still for {situation.still_steps} steps"
                choice.reasons.append(f"{why}, {situation.steps_to_go:.0f} steps to go: Mode 2")
            else:
                choice.mode = "policy"
        return choice
