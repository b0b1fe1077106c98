"""Plans that go on: execute a few steps, plan again; and the landscape around a plan."""

from __future__ import annotations

import itertools

import pytest
import torch

from data.types import Memory
from planners.cem import CEM
from planners.cem_vjepa2 import CEMVJepa2
from planners.gradient import Gradient
from planners.icem import ICEM
from planners.landscape import landscape
from planners.local_search import LocalSearch
from planners.mppi import MPPI
from planners.proposals import Remembered
from planners.receding import Receding
from planners.seeded import Seeded


class Counting:
    """A planner that counts how often it is asked and remembers what it was offered."""

    def __init__(self, planner) -> None:
        self.planner, self.asked, self.offers = planner, 0, []

    def plan(self, memory, model, energy, **settings):
        self.asked += 1
        self.offers.append(settings["proposers"])
        return self.planner.plan(memory, model, energy, **settings)


def test_it_plans_again_after_the_steps_it_executes(quadratic) -> None:
    problem = quadratic(2)
    inner = Counting(Seeded(space=problem.space, candidates=32, iterations=2))
    receding = Receding(planner=inner, execute=2)
    first = receding.plan(problem.memory, problem.world, problem.energy())
    second = receding.plan(problem.memory, problem.world, problem.energy())
    assert inner.asked == 1
    assert torch.equal(second.actions, first.actions[:, 1:])
    assert torch.equal(second.imagined.latents, first.imagined.latents[:, :, 1:])
    assert second.notes == ["step 2 of the plan before"]
    third = receding.plan(problem.memory, problem.world, problem.energy())
    assert inner.asked == 2
    assert third.actions.shape == first.actions.shape
    offered = inner.offers[1][-1].propose(problem.memory, 4, 1, torch.Generator())
    assert torch.equal(offered[:, 0, :2], first.actions[:, 2:])
    receding.reset()
    receding.plan(problem.memory, problem.world, problem.energy())
    assert inner.asked == 3
    assert inner.offers[2] == ()


@pytest.mark.parametrize("name", ["cem", "cem_vjepa2", "icem", "mppi", "gradient", "seeded", "local"])
def test_any_planner_can_be_wrapped(quadratic, name: str) -> None:
    problem = quadratic(2)
    space = problem.space
    planner = {
        "cem": lambda: CEM(space=space, candidates=32, iterations=2, elites=8),
        "cem_vjepa2": lambda: CEMVJepa2(horizon=4, samples=32, iterations=2),
        "icem": lambda: ICEM(space=space, candidates=32, iterations=2, elites=8),
        "mppi": lambda: MPPI(space=space, candidates=32, iterations=2, elites=8),
        "gradient": lambda: Gradient(space=space, starts=6, steps=3),
        "seeded": lambda: Seeded(space=space, candidates=32, iterations=2),
        "local": lambda: Seeded(space=space, candidates=32, iterations=2, local=LocalSearch()),
    }[name]()
    receding = Receding(planner=planner, execute=2)
    energy = problem.energy()
    plans = [receding.plan(problem.memory, problem.world, energy, seed=s) for s in range(3)]
    assert torch.equal(plans[1].actions, plans[0].actions[:, 1:])
    assert plans[2].actions.shape == plans[0].actions.shape
    if name == "cem_vjepa2":
        assert "takes no proposals" in plans[2].notes[0]
        return
    # What is left of the plan before is a candidate: the new plan is no worse than it.
    offered = Remembered.after(plans[0], 2, space.gripper).actions[:, :1]
    worth = energy(problem.memory, problem.world.imagine(problem.memory, space.clip(offered)), offered)[:, 0]
    assert (plans[2].energy <= worth + 1e-6).all()


def test_a_warm_start_makes_a_small_budget_go_further(quadratic) -> None:
    """The world stands still here: what was found is offered again, and the energy can only fall."""
    problem = quadratic(3, horizon=1)
    planner = ICEM(space=problem.space, horizon=1, candidates=24, iterations=2, elites=4, suggestions=4)
    cold = planner.plan(problem.memory, problem.world, problem.energy(), seed=1).energy
    plan = planner.plan(problem.memory, problem.world, problem.energy(), seed=0)
    energies = [plan.energy]
    for step in range(1, 6):
        again = (Remembered.after(plan, 0, problem.space.gripper),)
        plan = planner.plan(problem.memory, problem.world, problem.energy(), seed=step, proposers=again)
        energies.append(plan.energy)
    assert all((b <= a + 1e-6).all() for a, b in itertools.pairwise(energies))
    assert (energies[-1] < cold).all()


def closed_loop(problem, planner, steps: int) -> torch.Tensor:
    """The latent distance to the goal after acting in the world that was imagined."""
    memory = problem.memory
    for step in range(steps):
        plan = planner.plan(memory, problem.world, problem.energy(), seed=step)
        seen = problem.world.imagine(memory, plan.actions[:, None, :1])
        actions = plan.actions[:, :1].clone()
        actions[..., 6] -= memory.poses[:, -1:, 6]  # a memory holds the change of the gripper
        memory = Memory(latents=seen.latents[:, 0], poses=seen.poses[:, 0], actions=actions[:, :0])
    return (memory.latents[:, -1] - problem.goal).square().mean((-2, -1))


def test_a_closed_loop_gets_there_and_stays(quadratic) -> None:
    problem = quadratic(2)
    start = (problem.memory.latents[:, -1] - problem.goal).square().mean((-2, -1))
    receding = Receding(planner=Seeded(space=problem.space, candidates=64, iterations=3))
    assert (closed_loop(problem, receding, 8) < 0.8 * start).all()


def test_the_landscape_is_lowest_at_the_optimum(quadratic) -> None:
    problem = quadratic(1)
    _, actions = problem.optimum()
    seen = landscape(
        problem.memory,
        problem.world,
        problem.energy(),
        actions,
        axes=(0, 2),
        half_width=0.02,
        points=11,
        batch=50,
    )
    assert seen.energies.shape == (1, 11, 11)
    torch.testing.assert_close(seen.lowest()[0], actions[0, 0, [0, 2]], atol=1e-6, rtol=0)
    middle = problem.energy()(
        problem.memory, problem.world.imagine(problem.memory, actions[:, None]), actions[:, None]
    )
    torch.testing.assert_close(seen.energies[:, 5, 5], middle[:, 0])
    torch.testing.assert_close(sum(seen.terms.values()), seen.energies)
    around_zero = landscape(
        problem.memory, problem.world, problem.energy(), actions, points=5, steps=(0, 1), relative=False
    )
    assert float(around_zero.first[2]) == 0.0
