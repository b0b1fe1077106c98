"""`forearm plan`: drive an arm to a goal picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.cli.runs import Run
from agent.session import SessionConfig


@dataclass(kw_only=True)
class Config(SessionConfig):
    """Drive an arm to what a picture shows, by planning in imagination."""


EXAMPLES = (
    "forearm plan task=grasp seed=3",
    "forearm plan goal=episode:datasets/play@39 task=pick_place",
    "forearm plan task=reach env=pybullet planner=fast",
)


def run(config: Config, run: Run) -> int:
    from agent.session import ending, open_session, play_session

    session = open_session(config)
    run.say(f"{config.task} in {config.env.engine}, scene {config.seed}, model {config.model}")
    played = play_session(session, run.dir, seed=config.seed, portrait=config.portrait, say=run.say)
    run.say(ending(played))
    for name, path in played.files.items():
        run.say(f"{name:<9}{path}")
    run.results |= {
        "success": played.success,
        "status": played.outcome.status,
        "steps": len(played.outcome.steps) - 1,
        "distance_m": played.distance_m,
        "plan_ms_median": float(np.median(played.plan_ms)) if played.plan_ms else None,
        "seconds": played.seconds,
    }
    session.arm.close()
    return 0 if played.success is not False else 1
