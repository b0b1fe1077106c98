"""What `plan` and `demo` share: an arm, a task's scene or goals from files, an agent, a run that leaves things to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.tasks import TaskGoal, begin, check_task, make_goal

from .agent import Agent
from .arms import begin_real, check_agrees, is_real, open_arm
from .build import AgentSettings, Mind, build_agent, load_mind, planner_from
from .calibrate import CalibratedArm, Calibration
from .goals import load_goals
from .play import Played, play
from .recording_arm import RecordingArm
from .seen_places import with_places
from .settings import SessionConfig, View
from .task import Goal, Task
from .trials import BUDGET_STEPS


@dataclass(kw_only=True)
class Session:
    """An opened one."""

    mind: Mind
    arm: Any
    driver: Any
    agent: Agent
    task: Task
    judged: TaskGoal | None  # the task's own goal, for the judge
    recorder: RecordingArm | None = None

    @property
    def truth(self) -> Any:
        """The driver where it is a simulator's; a real arm's knows nothing about objects."""
        return self.driver if hasattr(self.driver, "object_poses") else None

    def close(self) -> None:
        """Let go of the arm; an episode that was not completed is thrown away."""
        self.arm.close()
        if self.recorder is not None:
            self.recorder.abandon()


def open_session(
    config: SessionConfig, *, say: Callable[[str], None] = print, cameras: Any = None
) -> Session:
    """Load the model, open the arm, lay out the scene, take or read the goals.

    `cameras`: those of a real arm, opened already.
    """
    check_task(config.task)
    real = is_real(config.env)
    if real and not config.goal:
        raise ValueError(
            "a real arm's goals are pictures: goal=... (make one: forearm goal env=franka env.host=...)"
        )
    mind = load_mind(config.model)
    check_agrees(config.env, mind.model.conventions)
    goals = load_goals(config.goal, mind.model.conventions) if config.goal else []
    arm, driver = open_arm(config.env, say=say, cameras=cameras)
    try:
        return _open(config, mind, goals, arm, driver, real)
    except BaseException:
        arm.close()
        raise


def _open(config: SessionConfig, mind: Mind, goals: list[Goal], arm: Any, driver: Any, real: bool) -> Session:
    settings = AgentSettings(
        planner=planner_from(config.planner),
        cost=config.cost,
        configurator=config.configurator,
        keep_clouds=True,
        stop_on_surprise=not (real and config.env.dry_run),  # nothing moves, which is no surprise
    )
    recorder, used = None, arm
    if config.record:
        recorder = used = RecordingArm(
            arm, Path(config.record), task=config.task, lab="LAB" if real else "SIM", robot=config.env.engine
        )
    if config.calibration:
        calibration = Calibration.load(Path(config.calibration))
        used, mind = CalibratedArm(used, calibration), with_places(mind, calibration.places)
    agent = build_agent(mind, used, settings)
    judged: TaskGoal | None = None
    if real:
        begin_real(arm, config.env)
    else:
        begin(config.task, arm, driver, seed=config.seed)
        if not goals:
            judged = make_goal(config.task, arm, driver, seed=config.seed)
            if config.final_only:
                judged = judged.final_only()
            goals = [Goal(frames=view.frames, name=view.name) for view in judged.views]
    task = Task(goals=goals, budget_steps=config.budget_steps or BUDGET_STEPS[config.task], name=config.task)
    return Session(
        mind=mind, arm=arm, driver=driver, agent=agent, task=task, judged=judged, recorder=recorder
    )


def play_session(session: Session, config: SessionConfig, out: Path, *, say: Any) -> Played:
    """Play it, with a Rerun recording, a video and a page left in `out`."""
    from .seeing.run_recording import RunRecording
    from .seeing.run_report import write_run_report

    recording = RunRecording(
        out / "recording.rrd",
        session.task,
        session.arm.limits,
        mind=session.mind,
        truth=session.truth,
        cameras=tuple(session.mind.model.conventions.cameras),
        brief=session.agent.configurator.brief(session.task),
        live=config.view_address if config.view is View.live else None,
    )
    painted = True
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
    except KeyboardInterrupt:  # two seconds are left
        painted = False
        raise
    finally:
        recording.close(pictures=painted)
    played.files["recording"] = recording.path
    report = getattr(session.driver, "report", None)
    if report is not None:
        played.arm = report()
    if session.recorder is not None:
        episode = session.recorder.finish(success=succeeded(played), about={"ending": played.outcome.status})
        if episode is not None:
            played.files["episode"] = episode
    facts = {
        "task": config.task,
        "seed": config.seed,
        "engine": config.env.engine,
        "model": config.model,
        **figures_of(played),
    }
    played.files["report"] = write_run_report(
        played, out, title=f"forearm: {config.task}", ending=ending(played), facts=facts, configuration=config,
        mind=session.mind,
    )  # fmt: skip
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
        **({"arm": played.arm} if played.arm else {}),
    }


def report_lines(arm: dict[str, Any]) -> list[str]:
    """What a real arm's report says, for people."""
    if not arm:
        return []
    control = arm["control"]
    lines = [
        f"control  {control.get('turns', 0)} turns of {control.get('period_ms', 0):.0f} ms: median {control['median_ms']:.1f}, "
        f"99 % {control['p99_ms']:.1f}, worst {control['worst_ms']:.1f} ms; {control['misses']} deadlines missed"
        if control.get("turns")
        else "control  nothing was sent to the arm"
    ]
    lines.append(
        f"holds    {arm['watchdog_holds']} by the watchdog; {arm['late_plans_dropped']} late plans dropped"
    )
    for name, camera in arm["cameras"].items():
        faults = ", ".join(f"{kind} {count}" for kind, count in camera["faults"].items()) or "no faults"
        lines.append(f"camera   {name}: {camera['rate_hz']:.0f} pictures a second, {faults}")
    return lines


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
