"""`forearm collect`: record episodes in simulation."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from agent.choices import Mode
from agent.cli.runs import Run
from agent.settings import DrivenConfig, EnvConfig, Proportions


class Hands(Enum):
    scripted = "scripted"
    keyboard = "keyboard"
    agent = "agent"
    corrected = "corrected"
    guide = "guide"


@dataclass(kw_only=True)
class Config:
    """Record episodes in DROID's layout, with a simulated arm or a real one: what `forearm train` learns from."""

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
    corrected (it does, until the scripted hand takes over and finishes: only that is recorded, to teach Mode 1);
    guide (a real arm, by its own hand's buttons; nothing is sent to it).  A real arm takes keyboard and guide."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm and its scenes."""
    proportions: Proportions = field(default_factory=Proportions)
    """How much of what."""
    model: str = "forearm-panda"
    """The agent's model, for hand=agent and hand=corrected: a shipped one's name, or a folder."""
    mode: Mode = Mode.policy
    """How that agent decides: policy, planner or both."""


EXAMPLES = (
    "forearm collect episodes=200 to=datasets/play",
    "forearm collect env=pybullet episodes=50 workers=2 to=datasets/play_bullet",
    "forearm collect episodes=100 env.scene.shapes=[cube] env.scene.colours=[red,blue] seed=5000",
    "forearm collect hand=corrected episodes=500 model=forearm-panda to=datasets/corrections",
    "forearm collect hand=keyboard episodes=5 steps=200 to=datasets/mine",
    "forearm collect hand=guide env=franka env.host=172.16.0.2 episodes=5 steps=200 to=datasets/mine",
)
RESUMES = True


def run(config: Config, run: Run) -> int:
    from agent.collect import CollectSettings, Tally, collect, summary

    out = config.to or run.dir / "episodes"
    if config.env.engine == "franka" or config.hand is Hands.guide:
        return _with_a_real_arm(config, out, run)
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


def _with_a_real_arm(config: Config, out: Path, run: Run) -> int:
    from agent.arms import is_real
    from agent.real_hands import keys_of_this_terminal, record_by_keyboard, record_guided

    record = {Hands.guide: record_guided, Hands.keyboard: record_by_keyboard}.get(config.hand)
    if record is None or not is_real(config.env):
        raise ValueError(
            f"hand={config.hand.name} does not go with env={config.env.engine}: a real arm (env=franka) takes "
            "hand=guide and hand=keyboard, a simulated one all but guide; `forearm plan record=DIR` logs the agent"
        )
    with keys_of_this_terminal() as keys:
        kept = record(
            out, config.env, episodes=config.episodes, steps=config.steps, task="demonstration", read_key=keys,
            say=run.say,
        )  # fmt: skip
    run.say(f"log: {out}   look at it: forearm inspect data={out} episode=0")
    run.results |= {"log": str(out), "recorded": len(kept)}
    return 0 if kept else 1
