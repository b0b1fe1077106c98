"""Gradients of energies with respect to actions, through `imagine`, against finite differences."""

from __future__ import annotations

import pytest
import torch

from data.types import Conventions, Memory
from planners.costs.critic import CriticCost
from planners.costs.goal import Distance, GoalDistance, Over
from planners.costs.intrinsic import Action, Jerk, Speed, Workspace
from planners.costs.pose import PoseDistance
from planners.costs.total import Term, TotalCost
from planners.gradient import Gradient
from planners.protocols import Budget
from world_model.compact import CompactModel
from world_model.heads.critic import Critic
from world_model.imagine import imagine_tokens
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig


class Dense:
    """A token predictor with random weights, in double precision."""

    tokens, dim = 4, 24

    def __init__(self) -> None:
        torch.manual_seed(0)
        config = TokenPredictorConfig(latent_dim=24, dim=24, depth=2, heads=2, grid=(2, 2))
        self.predictor = TokenPredictor(config).double().eval()

    def imagine(self, memory, actions, z=None):
        return imagine_tokens(self.predictor, memory, actions, z)


class Compact:
    """The compact model with random weights, in double precision."""

    tokens, dim = 1, 24

    def __init__(self) -> None:
        torch.manual_seed(0)
        conventions = Conventions(cameras=("exterior_left",), image_size=64)
        self.model = CompactModel(conventions, dim=24, view_width=16, width=32, depth=2, heads=2).eval()
        for weight in self.model.predictor.parameters():  # a fresh AdaLN ignores the actions
            torch.nn.init.normal_(weight, std=0.2)

    def imagine(self, memory, actions, z=None):
        return self.model.imagine(memory, actions, z)


def setting(kind: type, dtype: torch.dtype):
    model = kind()
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    memory = Memory(
        latents=draw(2, 2, model.tokens, model.dim), poses=0.3 * draw(2, 2, 7), actions=0.03 * draw(2, 1, 7)
    )
    memory.poses[..., 6] = 0.4
    actions = 0.03 * draw(2, 3, 2, 7)
    actions[..., 6] = 0.1
    goal = draw(2, model.tokens, model.dim)
    torch.manual_seed(2)
    critic = Critic(tokens=model.tokens, dim=model.dim, width=16).to(dtype).eval()

    def steps_to_go(latents, poses, goal):
        logits = critic.net(
            torch.cat(
                [latents.flatten(-2), goal.flatten(-2), (goal - latents).flatten(-2), features(poses)], -1
            )
        )
        return logits.softmax(-1) @ critic.steps.to(dtype)

    from world_model.features import pose_features as features

    energy = TotalCost(
        [
            Term(name="l1", cost=GoalDistance(goal=goal, distance=Distance.L1, over=Over.SUM)),
            Term(name="l2", cost=GoalDistance(goal=goal)),
            Term(name="cosine", cost=GoalDistance(goal=goal, distance=Distance.COSINE)),
            Term(name="pose", cost=PoseDistance(goal=draw(2, 7), rotation_rad=0.5)),
            Term(name="critic", cost=CriticCost(steps_to_go=steps_to_go, goal=goal)),
            Term(name="workspace", cost=Workspace(low=[-0.1] * 3, high=[0.1] * 3), weight=3.0),
            Term(name="speed", cost=Speed(max_step_m=0.02, max_turn_rad=0.02), weight=5.0),
            Term(name="jerk", cost=Jerk(), weight=100.0),
            Term(name="action", cost=Action()),
        ]
    )
    return model, memory, actions, energy


@pytest.mark.parametrize("kind", [Dense, Compact])
def test_gradients_are_finite_differences(kind: type) -> None:
    dtype = torch.float64 if kind is Dense else torch.float32  # the compact model keeps single precision
    model, memory, actions, energy = setting(kind, dtype)

    def total(a: torch.Tensor) -> torch.Tensor:
        return energy(memory, model.imagine(memory, a), a)

    actions.requires_grad_()
    slope = torch.autograd.grad(total(actions).sum(), actions)[0]
    step, tolerance = (1e-6, 1e-5) if kind is Dense else (2e-3, 3e-2)
    axes = range(7) if kind is Dense else (0, 1, 2, 6)
    with torch.no_grad():
        for h in range(2):
            for axis in axes:
                moved = torch.zeros_like(actions)
                moved[:, :, h, axis] = step
                numeric = (total(actions + moved) - total(actions - moved)) / (2 * step)
                size = slope.abs().max()
                assert (numeric - slope[:, :, h, axis]).abs().max() <= tolerance * size, (h, axis)


def test_one_candidate_has_no_gradient_from_another() -> None:
    model, memory, actions, energy = setting(Dense, torch.float64)
    actions.requires_grad_()
    one = energy(memory, model.imagine(memory, actions), actions)[0, 1]
    slope = torch.autograd.grad(one, actions)[0]
    assert slope[0, 1].abs().max() > 0
    slope[0, 1] = 0
    assert (slope == 0).all()


def test_descent_lowers_the_energy_and_leaves_the_model_alone() -> None:
    model, memory, _, energy = setting(Dense, torch.float64)
    before = [weight.clone() for weight in model.predictor.parameters()]
    planner = Gradient(horizon=2, starts=4, steps=15)
    plan = planner.plan(memory, model, energy)
    first = planner.plan(memory, model, energy, budget=Budget(candidate_steps=2))
    assert (plan.energy < first.energy).all()
    low, high = planner.space.box(plan.actions)
    assert ((plan.actions >= low) & (plan.actions <= high)).all()
    assert all(torch.equal(a, b) for a, b in zip(before, model.predictor.parameters()))
    assert all(weight.grad is None for weight in model.predictor.parameters())
