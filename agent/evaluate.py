"""Success tables: tasks x engines x methods x goals x splits, in processes, resumable, with honest baselines."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.workers import deaf_to_interrupts
from envs import ENGINES
from envs.scenes import SceneConfig
from envs.tasks import TASKS

from .build import AgentSettings, load_mind
from .stats import mcnemar, wilson
from .trials import GOALS, METHODS, Cell, Trial, World, run_trial

NEEDS_MODEL = ("blind", "policy", "planner", "both")
SPLITS = ("train", "held_out")


@dataclass(kw_only=True)
class EvaluateSettings:
    """The grid, and who is judged."""

    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    engines: list[str] = field(default_factory=lambda: ["mujoco"])
    methods: list[str] = field(
        default_factory=lambda: ["random", "hold", "scripted", "blind", "policy", "planner", "both"]
    )
    goals: list[str] = field(default_factory=lambda: ["image"])
    splits: list[str] = field(default_factory=lambda: ["train"])
    episodes: int = 20
    seed: int = 10000
    model: str = "forearm-panda"
    workers: int = 2
    scene: SceneConfig = field(default_factory=SceneConfig)
    agent: AgentSettings = field(default_factory=lambda: AgentSettings(stop_on_surprise=False))


def cells_of(settings: EvaluateSettings) -> list[Cell]:
    """The grid as cells; a goal that makes no sense for a task (nothing to move in reach) is left out."""
    for name, chosen, known in (
        ("task", settings.tasks, TASKS),
        ("method", settings.methods, METHODS),
        ("goal", settings.goals, GOALS),
        ("engine", settings.engines, ENGINES),
        ("split", settings.splits, SPLITS),
    ):
        for value in chosen:
            if value not in known:
                raise ValueError(f"no {name} {value!r}; there are {', '.join(known)}")
    grid = itertools.product(
        settings.tasks, settings.engines, settings.splits, settings.goals, settings.methods
    )
    cells = []
    for task, engine, split, goal, method in grid:
        several = task in ("grasp", "pick_place")
        sensible = [g for g in settings.goals if several or g in ("image", "image_pose")]
        if goal not in sensible:
            continue
        if method in ("random", "hold", "scripted") and goal != sensible[0]:
            continue  # these look at no picture
        cells.append(Cell(task=task, method=method, engine=engine, split=split, goal=goal))
    if not cells:
        raise ValueError(
            f"nothing to do: tasks {settings.tasks} with goals {settings.goals} and methods {settings.methods}; "
            "final, moved and final_moved are for grasp and pick_place, the others take image or image_pose"
        )
    return cells


def evaluate(
    settings: EvaluateSettings, out: Path, *, progress: Callable[[int, int, Trial], None] | None = None
) -> list[dict[str, Any]]:
    """Run what is missing from `out/trials.jsonl` and return all trials as dictionaries."""
    out.mkdir(parents=True, exist_ok=True)
    cells = cells_of(settings)
    done = {key_of(row["cell"], row["seed"]): row for row in read_trials(out)}
    others = {row["model"] for row in done.values() if row.get("model")} - {settings.model}
    if others:
        raise ValueError(
            f"{out} holds trials of model {others.pop()!r}, this is {settings.model!r}: one table is about one model; "
            "choose another out="
        )
    jobs = [
        (cell, seed)
        for cell in cells
        for seed in range(settings.seed, settings.seed + settings.episodes)
        if key_of(asdict(cell), seed) not in done
    ]
    total = len(cells) * settings.episodes
    with (out / "trials.jsonl").open("a") as log:
        for trial in _run_all(jobs, settings):
            model = settings.model if trial.cell.method in NEEDS_MODEL else None
            log.write(json.dumps({**trial.to_json(), "model": model}) + "\n")
            log.flush()
            if progress is not None:
                done[key_of(asdict(trial.cell), trial.seed)] = {}
                progress(len(done), total, trial)
    found = {key_of(row["cell"], row["seed"]): row for row in read_trials(out)}
    return [
        found[key_of(asdict(cell), seed)]  # in the grid's order, whoever finished first
        for cell in cells
        for seed in range(settings.seed, settings.seed + settings.episodes)
    ]


def key_of(cell: dict[str, Any], seed: int) -> str:
    return "/".join(str(cell[k]) for k in ("task", "engine", "split", "goal", "method")) + f"#{seed}"


def read_trials(out: Path) -> list[dict[str, Any]]:
    """The trials of a folder; a last line that a kill tore is left out."""
    file = out / "trials.jsonl"
    if not file.exists():
        return []
    whole = file.read_text()
    kept = whole[: whole.rfind("\n") + 1]
    if kept != whole:
        file.write_text(kept)
    rows = []
    for line in kept.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # what a full disk left; that trial is run again
    return rows


def _run_all(jobs: list[tuple[Cell, int]], settings: EvaluateSettings) -> Iterator[Trial]:
    if settings.workers <= 1:
        for cell, seed in jobs:
            yield _one(cell, seed, settings)
        return
    context = multiprocessing.get_context("spawn")
    with deaf_to_interrupts():
        started = context.Pool(settings.workers, initializer=_quiet)
    with started as pool:
        yield from pool.imap_unordered(_job, ((cell, seed, settings) for cell, seed in jobs), chunksize=2)


def _quiet() -> None:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    import torch

    torch.set_num_threads(1)


def _job(job: tuple[Cell, int, EvaluateSettings]) -> Trial:
    return _one(*job)


_kept: dict[str, Any] = {}  # one per process: worlds and models are slow to build


def _one(cell: Cell, seed: int, settings: EvaluateSettings) -> Trial:
    mind = None
    if cell.method in NEEDS_MODEL:
        mind = _kept.setdefault(f"mind {settings.model}", None) or load_mind(settings.model)
        _kept[f"mind {settings.model}"] = mind
    conventions = mind.model.conventions if mind else None
    size = conventions.image_size if conventions else 64
    cameras = tuple(conventions.cameras) if conventions else ()
    name = f"world {cell.engine} {cell.split} {size} {cameras}"
    if name not in _kept:
        period_s = conventions.period_s if conventions else 0.2
        _kept[name] = World(cell, size, cameras, period_s, scene=settings.scene)
    return run_trial(cell, seed, _kept[name], mind, settings.agent)


def table(trials: Iterable[dict[str, Any]], *, model: str, seed: int) -> list[dict[str, Any]]:
    """One row per cell, as results.json has them."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        cells.setdefault(key_of(trial["cell"], 0), []).append(trial)
    rows = []
    for found in cells.values():
        cell = found[0]["cell"]
        wins = sum(t["success"] for t in found)
        low, high = wilson(wins, len(found))
        times = [ms for t in found for ms in t["plan_ms"]]
        failures: dict[str, int] = {}
        for trial in found:
            if trial["failure"]:
                failures[trial["failure"]] = failures.get(trial["failure"], 0) + 1
        rows.append(
            {
                "task": cell["task"], "engine": cell["engine"], "split": cell["split"], "goal": cell["goal"],
                "method": cell["method"], "episodes": len(found), "successes": wins, "rate": wins / len(found),
                "wilson_low": low, "wilson_high": high,
                "median_distance_m": float(np.median([t["distance_m"] for t in found])),
                "plan_ms_median": float(np.median(times)) if times else None,
                "plan_ms_p99": float(np.quantile(times, 0.99)) if times else None,
                "failures": failures, "seed": seed, "model": model if cell["method"] in NEEDS_MODEL else None,
            }
        )  # fmt: skip
    order = {name: i for i, name in enumerate(METHODS)}
    return sorted(
        rows, key=lambda r: (TASKS.index(r["task"]), r["engine"], r["split"], r["goal"], order[r["method"]])
    )


