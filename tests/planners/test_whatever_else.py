"""A plan depends on its problem and its seed alone: not on its neighbours, and not on what runs beside it."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from data.types import Conventions, Memory
from planners.cem import CEM
from planners.cem_vjepa2 import CEMVJepa2
from planners.costs.goal import GoalDistance
from planners.costs.total import Term, TotalCost
from planners.gradient import Gradient
from planners.icem import ICEM
from planners.local_search import LocalSearch
from planners.mppi import MPPI
from planners.seeded import Seeded
from world_model import remembered
from world_model.compact import CompactModel

PLANNERS = {
    "cem": lambda space: CEM(space=space, candidates=32, iterations=3, elites=8),
    "cem_vjepa2": lambda space: CEMVJepa2(horizon=2, samples=32, iterations=3),
    "icem": lambda space: ICEM(space=space, candidates=32, iterations=3, elites=8),
    "mppi": lambda space: MPPI(space=space, candidates=32, iterations=3, elites=16),
    "gradient": lambda space: Gradient(space=space, starts=4, steps=3),
    "seeded": lambda space: Seeded(space=space, candidates=32, iterations=2, elites=8, refine_steps=2),
    "local": lambda space: Seeded(
        space=space, candidates=32, iterations=3, elites=8, refine_steps=0, local=LocalSearch()
    ),
}


class Shaken:
    """Proposes holding still and noise around it."""

    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        noise = 0.02 * torch.randn(count, horizon, 7, generator=generator)
        noise[0] = 0
        return noise.repeat(len(memory.poses), 1, 1, 1)


@pytest.mark.parametrize("seed", [7, [7, 8, 9]])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("name", ["icem", "seeded", "local"])
def test_a_batch_with_proposals_is_its_problems_alone(quadratic, name: str, count: int, seed) -> None:
    problem, planner = quadratic(3), PLANNERS[name](quadratic(3).space)
    planner.suggestions = count
    together = planner.plan(problem.memory, problem.world, problem.energy(), seed=seed, proposers=(Shaken(),))
    for b in range(3):
        memory = Memory(
            latents=problem.memory.latents[b : b + 1],
            poses=problem.memory.poses[b : b + 1],
            actions=problem.memory.actions[b : b + 1],
        )
        energy = replace(problem, goal=problem.goal[b : b + 1]).energy()
        own = seed if isinstance(seed, int) else seed[b]
        alone = planner.plan(memory, problem.world, energy, seed=own, proposers=(Shaken(),))
        assert torch.equal(together.actions[b], alone.actions[0])


@pytest.mark.parametrize("name", PLANNERS)
def test_the_same_seed_is_the_same_plan_whatever_runs_beside(quadratic, name: str) -> None:
    """Three plans at a time, in turns of single operations, on one learned model that keeps what it saw last."""
    torch.manual_seed(0)
    conventions = Conventions(cameras=("front",), image_size=32)
    small: dict[str, Any] = {
        "dim": 16,
        "view_width": 32,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "channels": (8, 8),
        "shrinks": (1,),
    }
    model = CompactModel(conventions, **small).eval()
    planner = PLANNERS[name](quadratic().space)

    def memory(seed: int) -> Memory:
        g = torch.Generator().manual_seed(seed)
        latents, poses = torch.randn(1, 3, 1, 16, generator=g), torch.rand(1, 3, 7, generator=g)
        return Memory(latents=latents, poses=poses, actions=torch.zeros(1, 2, 7))

    memories = [memory(seed) for seed in range(3)]
    energy = TotalCost([Term(name="goal", cost=GoalDistance(goal=torch.zeros(1, 1, 16)))])

    def plan(index: int) -> Tensor:
        torch.manual_seed(index)  # what others draw is nothing to a planner
        return planner.plan(memories[index], model, energy, seed=index).actions

    alone = [plan(index) for index in range(3)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as pool:
            beside = list(pool.map(plan, [0, 1, 2] * 3))
    finally:
        sys.setswitchinterval(before)
    for index, actions in enumerate(beside):
        assert torch.equal(actions, alone[index % 3])


def test_what_one_thread_remembers_is_never_another_ones(monkeypatch) -> None:
    """Another thread comes between the look at what is kept and the taking of it."""
    kept: remembered.Remembered[str] = remembered.Remembered()
    mine, others = [torch.zeros(1)], [torch.ones(1)]
    assert kept.of(mine, lambda: "mine") == "mine"
    same, turns = remembered._same, iter([True])

    def between(a: Any, b: Any) -> bool:
        answer = same(a, b)
        if next(turns, False):
            assert kept.of(others, lambda: "others") == "others"
        return answer

    monkeypatch.setattr(remembered, "_same", between)
    assert kept.of(mine, lambda: "mine") == "mine"
