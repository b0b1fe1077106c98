"""`forearm demo`: goal-image pick-and-place with the shipped model."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cli.runs import Run
from agent.settings import SessionConfig


@dataclass(kw_only=True)
class Config(SessionConfig):
    """See it work: goal-image pick-and-place with the shipped model, on this machine, in two minutes."""


EXAMPLES = (
    "forearm demo",
    "forearm demo seed=3 env=pybullet",
    "forearm demo task=grasp final_only=true",
)


def run(config: Config, run: Run) -> int:
    from agent.cli.commands import plan

    return plan.run(plan.Config(**vars(config)), run)
