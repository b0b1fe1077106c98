"""What `plan` and `demo` share: an arm, a task's scene or goals from files, an agent, a run that leaves things to see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.tasks import TaskGoal, begin, check_task, make_goal

from .agent import Agent
from .arms import open_arm
from .build import AgentSettings, Mind, build_agent, load_mind, planner_from
from .goals import load_goals
from .play import Played, play
from .settings import SessionConfig
from .task import Goal, Task
from .trials import BUDGET_STEPS


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


def play_session(session: Session, config: SessionConfig, out: Path, *, say: Any) -> Played:
    """Play it, with a Rerun recording, a video and a page left in `out`."""
    from .seeing.run_recording import RunRecording
    from .seeing.run_report import write_run_report

    recording = RunRecording(
        out / "recording.rrd",
        session.task,
        session.arm.limits,
        truth=session.truth,
        decoder=session.mind.heads.get("decoder"),
        cameras=tuple(session.mind.model.conventions.cameras),
        live=config.view == "live",
    )
    try:
        played = play(
            session.agent,
            session.task,
            out,
            goal=session.judged,
            truth=session.truth,
            seed=config.seed,
            say=say,
            portrait=config.portrait,
            watchers=(recording,),
        )
    finally:
        recording.close()
    played.files["recording"] = recording.path
    facts = {
        "task": config.task,
        "seed": config.seed,
        "engine": config.env.engine,
        "model": config.model,
        **figures_of(played),
    }
    played.files["report"] = write_run_report(
        played, out, title=f"forearm: {config.task}", ending=ending(played), facts=facts
    )
    return played


def figures_of(played: Played) -> dict[str, Any]:
    """What results.json keeps of a run."""
    return {
        "success": played.success,
        "ending": played.outcome.status,  # not "status", which results.json keeps for the command's own
        "steps": len(played.outcome.steps) - 1,
        "distance_m": played.distance_m,
        "plan_ms_median": float(np.median(played.plan_ms)) if played.plan_ms else None,
        "seconds": played.seconds,
    }


def succeeded(played: Played) -> bool:
    """By the truth where a simulator judges, otherwise in the agent's own judgement."""
    return played.outcome.reached if played.success is None else played.success


def ending(played: Played) -> str:
    """How it ended, in words."""
    steps = len(played.outcome.steps) - 1
    if played.success:
        return f"success after {steps} steps, {100 * (played.distance_m or 0):.1f} cm from the goal"
    if played.success is None:
        return f"{played.outcome.status} after {steps} steps, in the agent's own judgement"
    status = "taken for reached" if played.outcome.reached else played.outcome.status
    return (
        f"failure: {status} after {steps} steps, {100 * (played.distance_m or 0):.1f} cm from the goal; "
        "another seed= gives another scene"
    )
