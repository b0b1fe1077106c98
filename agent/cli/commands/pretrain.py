"""`forearm pretrain`: learn to see from video alone."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cli.learning import LearningConfig, learn
from agent.cli.runs import Run


@dataclass(kw_only=True)
class Config(LearningConfig):
    """Train an encoder by masked prediction on the videos of logs; actions are not looked at."""

    resume: str = ""
    """Run folder to go on with, or `last`."""


EXAMPLES = (
    "forearm pretrain data=datasets/panda",
    "forearm pretrain data=[my_logs,datasets/panda] weights=[3,1] recipe=ijepa",
    "forearm pretrain data=datasets/panda model=vit_small view=exterior recipe.steps=20000",
)


def run(config: Config, run: Run) -> int:
    return learn(config, run, heads=[], head_steps={})
