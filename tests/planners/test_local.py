"""A local model imagines as the world does near its samples, and a search in it saves candidates."""

from __future__ import annotations

import pytest
import torch

from data.types import Imagined, Memory
from planners.actions import ActionSpace
from planners.local import LocalModel, Sample
from planners.local_search import LocalSearch
from planners.seeded import Seeded

HORIZON = 2
SPACE = ActionSpace()


class Curved:
    """Latents bend with the actions; each gripper plan shifts them its own way; a costly extra rides along."""

    def __init__(self, problems: int) -> None:
        generator = torch.Generator().manual_seed(3)
        self.slope = 10 * torch.randn(problems, 6, 5, generator=generator)
        self.bend = 100 * torch.randn(problems, 6, 6, 5, generator=generator)
        self.shift = torch.randn(problems, 2 * HORIZON, 5, generator=generator)

    def imagine(self, memory: Memory, actions: torch.Tensor, z: torch.Tensor | None = None) -> Imagined:
        x = actions[..., :3].flatten(2)
        table = SPACE.gripper_plans(HORIZON, actions)
        plan = (SPACE.targets(actions, memory)[:, :, None] == table).all(-1).long().argmax(-1)
        state = torch.einsum("bkd,bdm->bkm", x, self.slope) + torch.einsum(
            "bkd,bke,bdem->bkm", x, x, self.bend
        )
        state = state + self.shift.gather(1, plan[..., None].expand(-1, -1, 5))
        latents = torch.stack([0.5 * state, state], 2)[..., None, :]
        poses = memory.poses[:, -1:, None] + actions.cumsum(2)
        return Imagined(latents=latents, poses=poses, extras={"disagreement": latents.square().sum((-2, -1))})


def sampled(world: Curved, count: int, seed: int) -> tuple[Memory, Sample]:
    generator = torch.Generator().manual_seed(seed)
    problems = len(world.slope)
    memory = Memory(
        latents=torch.zeros(problems, 1, 1, 5),
        poses=torch.zeros(problems, 1, 7),
        actions=torch.zeros(problems, 0, 7),
    )
    actions = torch.zeros(problems, count, HORIZON, 7)
    actions[..., :3] = 0.02 * torch.randn(problems, count, HORIZON, 3, generator=generator)
    table = SPACE.gripper_plans(HORIZON, actions)
    actions[..., 6] = table[torch.arange(count) % len(table)]
    imagined = world.imagine(memory, actions)
    return memory, Sample(
        actions=actions, imagined=imagined, energies=imagined.latents[:, :, -1, 0].square().mean(-1)
    )


def test_what_is_quadratic_is_imagined_within_a_tenth() -> None:
    world = Curved(2)
    memory, seen = sampled(world, 80, seed=0)
    model = LocalModel(SPACE, memory, [seen])
    _, new = sampled(world, 40, seed=1)
    found = model.imagine(memory, new.actions)
    for name, got, want in (
        ("latents", found.latents, new.imagined.latents),
        ("poses", found.poses, new.imagined.poses),
    ):
        assert got.shape == want.shape
        error = (got - want).abs().mean() / (want - want.mean(1, keepdim=True)).abs().mean()
        assert error < 0.1, (name, error)
    assert found.extras["disagreement"].shape == new.imagined.extras["disagreement"].shape


def test_a_sample_is_imagined_as_it_was() -> None:
    world = Curved(1)
    memory, seen = sampled(world, 24, seed=0)
    found = LocalModel(SPACE, memory, [seen]).imagine(memory, seen.actions)
    best = int(seen.energies[0].argmin())
    torch.testing.assert_close(found.latents[:, best], seen.imagined.latents[:, best], atol=2e-2, rtol=0)


def test_problems_are_fitted_alone_and_together_alike() -> None:
    world = Curved(2)
    memory, seen = sampled(world, 40, seed=0)
    together = LocalModel(SPACE, memory, [seen]).imagine(memory, seen.actions)
    one = slice(1, 2)
    memory = Memory(latents=memory.latents[one], poses=memory.poses[one], actions=memory.actions[one])
    imagined = Imagined(
        latents=seen.imagined.latents[one],
        poses=seen.imagined.poses[one],
        extras={name: value[one] for name, value in seen.imagined.extras.items()},
    )
    part = Sample(actions=seen.actions[one], imagined=imagined, energies=seen.energies[one])
    alone = LocalModel(SPACE, memory, [part]).imagine(memory, part.actions)
    assert torch.equal(alone.latents[0], together.latents[1])


def test_gripper_plans_that_were_not_seen_are_not_known() -> None:
    world = Curved(1)
    memory, seen = sampled(world, 40, seed=0)
    seen.actions[..., 6] = seen.actions[:, :1, :, 6]  # all follow the first plan
    seen.imagined = world.imagine(memory, seen.actions)
    model = LocalModel(SPACE, memory, [seen])
    assert model.known.sum() == 1


@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize("broken", [False, True])
def test_few_or_broken_samples_are_no_trouble(count: int, broken: bool) -> None:
    world = Curved(1)
    memory, seen = sampled(world, count, seed=0)
    if broken and count > 1:
        worst = int(seen.energies[0].argmax())
        seen.energies[0, worst] = torch.inf
        seen.imagined.latents[0, worst] = torch.nan
    found = LocalModel(SPACE, memory, [seen]).imagine(memory, sampled(world, 30, seed=1)[1].actions)
    assert torch.isfinite(found.latents).all()


def test_a_search_in_it_saves_candidates(quadratic) -> None:
    """As many candidates with and without: the energy above the optimum falls to less than a fifth."""
    above = {}
    for local in (None, LocalSearch()):
        total = 0.0
        for seed in range(3):
            problem = quadratic(4, seed=seed, horizon=2)
            planner = Seeded(
                space=problem.space, horizon=2, candidates=32, iterations=5, elites=8, spread=0.5, refine_steps=0,
                guesses=0, local=local, smallest=0.002,
            )  # fmt: skip
            plan = planner.plan(problem.memory, problem.world, problem.energy())
            total += float((plan.energy / problem.optimum()[0] - 1).mean())
        above[local is not None] = total / 3
    assert above[True] < 0.2 * above[False], above
