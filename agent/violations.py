"""Violation of expectation: episodes in which something impossible or unexpected happens, and what the agent felt.

The agent works on a task; from a step of the seed's choice on, as soon as it makes a difference, an event of
`envs.events` happens.  Nothing stops the agent, and what was wrong with its imagination is kept for every step: so
that limits of surprise can be set on ordinary episodes, and judged on others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.events import Unexpected
from envs.guarded import GuardedArm
from envs.tasks import TASKS
from planners.seeded import Seeded
from world_model.heads.usual import Usual

from .agent import Step
from .build import AgentSettings, Mind, build_agent
from .settings import ConfiguratorSettings
from .surprise import SurpriseScale
from .trials import BUDGET_STEPS, Cell, World, agent_task

FOLDS = 4
EACH = 0.997  # of ordinary steps lie within the limit of each part
LEAST_FINGERS = 0.1
MARGIN = 1.3  # between the most surprising ordinary step and a stop
WINDOW_STEPS = 6  # an event is to be noticed within so many steps
MOST_STEPS = 30  # of an ordinary episode
EARLIEST, LATEST = 2, 8  # the action that an event begins with, or the first one after it that matters
_WITH_A_THING = ("grasp", "pick_place", "reach_with_object")
_WITH_A_FREE_THING = ("reach", "grasp", "pick_place")
_TASKS_OF = {"through_table": _WITH_A_FREE_THING, "gravity_off": _WITH_A_FREE_THING, "arm_blocked": TASKS}


@dataclass(kw_only=True)
class Watched:
    """One episode, perception by perception; `begins` is the first one after the event (ordinary ones have it too)."""

    event: str  # empty: an ordinary episode
    task: str
    seed: int
    begins: int
    gaps: np.ndarray  # [T, N, D] latent seen less imagined; 0 at first
    errors: dict[str, np.ndarray]  # [T] each: all that surprise looks at but the latent, in its own units

    def felt(self, scale: SurpriseScale, usual: Usual | None) -> np.ndarray:
        """[T]: surprise with these limits."""
        gaps = torch.from_numpy(self.gaps)
        latent = gaps.square().mean((-1, -2)) if usual is None else usual(gaps)
        parts = {"latent": latent.numpy(), **self.errors}
        return np.max([parts[name] / limit for name, limit in scale.limits.items()], 0)

    def window(self, felt: np.ndarray) -> np.ndarray:
        return felt[self.begins : self.begins + WINDOW_STEPS]

    def save(self, file: Path) -> None:
        part = file.with_suffix(".part")
        arrays: dict[str, Any] = {f"error_{name}": values for name, values in self.errors.items()}
        about = {"event": self.event, "task": self.task, "seed": self.seed, "begins": self.begins}
        with part.open("wb") as stream:
            np.savez_compressed(stream, gaps=self.gaps.astype(np.float16), **about, **arrays)
        part.replace(file)

    @classmethod
    def load(cls, file: Path) -> Watched:
        with np.load(file) as found:
            return cls(
                event=str(found["event"]), task=str(found["task"]), seed=int(found["seed"]), begins=int(found["begins"]),
                gaps=found["gaps"].astype(np.float32),
                errors={k.removeprefix("error_"): found[k] for k in found.files if k.startswith("error_")},
            )  # fmt: skip


def world_for(mind: Mind) -> World:
    conventions = mind.model.conventions
    cell = Cell(task="reach", method="policy")
    return World(cell, conventions.image_size, conventions.cameras, conventions.period_s)


def watch(event: str, seed: int, world: World, mind: Mind, *, mode: str = "policy") -> Watched | None:
    """An agent at work on a task of `seed`, with an event or without; None when the event never came to matter."""
    surprise = {**asdict(SurpriseScale()), **mind.normalisation.get("surprise", {})}
    mind = replace(mind, normalisation={**mind.normalisation, "surprise": surprise})
    rng = np.random.default_rng([seed, 4244])
    task = str(rng.choice(TASKS if not event else _TASKS_OF.get(event, _WITH_A_THING)))
    at_step = int(rng.integers(EARLIEST, LATEST + 1))
    cell = Cell(task=task, method=mode, goal="image")
    goal, _ = world.lay_out(cell, seed)
    driver: Any = Unexpected(world.driver, event or None, at_step=at_step, seed=seed, wait=True)
    configurator = ConfiguratorSettings(mode=mode)
    planner = (
        Seeded(horizon=1) if mode == "policy" else Seeded()
    )  # Mode 1 needs not look farther than surprise does
    settings = AgentSettings(stop_on_surprise=False, configurator=configurator, planner=planner)
    agent = build_agent(mind, GuardedArm(driver), settings)
    budget = min(MOST_STEPS, BUDGET_STEPS[task])
    steps: list[Step] = []

    def see(step: Step) -> bool:
        steps.append(step)
        begun = driver.began_at
        return begun is not None and len(steps) >= begun + 1 + WINDOW_STEPS

    agent.pursue(
        agent_task(cell, goal, budget + WINDOW_STEPS * bool(event)), seed=seed, on_step=see, stop_when_reached=False
    )  # fmt: skip
    if event and (driver.began_at is None or len(steps) < driver.began_at + 1 + WINDOW_STEPS):
        return None
    limits = SurpriseScale(**surprise).limits
    gaps, errors = (
        [np.zeros_like(steps[0].percept.latent[0].numpy())],
        {k: [0.0] for k in limits if k != "latent"},
    )
    for before, step in itertools.pairwise(steps):
        assert before.decision is not None
        gaps.append((step.percept.latent - before.decision.plan.imagined.latents[:, 0, 0])[0].numpy())
        for name, values in errors.items():
            values.append(step.surprise_parts[name] * limits[name])
    begins = 1 + (at_step if driver.began_at is None else driver.began_at)
    return Watched(
        event=event, task=task, seed=seed, begins=begins, gaps=np.stack(gaps),
        errors={name: np.array(values) for name, values in errors.items()},
    )  # fmt: skip


def calibrate(ordinary: Sequence[Watched]) -> tuple[SurpriseScale, Usual]:
    """Limits under which 1 % of these steps count as surprising, and none comes near a stop."""
    if len(ordinary) < FOLDS:
        raise ValueError(
            f"{len(ordinary)} episodes do not tell what is ordinary; give at least {FOLDS}, better 100"
        )
    latent: list[np.ndarray] = [np.empty(0)] * len(ordinary)
    for fold in range(FOLDS):  # an error that was itself looked at to say what is usual would look too usual
        others = _usual([w for i, w in enumerate(ordinary) if i % FOLDS != fold])
        for i in range(fold, len(ordinary), FOLDS):
            latent[i] = others(torch.from_numpy(ordinary[i].gaps[1:])).numpy()
    parts = {"latent": np.concatenate(latent)}
    parts |= {
        name: np.concatenate([w.errors[name][1:] for w in ordinary]) for name in ("position", "fingers")
    }
    limits = {name: float(np.quantile(values, EACH)) for name, values in parts.items()}
    limits["fingers"] = max(limits["fingers"], LEAST_FINGERS)
    felt = np.max([parts[name] / limit for name, limit in limits.items()], 0)
    unit = float(np.quantile(felt, 0.99))
    scale = SurpriseScale(
        latent=unit * limits["latent"], position_m=unit * limits["position"], fingers=unit * limits["fingers"],
        strong=max(SurpriseScale().strong, MARGIN * float(felt.max()) / unit),
    )  # fmt: skip
    return scale, _usual(ordinary)


def _usual(watched: Iterable[Watched]) -> Usual:
    return Usual.measured(torch.from_numpy(np.concatenate([w.gaps[1:] for w in watched])))