def comparisons(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`both` against `blind`, `policy` and `planner` on the same seeds, by McNemar's test."""
    won = {key_of(t["cell"], t["seed"]): bool(t["success"]) for t in trials}
    found = []
    groups = {tuple(t["cell"][k] for k in ("task", "engine", "split", "goal")) for t in trials}
    for task, engine, split, goal in sorted(groups):
        for other in ("blind", "policy", "planner"):
            pairs = []
            for trial in trials:
                cell = trial["cell"]
                if (cell["task"], cell["engine"], cell["split"], cell["goal"], cell["method"]) != (
                    task,
                    engine,
                    split,
                    goal,
                    "both",
                ):
                    continue
                rival = won.get(key_of({**cell, "method": other}, trial["seed"]))
                if rival is not None:
                    pairs.append((bool(trial["success"]), rival))
            if pairs:
                ours, theirs, p = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
                found.append(
                    {"task": task, "engine": engine, "split": split, "goal": goal, "against": other,
                     "episodes": len(pairs), "only_both": ours, "only_other": theirs, "p": p}
                )  # fmt: skip
    return found


def as_text(rows: list[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [
        f"{'task':<18}{'goal':<12}{'split':<9}{'engine':<9}{'method':<9}{'success':>16}  {'95 %':<12}{'distance':>9}{'plan':>9}"
    ]
    for r in rows:
        plan = f"{r['plan_ms_median']:.0f} ms" if r["plan_ms_median"] is not None else "-"
        lines.append(
            f"{r['task']:<18}{r['goal']:<12}{r['split']:<9}{r['engine']:<9}{r['method']:<9}"
            f"{r['successes']:>4}/{r['episodes']:<4}{r['rate']:>7.0%}  {r['wilson_low']:.0%}-{r['wilson_high']:.0%}".ljust(
                86
            )
            + f"{r['median_distance_m'] * 1000:>6.0f} mm{plan:>9}"
        )
    return "\n".join(lines)
