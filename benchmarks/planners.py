"""Energy against time, planner by planner, on one world model; and what the search itself costs.

Prints tables and writes benchmarks/results/planners.json; `--parts` and `--only` measure some of it and keep the rest.
Every problem is kept when it is done: the same command, started again after an end that was not wanted, goes on behind
it.  "+policy" is the recommended way: a model's policy proposes, what it imagines for that included in the time.
`--model DIR` takes a trained compact model and builds problems from the simulator; without it the shipped model is
used, or, where there is none, a compact model with random but smooth dynamics.  Times are CPU seconds of one thread;
those of the deadline are wall time: measure them on a quiet core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor

from benchmarks.planner_problems import Problem, chosen_model
from benchmarks.planner_tables import against, show_energy, trace, with_rows
from data.types import CLOSEDNESS, Imagined, Memory
from planners.actions import ActionSpace
from planners.cem import CEM
from planners.cem_vjepa2 import CEMVJepa2
from planners.costs.goal import Distance, GoalDistance
from planners.costs.total import Term, TotalCost
from planners.gradient import Gradient
from planners.icem import ICEM
from planners.local_search import LocalSearch
from planners.mppi import MPPI
from planners.protocols import Budget, Imagines, Proposes
from planners.search import Search
from planners.seeded import Seeded

RESULTS = Path(__file__).parent / "results" / "planners.json"
CASES = ((2, 400, 0.05), (1, 800, 0.075))  # horizon, V-JEPA 2's samples, half the box in metres
PARTS = ("overhead", "energy2", "energy1", "batch", "deadline")


class Changes:
    """The same model for V-JEPA 2's planner, whose gripper numbers are changes of closedness.

    The arm opens or closes: the sum of the changes is rounded to what would be commanded, as for the others.
    """

    def __init__(self, model: Imagines) -> None:
        self.model = model

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        told = memory.poses[:, -1, CLOSEDNESS][:, None].expand(actions.shape[:2])
        targets = []
        for h in range(actions.shape[2]):
            told = (told + actions[:, :, h, CLOSEDNESS]).clamp(0.0, 1.0)
            targets.append(told.round())
        actions = torch.cat([actions[..., :CLOSEDNESS], torch.stack(targets, -1)[..., None]], -1)
        return self.model.imagine(memory, actions, z)


def contestants(horizon: int, box_m: float) -> dict[str, Any]:
    """Our planners, on the axes and in the box of V-JEPA 2's (`local+yaw` turns the hand as well)."""
    base = ActionSpace()
    space = replace(base, low=[-box_m] * 3 + [*base.low[3:]], high=[box_m] * 3 + [*base.high[3:]], _cache={})
    same: dict[str, Any] = {"space": space, "horizon": horizon}
    turning = {**same, "space": replace(space, axes=(0, 1, 2, 5, 6), _cache={})}
    around = {"spread": 0.2, "iterations": 7}  # of the trust region around the best proposal
    near: dict[str, Any] = {"elites": 8, "spread": 0.5, "guesses": 0, "refine_steps": 0}
    if horizon == 1:
        # V-JEPA 2's 8,000 candidates find the bottom of three numbers to a millionth: so must these.
        inner = LocalSearch(narrow=0.3, reach=1.0, rounds=6, candidates=96, elites=8, guesses=0)
        near |= {"candidates": 24, "iterations": 9, "smallest": 1e-7, "local": inner}
    else:
        near |= {"candidates": 40, "iterations": 8, "fewer": 0.9, "smallest": 1e-4, "local": LocalSearch()}
    return {
        "local": Seeded(**same, **near),
        "local+yaw": Seeded(**turning, **near),
        "local+policy": Seeded(**same, **near | around),
        "local+yaw+policy": Seeded(**turning, **near | around),
        "seeded": Seeded(
            **same, candidates=64, iterations=6, fewer=0.6, elites=8, spread=0.5, refine=4, refine_steps=20
        ),
        "gradient": Gradient(**same, starts=8, steps=40, rate=0.15),
        "icem": ICEM(**same, candidates=128, iterations=12, fewer=0.95),
        "cem": CEM(**same, candidates=128, iterations=12, elites=12),
        "mppi": MPPI(**same, candidates=128, iterations=12, elites=32),
    }


