"""Let an agent work on a task and show it: a line a step, a video beside the goal, the pictures of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.video import write_video
from envs.tasks import Judge, TaskGoal

from .agent import Agent, Outcome, Step
from .task import Task


@dataclass(kw_only=True)
class Played:
    """What came of it."""

    outcome: Outcome
    success: bool | None  # by the truth, where a simulator knows it
    distance_m: float | None
    seconds: float
    plan_ms: list[float] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    brief: list[str] = field(default_factory=list)  # what was decided before the first step
    arm: dict[str, Any] = field(default_factory=dict)  # what a real arm reports: punctuality, holds, faults


def play(
    agent: Agent,
    task: Task,
    out: Path,
    *,
    goal: TaskGoal | None = None,
    truth: Any = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
    watchers: tuple[Callable[[Step], None], ...] = (),
    portrait: bool = True,
) -> Played:
    """Run `task`; with `goal` and `truth` the simulator's judge looks on and the work ends with success."""
    brief = agent.configurator.brief(task)
    for line in brief:
        say(f"  {line}")
    judge = Judge(goal, truth) if goal is not None and truth is not None else None
    pictures: list[np.ndarray] = []
    state: dict[str, Any] = {"success": None if judge is None else False, "distance": None}
    started = time.perf_counter()

    def see(step: Step) -> bool:
        if judge is not None:
            verdict = judge.see(step.percept.observation)
            state["distance"] = verdict.distance_m
            state["success"] = state["success"] or verdict.success
        say(describe(step, task, state["distance"]))
        pictures.append(_picture(step, task, truth if portrait else None))
        for watch in watchers:
            watch(step)
        return bool(state["success"])

    video = out / "video.mp4"
    try:
        outcome = agent.pursue(task, seed=seed, on_step=see, stop_when_reached=judge is None)
    finally:  # also of a run that was stopped, as far as it went
        if pictures:
            write_video(video, np.stack(pictures), fps=1.0 / agent.arm.period_s)
    return Played(
        outcome=outcome,
        success=state["success"],
        distance_m=state["distance"],
        seconds=time.perf_counter() - started,
        plan_ms=[s.milliseconds["plan"] for s in outcome.steps if s.decision is not None],
        files={"video": video},
        brief=brief,
    )


def describe(step: Step, task: Task, distance_m: float | None) -> str:
    """One line for people."""
    name = task.goals[step.goal_index].name
    words = [f"step {step.index:>3}", f"goal {step.goal_index + 1}/{len(task.goals)} {name:<8}"]
    words.append(f"{step.steps_to_go:4.1f} steps to go")
    if step.decision is not None:
        terms = " + ".join(
            f"{k} {float(v[0]):.2f}" for k, v in step.decision.plan.terms.items() if float(v[0].abs()) > 5e-3
        )
        words.append(f"energy {float(step.decision.plan.energy[0]):5.2f} = {terms or '0'}")
        words.append(
            "planned"
            if step.decision.improved
            else "as proposed"
            if step.decision.mode == "planner"
            else "reacted"
        )
        grip = "close" if float(step.decision.action[6]) > 0.5 else "open"
        words.append(f"gripper {grip}")
        words.append(f"{step.milliseconds['perceive'] + step.milliseconds['plan']:4.0f} ms")
    if step.surprise is not None:
        words.append(f"surprise {step.surprise:.1f}")
    if distance_m is not None:
        words.append(f"{distance_m * 100:.1f} cm")
    line = "  ".join(words)
    for reason in [*step.choice.reasons, *step.notes]:
        line += f"\n          {reason}"
    return line


def _picture(step: Step, task: Task, truth: Any, height: int = 384) -> np.ndarray:
    """Portrait, cameras and goal side by side."""
    goal = task.goals[step.goal_index].frames
    seen = step.percept.observation.frames
    columns = [
        np.concatenate([_grow(seen[name], height // 2), _grow(goal[name], height // 2)], 1) for name in goal
    ]
    views = np.concatenate(columns[:2], 0)
    if views.shape[0] < height:
        views = np.pad(views, ((0, height - views.shape[0]), (0, 0), (0, 0)))
    if truth is None:
        return views
    return np.concatenate([truth.portrait(512, height), views], 1)


def _grow(frame: np.ndarray, size: int) -> np.ndarray:
    """The whole picture at another size, its pixels left hard."""
    rows, columns = (np.arange(size) * length // size for length in frame.shape[:2])
    return frame[rows][:, columns]
