"""Claims: a quasimetric critic keeps its axioms whatever was learned, and learns that there and back are not the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from world_model.checkpoint import make_head
from world_model.heads.critic import Critic
from world_model.heads.quasimetric import Quasimetric

RING = 8  # states on a ring that turns one way only


def scrambled(seed: int) -> Quasimetric:
    """Weights of any size and sign, as no training would leave them."""
    torch.manual_seed(seed)
    metric = Quasimetric(6, width=32, depth=2, both_ways=5, groups=4, each=3).eval()
    for weight in metric.parameters():
        torch.nn.init.normal_(weight, std=2.0)
    return metric


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_the_axioms_hold_whatever_the_weights(seed: int) -> None:
    metric = scrambled(seed)
    x, y, z = torch.randn(3, 4000, 6, generator=torch.Generator().manual_seed(seed))
    there, on, past = metric(x, y), metric(y, z), metric(x, z)
    assert (there > 0).all()
    assert (metric(x, x) == 0).all()
    assert (past <= (there + on) * (1 + 1e-5)).all()
    back = metric(y, x)
    assert float((there / back).log().abs().median()) > 0.01, "it may differ there and back"


def test_a_state_that_is_its_own_goal_gives_finite_gradients() -> None:
    metric, x = scrambled(0), torch.randn(4, 6, requires_grad=True)
    metric(x, x.detach()).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in metric.parameters())


def ring_states(index: Tensor) -> Tensor:
    angle = 2 * torch.pi * index / RING
    return torch.stack([angle.cos(), angle.sin()], -1)[:, None]


def test_a_ring_that_turns_one_way_is_learned() -> None:
    """One step on is one step; one step back is all the way round."""
    torch.manual_seed(0)
    critic = Critic(tokens=1, dim=2, horizon=20, width=64, form="quasimetric")
    optimiser = torch.optim.AdamW(critic.parameters(), lr=5e-3)
    every = torch.cartesian_prod(torch.arange(RING), torch.arange(RING))
    z, goal, steps = ring_states(every[:, 0]), ring_states(every[:, 1]), (every[:, 1] - every[:, 0]) % RING
    poses = torch.zeros(len(every), 7)
    for _ in range(300):
        optimiser.zero_grad()
        critic.loss(z, goal, poses, steps).backward()
        optimiser.step()
    with torch.no_grad():
        found = critic.eval().steps_to_go(z, goal, poses)
    assert (found - steps).abs().mean() < 1.3, found.view(RING, RING)  # the mean of all is 2 off
    assert (found[steps == 0] == 0).all()
    assert (found[steps == RING - 1] > 1.4 * found[steps == 1].max()).all(), found.view(RING, RING)


def test_farther_than_the_horizon_is_not_an_error() -> None:
    critic = Critic(tokens=1, dim=2, horizon=3, width=16, form="quasimetric").eval()
    last = critic.metric.net[-1]
    assert isinstance(last, nn.Linear)
    z, goal, poses = torch.zeros(5, 1, 2), 50 * torch.ones(5, 1, 2), torch.zeros(5, 7)
    with torch.no_grad():
        last.weight.mul_(100)
        assert (critic.steps_to_go(z, goal, poses) > 3).all()
        assert float(critic.loss(z, goal, poses, torch.full((5,), 9))) == 0
        assert float(critic.loss(z, goal, poses, torch.full((5,), 2))) > 0


def test_a_form_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="form=metric: no such critic; there are counts, quasimetric"):
        make_head("critic", {"form": "metric"})


def test_it_judges_shapes_as_the_other_critic_does() -> None:
    z, goal, poses = torch.randn(2, 3, 4, 1, 8), torch.randn(2, 3, 4, 1, 8), torch.randn(2, 3, 4, 7)
    for form in ("counts", "quasimetric"):
        critic = Critic(dim=8, width=16, form=form).eval()
        assert critic.steps_to_go(z, goal, poses).shape == (2, 3, 4)
