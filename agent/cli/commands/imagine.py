"""`forearm imagine`: imagined against real."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.cli.runs import Run


@dataclass(kw_only=True)
class Config:
    """Look at what the model imagines beside what really came: roll-outs, energy landscapes, the axis check."""

    data: Path
    """A log, in any format that Forearm reads."""
    model: str = "forearm-panda"
    """A shipped model's name, or a folder."""
    episodes: int = 12
    """Episodes to look at."""
    horizon: int = 8
    """Steps imagined ahead, 1 to 16."""
    start: int = -1
    """Step of the first episode that pictures begin at; -1: where most moves."""


EXAMPLES = (
    "forearm imagine data=datasets/play",
    "forearm imagine data=datasets/play horizon=16 episodes=30",
    "forearm imagine data=my_logs model=outputs/train/my_robot/model",
)


def run(config: Config, run: Run) -> int:
    from agent.imagine_report import report_imagination

    if not 1 <= config.horizon <= 16:
        raise ValueError(f"horizon is {config.horizon}; it goes from 1 to 16")
    figures, words, page = report_imagination(
        config.data,
        config.model,
        run.dir,
        episodes=config.episodes,
        horizon=config.horizon,
        start=config.start,
    )
    for line in words:
        run.say(line)
    run.say(f"report   {page}")
    run.results |= figures
    return 0