def energy_against_time(
    model: Imagines, problems: list[Problem], *, horizon: int, samples: int, box_m: float, only: Sequence[str], kept: Path,
    propose: Callable[[Tensor], tuple[Proposes, ...]] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every planner on every problem, in turns; the reference is V-JEPA 2's planner, whose rotations stay zero.

    What was found of each problem goes into the file `kept`; what is there already is not done again.
    """
    reference = CEMVJepa2(horizon=horizon, samples=samples, iterations=10, maxnorm_m=box_m)
    planners = contestants(horizon, box_m)
    if unknown := sorted(set(only) - set(planners)):
        raise SystemExit(f"no planner {unknown[0]!r} here; there are {', '.join(planners)}")
    planners = {n: p for n, p in planners.items() if n in only or not only}
    if propose is None:
        planners = {n: p for n, p in planners.items() if not n.endswith("+policy")}
    settings = hashlib.sha256(repr((reference, planners, len(problems))).encode()).hexdigest()[:12]
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    done = {line["problem"]: line["found"] for line in lines if line["settings"] == settings}
    for index, (memory, goal) in enumerate(problems):
        if index in done:
            continue
        energy = TotalCost([Term(name="goal", cost=GoalDistance(goal=goal, distance=Distance.L1))])
        found = {"cem_vjepa2": trace(reference.plan(memory, Changes(model), energy, seed=index))}
        for name, planner in planners.items():
            proposers = propose(goal) if propose is not None and name.endswith("+policy") else ()
            found[name] = trace(planner.plan(memory, model, energy, proposers=proposers, seed=index))
        done[index] = found
        kept.parent.mkdir(exist_ok=True)
        with kept.open("a") as file:
            file.write(json.dumps({"settings": settings, "problem": index, "found": found}) + "\n")
    found = {name: [done[i][name] for i in range(len(problems))] for name in ("cem_vjepa2", *planners)}
    return [against(name, traces, found["cem_vjepa2"], horizon) for name, traces in found.items()]


class Free:
    """Imagining and scoring that cost nothing."""

    def __init__(self, candidates: int, horizon: int, width: int = 256) -> None:
        self.latents = torch.zeros(1, candidates, horizon, 1, width)
        self.poses = torch.zeros(1, candidates, horizon, 7)
        self.scores = torch.rand(1, candidates, generator=torch.Generator().manual_seed(0))
        self.memory = Memory(
            latents=self.latents[:, 0, :1], poses=self.poses[:, 0, :1], actions=torch.zeros(1, 0, 7)
        )

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        count = actions.shape[1]
        return Imagined(latents=self.latents[:, :count], poses=self.poses[:, :count])

    def terms(self, memory: Memory, imagined: Imagined, actions: Tensor) -> dict[str, Tensor]:
        return {"free": self.scores[:, : actions.shape[1]]}


def overhead(candidates: int = 512, horizon: int = 8, repeats: int = 10) -> dict[str, float]:
    """Milliseconds per iteration of everything that is not imagining or scoring."""
    free = Free(candidates, horizon)
    found = {}
    for name, planner in {
        "cem": CEM(horizon=horizon, candidates=candidates, iterations=10, elites=32),
        "icem": ICEM(horizon=horizon, candidates=candidates, iterations=10, elites=32, fewer=1.0),
        "mppi": MPPI(horizon=horizon, candidates=candidates, iterations=10, elites=64),
        "seeded": Seeded(horizon=horizon, candidates=candidates, iterations=10, elites=32, refine_steps=0),
    }.items():
        taken = [planner.plan(free.memory, free, free).milliseconds["total"] / 10 for _ in range(repeats)]
        found[name] = statistics.median(taken)
    return found


def batch_of_problems(model: Imagines, problems: list[Problem]) -> dict[str, float]:
    """Milliseconds for each problem when planned alone, and when planned together."""
    planner = Seeded(horizon=2, candidates=64, iterations=2, refine=4, refine_steps=4)
    memories = [memory for memory, _ in problems]
    memory = Memory(
        latents=torch.cat([m.latents for m in memories]),
        poses=torch.cat([m.poses for m in memories]),
        actions=torch.cat([m.actions for m in memories]),
    )
    goals = torch.cat([goal for _, goal in problems])

    def cost(goal: Tensor) -> TotalCost:
        return TotalCost([Term(name="goal", cost=GoalDistance(goal=goal))])

    together = planner.plan(memory, model, cost(goals)).milliseconds["total"] / len(problems)
    alone = [planner.plan(m, model, cost(g)) for m, g in problems]
    return {"together": together, "alone": statistics.mean(plan.milliseconds["total"] for plan in alone)}


def deadlines(model: Imagines, problem: Problem, repeats: int = 100) -> list[dict[str, Any]]:
    """Wall time of plans under a deadline, as shares of it."""
    energy = TotalCost([Term(name="goal", cost=GoalDistance(goal=problem[1]))])
    found = []
    for name, planner, milliseconds in (
        ("seeded", Seeded(horizon=4, candidates=128, iterations=100), 150.0),
        ("seeded", Seeded(horizon=4, candidates=128, iterations=2, refine_steps=1000), 150.0),
        ("local", Seeded(horizon=4, candidates=40, iterations=100, guesses=0, local=LocalSearch()), 150.0),
        ("icem", ICEM(horizon=4, candidates=128, iterations=100), 60.0),
        ("mppi", MPPI(horizon=4, candidates=256, iterations=100), 60.0),
    ):
        budget = Budget(deadline_ms=milliseconds)
        taken = []
        for seed in range(repeats):
            plan = planner.plan(problem[0], model, energy, budget=budget, seed=seed)
            taken.append(plan.milliseconds["total"] / milliseconds)
        found.append(
            {
                "planner": name,
                "deadline_ms": milliseconds,
                "repeats": repeats,
                "median": statistics.median(taken),
                "p99": float(np.quantile(taken, 0.99)),
                "most": max(taken),
            }
        )
    return found


def save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder or name of a trained model")
    parser.add_argument(
        "--random", action="store_true", help="random dynamics, even where a model is shipped"
    )
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=(), help="these planners, beside V-JEPA 2's")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, name, make, propose = chosen_model(options.model, random=options.random)
    print(f"{name}; {platform.processor() or platform.machine()}, one thread, torch {torch.__version__}")
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    results |= {"model": name, "torch": torch.__version__, "load": round(os.getloadavg()[0], 1)}
    Search.now = time.thread_time
    if "overhead" in options.parts:
        results["overhead_ms"] = overhead()
        for planner, spent in results["overhead_ms"].items():
            print(f"search alone, 512 candidates x 8 steps: {planner:8s} {spent:.2f} CPU ms an iteration")
    for horizon, samples, box_m in CASES:
        if f"energy{horizon}" in options.parts:
            kept = options.out.with_name(f"{options.out.stem}.energy{horizon}.unfinished")
            rows = energy_against_time(
                model, make(options.problems, horizon), horizon=horizon, samples=samples, box_m=box_m, only=options.only,
                kept=kept, propose=propose,
            )  # fmt: skip
            results[f"energy{horizon}"] = with_rows(results.get(f"energy{horizon}", []), rows)
            save(results, options.out)
            kept.unlink(missing_ok=True)
            show_energy(rows)
    if "batch" in options.parts:
        results["batch_ms"] = batch_of_problems(model, make(min(16, options.problems), 2))
        alone, together = results["batch_ms"]["alone"], results["batch_ms"]["together"]
        print(f"\na problem, planned together / alone (CPU ms): {together:.1f} / {alone:.1f}")
    Search.now = time.perf_counter
    if "deadline" in options.parts:
        results["deadline"] = deadlines(model, make(1, 4)[0])
        for row in results["deadline"]:
            print(
                "deadline {deadline_ms:.0f} ms, {planner}: median {median:.3f}, p99 {p99:.3f}, most {most:.3f} of it "
                "(wall, {repeats} plans)".format(**row)
            )
    save(results, options.out)


if __name__ == "__main__":
    main()
