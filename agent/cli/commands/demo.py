"""`forearm demo`: goal-image pick-and-place with the shipped model."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cli.runs import Run
from agent.settings import SessionConfig


@dataclass(kw_only=True)
class Config(SessionConfig):
    """See it work: pick-and-place to ONE goal picture with the shipped model, on this machine, in two minutes."""

    final_only: bool = True
    """Of the task's own goals take the last one alone."""
    seed: int = 3
    """Seed of the scene and of the search."""


EXAMPLES = (
    "forearm demo",
    "forearm demo seed=5 env=pybullet",
    "forearm demo task=grasp final_only=false",
)


def run(config: Config, run: Run) -> int:
    from agent.cli.commands import plan

    return plan.run(plan.Config(**vars(config)), run)
