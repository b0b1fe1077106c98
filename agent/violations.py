"""Violation of expectation: episodes in which something impossible or unexpected happens, and what the agent felt.

The agent works on a task; from a step of the seed's choice on, as soon as it makes a difference, an event of
`envs.events` happens.  Nothing stops the agent, and what was wrong with its imagination is kept for every step: so
that limits of surprise can be set on ordinary episodes, and judged on others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.events import Unexpected
from envs.guarded import GuardedArm
from envs.tasks import TASKS

from .agent import Step
from .build import Mind, build_agent, unwatched
from .stats import auc, wilson
from .surprise import SurpriseScale
from .trials import BUDGET_STEPS, Cell, World, agent_task

Say = Callable[[str], None]
CALIBRATION_SEED = 60_000  # no training saw these scenes, and no table is made of them
WINDOW_STEPS = 6  # an event is to be noticed within so many steps
MOST_STEPS = 30  # of an ordinary episode
EARLIEST, LATEST = 2, 8  # the action that an event begins with, or the first one after it that matters
_WITH_A_THING = ("grasp", "pick_place", "reach_with_object")
_WITH_A_FREE_THING = ("reach", "grasp", "pick_place")
_TASKS_OF = {"through_table": _WITH_A_FREE_THING, "gravity_off": _WITH_A_FREE_THING, "arm_blocked": TASKS}


@dataclass(kw_only=True)
class Watched:
    """One episode; `errors` has a number for each perception after the first, by what surprise looks at."""

    event: str  # empty: an ordinary episode
    task: str
    seed: int
    begins: int  # the first of those numbers after the event; where an event would have been in an ordinary episode
    errors: dict[str, list[float]]

    def felt(self, scale: SurpriseScale) -> np.ndarray:
        """[T]: surprise, with these limits."""
        return np.max(list(scale.parts(self.arrays).values()), 0)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.array(values) for name, values in self.errors.items()}

    def window(self, felt: np.ndarray) -> np.ndarray:
        return felt[self.begins : self.begins + WINDOW_STEPS]


def watch(event: str, seed: int, world: World, mind: Mind, *, mode: str = "policy") -> Watched | None:
    """An agent at work on a task of `seed`, with an event or without; None when the event never came to matter."""
    rng = np.random.default_rng([seed, 4244])
    task = str(rng.choice(TASKS if not event else _TASKS_OF.get(event, _WITH_A_THING)))
    at_step = int(rng.integers(EARLIEST, LATEST + 1))
    cell = Cell(task=task, method=mode, goal="image")
    goal, _ = world.lay_out(cell, seed)
    driver: Any = Unexpected(world.driver, event or None, at_step=at_step, seed=seed, wait=True)
    agent = build_agent(_feeling(mind), GuardedArm(driver), unwatched(mode))
    budget = min(MOST_STEPS, BUDGET_STEPS[task])
    steps: list[Step] = []

    def see(step: Step) -> bool:
        steps.append(step)
        return driver.began_at is not None and len(steps) > driver.began_at + WINDOW_STEPS

    pursued = agent_task(cell, goal, budget + WINDOW_STEPS * bool(event))
    agent.pursue(pursued, seed=seed, on_step=see, stop_when_reached=False)
    if event and (driver.began_at is None or len(steps) <= driver.began_at + WINDOW_STEPS):
        return None
    felt = [step.surprise_errors for step in steps[1:]]
    return Watched(
        event=event, task=task, seed=seed, begins=at_step if driver.began_at is None else driver.began_at,
        errors={name: [errors[name] for errors in felt] for name in felt[0]},
    )  # fmt: skip


def _feeling(mind: Mind) -> Mind:
    """A mind that compares even where its folder says nothing of limits."""
    normalisation = {"surprise": asdict(SurpriseScale()), **mind.normalisation}
    return replace(mind, normalisation=normalisation)


def watch_many(
    event: str, count: int, mind: Mind, folder: Path, *, seed: int, mode: str = "policy", say: Say = print
) -> list[Watched]:
    """`count` episodes of a kind, those in the folder first; where the event never mattered, the next seed has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{event or 'ordinary'}.jsonl"
    known = {int(line["seed"]): line for line in _lines(file)}
    found: list[Watched] = []
    world = None
    while len(found) < count:
        if seed not in known:
            world = world or world_for(mind)
            watched = watch(event, seed, world, mind, mode=mode)
            known[seed] = {"seed": seed} if watched is None else asdict(watched)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(known[seed]) + "\n")
            say(f"{event or 'ordinary'} {seed}: {watched.task if watched else 'it never came to matter'}")
        if "errors" in known[seed]:
            found.append(Watched(**known[seed]))
        seed += 1
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    """What a run wrote; a last line that a kill tore is cut off."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def world_for(mind: Mind) -> World:
    conventions = mind.model.conventions
    cell = Cell(task="reach", method="policy")
    return World(cell, conventions.image_size, conventions.cameras, conventions.period_s)


def table(watched: Sequence[Watched], scale: SurpriseScale) -> tuple[dict[str, Any], list[str]]:
    """How well surprise tells each kind of event from ordinary episodes, how often it would stop those; in words."""
    felt = [w.felt(scale) for w in watched]
    pairs = list(zip(watched, felt, strict=True))
    ordinary = [f for w, f in pairs if not w.event]
    calm = [float(w.window(f).max(initial=0.0)) for w, f in pairs if not w.event]
    areas: dict[str, float] = {}
    stopped: dict[str, float] = {}
    words = [f"{'event':<16}{'AUC':>6}{'stopped':>10}{'after steps':>13}{'episodes':>10}"]
    for kind in sorted({w.event for w in watched} - {""}):
        windows = [w.window(f) for w, f in pairs if w.event == kind]
        areas[kind] = auc([float(f.max()) for f in windows], calm)
        noticed = [int(np.argmax(f > scale.strong)) + 1 for f in windows if f.max() > scale.strong]
        stopped[kind] = len(noticed) / len(windows)
        delay = f"{np.median(noticed):.0f}" if noticed else "-"
        words.append(f"{kind:<16}{areas[kind]:>6.3f}{stopped[kind]:>10.0%}{delay:>13}{len(windows):>10}")
    false_stops = sum(bool((f > scale.strong).any()) for f in ordinary)
    mild = float(np.mean(np.concatenate(ordinary) >= scale.mild))
    mean = float(np.mean(list(areas.values())))
    low, high = wilson(false_stops, len(ordinary))
    words += [
        f"{'mean':<16}{mean:>6.3f}",
        f"{false_stops} of {len(ordinary)} ordinary episodes would be stopped (95 %: {low:.1%} to {high:.1%}); "
        f"{mild:.2%} of their steps surprise a little",
    ]
    found = {
        "auc": areas, "auc_mean": mean, "stopped": stopped, "false_stops": false_stops, "ordinary": len(ordinary),
        "mild_share": mild, "limits": asdict(scale),
    }  # fmt: skip
    return found, words
