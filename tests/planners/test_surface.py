"""A quadratic surface finds the lowest point of a quadratic bowl at once, and is harmless elsewhere."""

from __future__ import annotations

import torch

from planners.seeded import Seeded
from planners.surface import lowest


def bowl(count: int, d: int = 4, *, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(2, d, d, generator=generator) + 2 * torch.eye(d)
    centre = 0.3 * torch.randn(2, 1, d, generator=generator)
    points = torch.randn(2, count, d, generator=generator)
    energies = ((points - centre) @ root).square().sum(-1) + 5.0
    return points, energies, centre


def test_the_bottom_of_a_bowl_is_found_at_once() -> None:
    points, energies, centre = bowl(40)
    usable = torch.ones_like(energies, dtype=torch.bool)
    found = lowest(points, energies, usable, 4)
    assert found.shape == (2, 4, 4)
    torch.testing.assert_close(found[:, :1], centre, atol=1e-3, rtol=0)
    nearest = (points - centre).norm(dim=-1).amin(1)
    assert (nearest > 0.1).all(), "no sample was there by chance"


def test_points_that_do_not_count_are_left_out() -> None:
    points, energies, centre = bowl(60)
    usable = torch.arange(60).expand(2, 60) < 40
    energies[:, 40:] = torch.tensor(-100.0)  # of another gripper plan
    energies[:, :5] = torch.inf  # never imagined
    torch.testing.assert_close(lowest(points, energies, usable, 1), centre, atol=1e-3, rtol=0)


def test_few_points_or_none_are_no_trouble() -> None:
    points, energies, _ = bowl(12)
    for count in (0, 1, 3, 12):
        usable = torch.arange(12).expand(2, 12) < count
        assert torch.isfinite(lowest(points, energies, usable, 4)).all()
    flat = torch.zeros_like(energies)
    assert torch.isfinite(lowest(points, flat, torch.ones_like(flat, dtype=torch.bool), 4)).all()


def test_guesses_save_candidates(quadratic) -> None:
    """The same candidates with and without the surface: the energy above the optimum falls to less than half."""
    above = {}
    for guesses in (0, 4):
        total = 0.0
        for seed in range(3):
            problem = quadratic(4, seed=seed, horizon=2)
            planner = Seeded(
                space=problem.space, horizon=2, candidates=64, iterations=5, fewer=0.7, elites=8, spread=0.5,
                refine_steps=0, guesses=guesses, local=None,
            )  # fmt: skip
            plan = planner.plan(problem.memory, problem.world, problem.energy())
            total += float((plan.energy / problem.optimum()[0] - 1).mean())
        above[guesses] = total / 3
    assert above[4] < 0.5 * above[0], above
