"""With `around` off the seeded planner takes the best that was proposed, and searches only where nobody proposes."""

from __future__ import annotations

import pytest
import torch

from planners.proposals import Remembered
from planners.seeded import Seeded


@pytest.fixture
def planner(quadratic):
    problem = quadratic(3)
    return problem, Seeded(space=problem.space, suggestions=5, around=False, candidates=64, iterations=4)


def test_the_best_proposal_is_taken_as_it_is(planner) -> None:
    problem, rehearsing = planner
    torch.manual_seed(0)
    proposals = 0.1 * (torch.rand(3, 5, 4, 7) - 0.5)
    proposals[..., 6] = (proposals[..., 6] > 0).float()
    plan = rehearsing.plan(
        problem.memory, problem.world, problem.energy(), proposers=(Remembered(actions=proposals),)
    )
    imagined = problem.world.imagine(problem.memory, proposals)
    energies = problem.energy()(problem.memory, imagined, proposals)
    best = energies.argmin(1)
    assert torch.equal(plan.actions, proposals[torch.arange(3), best])
    assert torch.allclose(plan.energy, energies.amin(1))
    assert plan.info["source"] == ["proposal"] * 3


def test_without_proposals_it_searches(planner) -> None:
    problem, rehearsing = planner
    plan = rehearsing.plan(problem.memory, problem.world, problem.energy())
    hold = rehearsing.space.hold(problem.memory, rehearsing.horizon)[:, None]
    resting = problem.energy()(problem.memory, problem.world.imagine(problem.memory, hold), hold)[:, 0]
    assert (plan.energy < resting).all()


def test_a_lone_proposal_is_looked_at_with_the_first_round(quadratic) -> None:
    problem = quadratic(2)
    planner = Seeded(space=problem.space, candidates=64, iterations=2, refine_steps=0, guesses=0)
    perfect = problem.optimum()[1][:, None]
    problem.world.calls.clear()
    plan = planner.plan(
        problem.memory, problem.world, problem.energy(), proposers=(Remembered(actions=perfect),)
    )
    assert problem.world.calls == [(65, 4), (64, 4)]
    assert plan.info["source"] == ["proposal", "proposal"]
    assert torch.equal(plan.actions, perfect[:, 0])
    with torch.no_grad():
        imagined = problem.world.imagine(problem.memory, perfect)
        torch.testing.assert_close(
            plan.info["proposal_energy"], problem.energy()(problem.memory, imagined, perfect)[:, 0]
        )
    poor = Remembered(actions=torch.zeros(2, 1, 4, 7))
    plan = planner.plan(problem.memory, problem.world, problem.energy(), proposers=(poor,))
    assert plan.info["source"] == ["cem", "cem"]
    assert (plan.energy < plan.info["proposal_energy"]).all()
