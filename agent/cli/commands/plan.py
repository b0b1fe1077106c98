"""`forearm plan`: drive an arm to a goal picture."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cli.runs import Run
from agent.settings import SessionConfig


@dataclass(kw_only=True)
class Config(SessionConfig):
    """Drive an arm to what a picture shows, by planning in imagination."""


EXAMPLES = (
    "forearm plan task=grasp seed=3",
    "forearm plan goal=episode:datasets/play@39 task=pick_place",
    "forearm plan task=reach env=pybullet planner=fast",
    "forearm plan goal=goals/placed env=franka env.host=172.16.0.2",
)


def run(config: Config, run: Run) -> int:
    from agent.seeing.viewer import how_to_open
    from agent.session import ending, figures_of, open_session, play_session, report_lines, succeeded

    session = open_session(config, say=run.say)
    where = f"on {config.env.host}" if config.env.host else f"scene {config.seed}"
    run.say(f"{config.task} in {config.env.engine}, {where}, model {config.model}")
    try:
        played = play_session(session, config, run.dir, say=run.say)
    finally:
        session.close()
    run.say(ending(played))
    for line in report_lines(played.arm):
        run.say(line)
    for name, path in played.files.items():
        how = f"   open it: {how_to_open(path)}" if name == "recording" else ""
        run.say(f"{name:<10}{path}{how}")
    run.results |= figures_of(played)
    return 0 if succeeded(played) else 1
