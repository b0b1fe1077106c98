"""What `plan` and `demo` share: an arm, a task's scene or goals from files, an agent, a run that leaves things to see."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.tasks import TaskGoal, begin, check_task, make_goal

from .agent import Agent
from .arms import EnvConfig, open_arm
from .build import AgentSettings, Mind, build_agent, load_mind, planner_from
from .configurator import ConfiguratorSettings
from .cost import CostSettings
from .goals import load_goals
from .play import Played, play
from .task import Goal, Task
from .trials import BUDGET_STEPS


@dataclass(kw_only=True)
class SessionConfig:
    """Everything that a run with an arm needs to know."""

    model: str = "forearm-panda"
    """A shipped model's name, or a folder."""
    task: str = "pick_place"
    """The scene to lay out, and the goals when none are given: reach, grasp, reach_with_object, pick_place."""
    goal: list[str] = field(default_factory=list)
    """Goals in order: PICTURE.png, a folder made by `forearm goal`, or episode:LOG@ROW; none: the task makes them."""
    final_only: bool = False
    """Of the task's own goals take the last one alone."""
    seed: int = 0
    """Seed of the scene and of the search."""
    budget_steps: int = 0
    """Most model steps; 0: what the task usually needs, twice."""
    portrait: bool = True
    """Film the scene with full meshes and shadows beside the cameras (simulation only)."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm and its scenes."""
    planner: dict[str, Any] = field(default_factory=dict)
    """How Mode 2 searches."""
    cost: CostSettings = field(default_factory=CostSettings)
    """Weights of the energies."""
    configurator: ConfiguratorSettings = field(default_factory=ConfiguratorSettings)
    """How the agent goes about a task."""


@dataclass(kw_only=True)
class Session:
    """An opened one."""

    mind: Mind
    arm: Any
    truth: Any
    agent: Agent
    task: Task
    judged: TaskGoal | None  # the task's own goal, for the judge


def open_session(config: SessionConfig) -> Session:
    """Load the model, open the arm, lay out the scene, take or read the goals."""
    check_task(config.task)
    mind = load_mind(config.model)
    arm, driver = open_arm(config.env)
    settings = AgentSettings(
        planner=planner_from(config.planner),
        cost=config.cost,
        configurator=config.configurator,
        keep_clouds=True,
    )
    agent = build_agent(mind, arm, settings)
    begin(config.task, arm, driver, seed=config.seed)
    judged: TaskGoal | None = None
    if config.goal:
        goals = load_goals(config.goal, mind.model.conventions)
    else:
        judged = make_goal(config.task, arm, driver, seed=config.seed)
        if config.final_only:
            judged = judged.final_only()
        goals = [Goal(frames=view.frames, name=view.name) for view in judged.views]
    task = Task(goals=goals, budget_steps=config.budget_steps or BUDGET_STEPS[config.task], name=config.task)
    return Session(mind=mind, arm=arm, truth=driver, agent=agent, task=task, judged=judged)


def play_session(session: Session, out: Path, *, seed: int, portrait: bool, say: Any) -> Played:
    return play(
        session.agent,
        session.task,
        out,
        goal=session.judged,
        truth=session.truth,
        seed=seed,
        say=say,
        portrait=portrait,
    )


def ending(played: Played) -> str:
    """How it ended, in words."""
    steps = len(played.outcome.steps) - 1
    if played.success:
        return f"success after {steps} steps: the object is {100 * (played.distance_m or 0):.1f} cm from where the picture shows it"
    if played.success is None:
        return f"{played.outcome.status} after {steps} steps, in the agent's own judgement"
    return (
        f"failure: {played.outcome.status} after {steps} steps, {100 * (played.distance_m or 0):.1f} cm from the goal; "
        "another seed= gives another scene"
    )
