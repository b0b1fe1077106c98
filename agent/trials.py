"""One trial: a task in a scene of a seed, by a method, judged by the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from data.types import Observation
from envs import make_arm
from envs.arm import Arm, Refused
from envs.expert import ScriptedHand
from envs.scenes import SceneConfig
from envs.tasks import OBJECT, Judge, TaskGoal, begin, make_goal, script

from .agent import Outcome, Step
from .build import AgentSettings, Mind, build_agent
from .choices import Goals, Method
from .failures import Trace, classify
from .task import Goal, Task

METHODS = tuple(str(method) for method in Method)
GOALS = tuple(str(goals) for goals in Goals)
BUDGET_STEPS = {"reach": 24, "grasp": 30, "reach_with_object": 16, "pick_place": 55}
MOVED_M = 0.03


@dataclass(kw_only=True, slots=True)
class Cell:
    """One row of the table."""

    task: str
    method: str
    engine: str = "mujoco"
    split: str = "train"
    goal: str = "image"


@dataclass(kw_only=True, slots=True)
class Trial:
    """How one trial went."""

    cell: Cell
    seed: int
    success: bool
    distance_m: float
    steps: int
    failure: str | None
    said: str
    plan_ms: list[float] = field(default_factory=list)
    perceive_ms: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    distances_m: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class World:
    """A simulated arm with its truth, kept between trials."""

    def __init__(
        self,
        cell: Cell,
        image_size: int,
        cameras: tuple[str, ...],
        period_s: float,
        *,
        scene: SceneConfig | None = None,
    ) -> None:
        self.arm: Arm
        self.driver: Any
        self.arm, self.driver = make_arm(
            cell.engine,
            scene=scene,
            split=cell.split,
            cameras=cameras,
            width=image_size,
            height=image_size,
            period_s=period_s,
        )

    def lay_out(self, cell: Cell, seed: int) -> tuple[TaskGoal, Observation]:
        """Bring the arm to where the task starts, with its goal pictures taken."""
        begin(cell.task, self.arm, self.driver, seed=seed)
        goal = make_goal(cell.task, self.arm, self.driver, seed=seed)
        if cell.goal in ("final", "final_moved"):
            goal = goal.final_only()
        if cell.goal in ("moved", "final_moved"):
            angle = np.random.default_rng([seed, 79]).uniform(0, 2 * np.pi)
            self.driver.move_object(OBJECT, MOVED_M * np.array([np.cos(angle), np.sin(angle)]))
        return goal, self.arm.observe()


def run_trial(
    cell: Cell,
    seed: int,
    world: World,
    mind: Mind | None,
    settings: AgentSettings | None = None,
    *,
    on_step: Callable[[Step], None] | None = None,
    frames: list[np.ndarray] | None = None,
) -> Trial:
    """`frames` collects the first camera's pictures, for a video."""
    goal, observation = world.lay_out(cell, seed)
    judge, trace = Judge(goal, world.driver), Trace(goal=goal)
    budget = BUDGET_STEPS[cell.task]

    def watch(observation: Observation) -> bool:
        verdict = judge.see(observation)
        trace.add(observation, world.driver, verdict)
        if frames is not None:
            frames.append(np.concatenate(list(observation.frames.values()), 1))
        return verdict.success

    plan_ms: list[float] = []
    perceive_ms: list[float] = []
    energies: list[float] = []
    said = ""
    if cell.method in ("random", "hold", "scripted"):
        act = _hand(cell, world, seed)
        for _ in range(budget + 1):
            if watch(observation):
                break
            _act(world.arm, act(observation))
            observation = world.arm.observe()
    else:
        outcome = _pursue(cell, seed, world, mind, settings, goal, budget, watch, on_step)
        said = outcome.status
        plan_ms = [s.milliseconds["plan"] for s in outcome.steps if s.decision is not None]
        perceive_ms = [s.milliseconds["perceive"] for s in outcome.steps]
        energies = [float(s.decision.plan.energy[0]) for s in outcome.steps if s.decision is not None]
    success = trace.success
    return Trial(
        cell=cell,
        seed=seed,
        success=success,
        distance_m=trace.distances_m[-1],
        steps=len(trace.distances_m) - 1,
        failure=None if success else classify(cell.task, trace, judge.tolerance_m),
        said=said,
        plan_ms=plan_ms,
        perceive_ms=perceive_ms,
        energies=energies,
        distances_m=trace.distances_m,
    )


def agent_task(cell: Cell, goal: TaskGoal, budget: int) -> Task:
    poses = cell.goal == "image_pose" or cell.method == "blind"
    goals = [Goal(frames=v.frames, pose=v.pose if poses else None, name=v.name) for v in goal.views]
    return Task(goals=goals, budget_steps=budget, name=cell.task, use_poses=poses)


def _pursue(
    cell: Cell,
    seed: int,
    world: World,
    mind: Mind | None,
    settings: AgentSettings | None,
    goal: TaskGoal,
    budget: int,
    watch: Callable[[Observation], bool],
    on_step: Callable[[Step], None] | None,
) -> Outcome:
    if cell.method == "ceiling":
        from .ceiling import pursue_with_simulator

        return pursue_with_simulator(cell, seed, world, goal, budget, watch)
    if mind is None:
        raise ValueError(f"method {cell.method!r} needs a model; give model=NAME or a folder")
    settings = settings_for(cell.method, settings)
    agent = build_agent(mind, world.arm, settings)

    def see(step: Step) -> bool:
        if on_step is not None:
            on_step(step)
        return watch(step.percept.observation)

    return agent.pursue(agent_task(cell, goal, budget), seed=seed, on_step=see, stop_when_reached=False)


def settings_for(method: str, settings: AgentSettings | None) -> AgentSettings:
    """The settings of a method: `blind` is led by poses, since it sees nothing."""
    from dataclasses import replace

    settings = settings or AgentSettings(stop_on_surprise=False)
    if method == "blind":
        cost = replace(settings.cost, critic=0.0, distance=0.0, pose=1.0)
        return replace(
            settings,
            blind=True,
            cost=cost,
            configurator=replace(settings.configurator, mode="planner", patience_steps=8),
        )
    return replace(settings, configurator=replace(settings.configurator, mode=method))


def _hand(cell: Cell, world: World, seed: int) -> Callable[[Observation], np.ndarray]:
    if cell.method == "scripted":
        waypoints, _, _ = script(cell.task, world.driver, seed=seed)
        hand = ScriptedHand(waypoints)
        return lambda o: hand.act(o.pose, o.commanded, world.driver.object_poses())
    if cell.method == "hold":
        return lambda o: np.zeros(7)
    rng = np.random.default_rng([seed, 80])

    def act(observation: Observation) -> np.ndarray:
        action = np.zeros(7)
        action[:3] = rng.uniform(-0.06, 0.06, 3)
        if rng.uniform() < 0.2:
            action[6] = 1.0 if observation.commanded[6] < 0.5 else -1.0
        return action

    return act


def _act(arm: Arm, action: np.ndarray) -> None:
    try:
        arm.act(action)
    except Refused:
        arm.act(np.zeros(7))
