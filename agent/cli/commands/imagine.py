"""`forearm imagine`: imagined against real."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.cli.runs import Run
from agent.settings import EnvConfig


@dataclass(kw_only=True)
class Config:
    """Look at what the model imagines beside what really came: roll-outs, energy landscapes, the axis check."""

    data: Path | None = None
    """A log, in any format that Forearm reads; none: episodes are played in the simulator of env= first."""
    model: str = "forearm-panda"
    """A shipped model's name, or a folder."""
    episodes: int = 12
    """Episodes to look at."""
    horizon: int = 8
    """Steps imagined ahead, 1 to 16."""
    start: int = -1
    """Step of the first episode that pictures begin at; -1: where most moves."""
    seed: int = 15000
    """Seed of the first episode that is played; training uses none from 10000 to 99999."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm and its scenes, where no log is given."""
    probes: Path | None = None
    """A log of many other scenes, on which the probes of hand and things are fitted; none: half of the episodes."""
    caches: Path = Path("outputs/caches")
    """Where that log is kept decoded."""


EXAMPLES = (
    "forearm imagine data=datasets/play",
    "forearm imagine env=pybullet horizon=16 episodes=6",
    "forearm imagine episodes=100 probes=datasets/panda",
    "forearm imagine data=my_logs model=outputs/train/my_robot/model",
)


def run(config: Config, run: Run) -> int:
    if not 1 <= config.horizon <= 16:
        raise ValueError(f"horizon is {config.horizon}; it goes from 1 to 16")
    from agent.imagine_report import report_imagination
    from agent.seeing.viewer import how_to_open

    data = config.data or _play(config, run)
    scenes = _scenes(config, run) if config.probes else None
    looked = report_imagination(
        data, config.model, run.dir, episodes=config.episodes, horizon=config.horizon, start=config.start,
        probes=scenes, configuration=config,
    )  # fmt: skip
    for line in looked.words:
        run.say(line)
    for name, path in looked.files.items():
        how = f"   open it: {how_to_open(path)}" if name == "recording" else ""
        run.say(f"{name:<10}{path}{how}")
    run.results |= looked.figures
    return 0


def _scenes(config: Config, run: Run) -> Any:
    from agent.learn import open_sources
    from world_model.checkpoint import describe

    assert config.probes is not None
    conventions = describe(config.model).conventions
    return open_sources([config.probes], conventions, folder=config.caches, say=run.say)[0].cache


def _play(config: Config, run: Run) -> Path:
    """Episodes of the scripted hand in the simulator, as a log."""
    from agent.collect import CollectSettings, collect

    folder = run.dir / "episodes"
    run.say(f"playing {config.episodes} episodes in {config.env.engine} into {folder}")
    collect(
        folder,
        episodes=config.episodes,
        workers=1,
        seed=config.seed,
        settings=CollectSettings(env=config.env),
    )
    return folder
