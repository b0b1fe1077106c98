"""`forearm collect`: record episodes in simulation."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from agent.cli.runs import Run
from agent.settings import DrivenConfig, EnvConfig, Proportions


class Hands(Enum):
    scripted = "scripted"
    keyboard = "keyboard"
    agent = "agent"
    corrected = "corrected"


@dataclass(kw_only=True)
class Config:
    """Record episodes with a simulated arm, in DROID's layout: what `forearm train` learns from."""

    episodes: int = 200
    """Episodes to have in the end; those that `to` holds already are not recorded again."""
    to: Path | None = None
    """Folder of the log; none: episodes/ in the run's folder."""
    workers: int = 2
    """Processes; the episodes are the same whatever their number."""
    seed: int = 0
    """Seed of the first episode; the next ones follow."""
    steps: int = 40
    """Model steps in an episode; by keyboard the most there may be."""
    hand: Hands = Hands.scripted
    """Who moves the arm: scripted; keyboard (demonstrations of your own, in this terminal); agent (it works on tasks);
    corrected (it does, until the scripted hand takes over and finishes: only that is recorded, to teach Mode 1)."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm and its scenes."""
    proportions: Proportions = field(default_factory=Proportions)
    """How much of what."""
    model: str = "forearm-panda"
    """The agent's model, for hand=agent and hand=corrected: a shipped one's name, or a folder."""
    mode: str = "policy"
    """How that agent decides: policy, planner or both."""


EXAMPLES = (
    "forearm collect episodes=200 to=datasets/play",
    "forearm collect env=pybullet episodes=50 workers=2 to=datasets/play_bullet",
    "forearm collect episodes=100 env.scene.shapes=[cube] env.scene.colours=[red,blue] seed=5000",
    "forearm collect hand=corrected episodes=500 model=forearm-panda to=datasets/corrections",
    "forearm collect hand=keyboard episodes=5 steps=200 to=datasets/mine",
)
RESUMES = True


def run(config: Config, run: Run) -> int:
    from agent.collect import CollectSettings, Tally, collect, summary

    out = config.to or run.dir / "episodes"
    driven = None
    if config.hand in (Hands.agent, Hands.corrected):
        driven = DrivenConfig(model=config.model, mode=config.mode, correct=config.hand is Hands.corrected)
    settings = CollectSettings(
        steps=config.steps, env=config.env, proportions=config.proportions, driven=driven
    )
    started = last = time.monotonic()

    def progress(done: int, wanted: int, tallies: list[Tally]) -> None:
        nonlocal last
        if time.monotonic() - last > 5 or done == wanted:
            last = time.monotonic()
            rate = len(tallies) / (last - started)
            run.say(f"{done}/{wanted} episodes  {rate:.1f}/s  ETA {(wanted - done) / max(rate, 1e-9):.0f} s")

    if config.hand is Hands.keyboard:
        from agent.by_hand import collect_by_hand

        tallies = collect_by_hand(out, episodes=config.episodes, seed=config.seed, settings=settings)
    else:
        tallies = collect(
            out,
            episodes=config.episodes,
            workers=config.workers,
            seed=config.seed,
            settings=settings,
            progress=progress,
        )
    run.say(summary(tallies, time.monotonic() - started))
    run.say(f"log: {out}   look at it: forearm inspect data={out} episode=0")
    kinds = {t.kind for t in tallies}
    run.results |= {
        "log": str(out),
        "recorded": len(tallies),
        "kinds": {kind: sum(t.kind == kind for t in tallies) for kind in sorted(kinds)},
        "contact": sum(t.contact for t in tallies),
        "lifted": sum(t.lifted for t in tallies),
        "placed": sum(t.placed for t in tallies),
    }
    return 0
