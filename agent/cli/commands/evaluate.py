"""`forearm evaluate`: the table of success rates."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from agent.choices import Goals, Method, Simulator, Split, TaskName
from agent.cli.runs import Run
from agent.settings import ConfiguratorSettings, CostSettings
from envs.scenes import SceneConfig


@dataclass(kw_only=True)
class Config:
    """Measure success: tasks x engines x methods x goals x splits, with baselines and 95 % intervals."""

    tasks: list[TaskName] = field(default_factory=lambda: list(TaskName))
    """reach, grasp, reach_with_object, pick_place."""
    engines: list[Simulator] = field(default_factory=lambda: [Simulator.mujoco])
    """mujoco, pybullet."""
    methods: list[Method] = field(default_factory=lambda: [m for m in Method if m is not Method.ceiling])
    """random, hold, scripted, blind (sees nothing, knows the goal's pose), policy (Mode 1), planner (Mode 2), both,
    ceiling (the true simulator as world model)."""
    goals: list[Goals] = field(default_factory=lambda: [Goals.image])
    """image (all sub-goal pictures), final (the last one alone), image_pose (with their poses), moved and final_moved
    (the object was moved 3 cm after the pictures were taken)."""
    splits: list[Split] = field(default_factory=lambda: [Split.train])
    """train, held_out (shapes, colours, camera angles that no training saw)."""
    episodes: int = 20
    """Trials in each cell."""
    seed: int = 10000
    """Seed of the first trial; training uses none from 10000 to 99999."""
    model: str = "forearm-panda"
    """A shipped model's name, or a folder."""
    workers: int = 2
    """Processes.  Planning times are honest with 1."""
    films: bool = True
    """Film the first failure of each kind."""
    planner: dict[str, Any] = field(default_factory=dict)
    """How Mode 2 searches."""
    cost: CostSettings = field(default_factory=CostSettings)
    """Weights of the energies."""
    configurator: ConfiguratorSettings = field(default_factory=ConfiguratorSettings)
    """How the agent goes about a task."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    """What varies from scene to scene."""


EXAMPLES = (
    "forearm evaluate tasks=[reach,grasp] methods=[random,both] episodes=20",
    "forearm evaluate tasks=[pick_place] goals=[image,final] episodes=50 planner=seeded",
    "forearm evaluate resume=last",
)
RESUMES = True


def run(config: Config, run: Run) -> int:
    from agent.build import AgentSettings, planner_from
    from agent.evaluate import EvaluateSettings, as_text, comparisons, evaluate, table
    from agent.evaluate_report import write_evaluation
    from agent.trials import Trial

    settings = EvaluateSettings(
        tasks=[*map(str, config.tasks)], engines=[*map(str, config.engines)], methods=[*map(str, config.methods)],
        goals=[*map(str, config.goals)], splits=[*map(str, config.splits)],
        episodes=config.episodes, seed=config.seed, model=config.model, workers=config.workers, scene=config.scene,
        agent=AgentSettings(
            planner=planner_from(config.planner), cost=config.cost, configurator=config.configurator, stop_on_surprise=False
        ),
    )  # fmt: skip
    started = last = time.monotonic()

    def progress(done: int, total: int, trial: Trial) -> None:
        nonlocal last
        if time.monotonic() - last > 5 or done == total:
            last = time.monotonic()
            run.say(f"{done}/{total} trials  {last - started:.0f} s")

    trials = evaluate(settings, run.dir, progress=progress)
    rows = table(trials, model=config.model, seed=config.seed)
    run.say(as_text(rows))
    tests = comparisons(trials)
    for test in tests:
        run.say(
            f"{test['task']} ({test['goal']}): both alone won {test['only_both']}, {test['against']} alone "
            f"{test['only_other']} of {test['episodes']}; McNemar p = {test['p']:.3g}"
        )
    run.results |= {"rows": rows, "comparisons": tests}
    run.say(f"report   {write_evaluation(trials, rows, tests, settings, run.dir, films=config.films)}")
    return 0
