"""A world whose best plan is known: latents move linearly with the actions, the energy is quadratic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from data.types import Imagined, Memory
from planners.actions import ActionSpace, GripperRule
from planners.costs.goal import GoalDistance
from planners.costs.total import Term, TotalCost


@dataclass
class LinearWorld:
    """z <- 0.9 z + W a, element by element in a fixed order, so that a batch has the bits of its parts."""

    weights: Tensor  # [D, A]
    delay: Callable[[int], None] | None = None  # told how many candidate steps are imagined
    calls: list[tuple[int, int]] = field(default_factory=list)  # (K, H) of every call

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        state = memory.latents[:, -1:, 0].expand(-1, actions.shape[1], -1)
        pose = memory.poses[:, -1:].expand(-1, actions.shape[1], -1)
        latents, poses = [], []
        for h in range(actions.shape[2]):
            state = 0.9 * state
            for a in range(actions.shape[3]):
                state = state + actions[:, :, h, a, None] * self.weights[:, a]
            pose = pose + actions[:, :, h]
            latents.append(state)
            poses.append(pose)
        self.calls.append((actions.shape[1], actions.shape[2]))
        if self.delay is not None:
            self.delay(actions.shape[1] * actions.shape[2])
        return Imagined(latents=torch.stack(latents, 2)[..., None, :], poses=torch.stack(poses, 2))


@dataclass
class Effort:
    """Sum of weighted squares of the actions."""

    weights: Tensor  # [A]

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        return (actions.square() * self.weights).sum((-2, -1))


@dataclass
class Quadratic:
    """|z_H - goal|^2 / D + effort |a|^2: the least energy and its actions, by least squares."""

    world: LinearWorld
    memory: Memory
    goal: Tensor  # [B, 1, D]
    space: ActionSpace
    horizon: int = 4
    effort: Tensor = field(default_factory=lambda: torch.tensor([10.0] * 3 + [1.0] * 3 + [0.01]))

    def energy(self) -> TotalCost:
        return TotalCost(
            [
                Term(name="goal", cost=GoalDistance(goal=self.goal)),
                Term(name="effort", cost=Effort(self.effort)),
            ]
        )

    def optimum(self) -> tuple[Tensor, Tensor]:
        """Energies [B] and actions [B, H, A]; the gripper, where it is a switch, by trying every plan."""
        axes = torch.tensor(self.space.smooth_axes)
        D, H = self.goal.shape[-1], self.horizon
        powers = [0.9 ** (H - 1 - h) for h in range(H)]
        smooth = torch.cat([p * self.world.weights[:, axes] for p in powers], 1).double()  # [D, H * S]
        table = self.space.gripper_plans(H, self.goal) if self.space.switched else torch.zeros(1, H)
        found: list[tuple[Tensor, Tensor]] = []
        for targets in table:
            offset = sum(p * self.world.weights[:, 6] * t for p, t in zip(powers, targets))
            gap = (self.goal[:, 0] - 0.9**H * self.memory.latents[:, -1, 0] - offset).double()  # [B, D]
            effort = self.effort[axes].double().repeat(H).diag()
            lhs = smooth.T @ smooth / D + effort
            best = torch.linalg.solve(lhs, (gap @ smooth / D).T).T
            energy = (gap - best @ smooth.T).square().mean(-1) + (best @ effort * best).sum(-1)
            energy = energy + float(self.effort[6] * targets.square().sum())
            actions = torch.zeros(len(gap), H, self.space.size)
            actions[:, :, axes] = best.view(len(gap), H, -1).float()
            if self.space.switched:
                actions[..., 6] = targets
            found.append((energy, actions))
        energies = torch.stack([e for e, _ in found])
        index = energies.argmin(0)
        chosen = torch.stack([a for _, a in found])[index, torch.arange(len(index))]
        return energies.amin(0).float(), chosen


def make_quadratic(
    problems: int = 1, *, seed: int = 0, gripper: GripperRule = GripperRule.TARGET, horizon: int = 4
) -> Quadratic:
    generator = torch.Generator().manual_seed(seed)
    low = [-0.06] * 3 + [-0.3] * 3 + [0.0 if gripper is GripperRule.TARGET else -1.0]
    high = [0.06] * 3 + [0.3] * 3 + [1.0]
    space = ActionSpace(low=low, high=high, gripper=gripper)
    weights = torch.randn(8, 7, generator=generator) * torch.tensor([10.0] * 3 + [1.0] * 3 + [0.3])
    memory = Memory(
        latents=0.3 * torch.randn(problems, 1, 1, 8, generator=generator),
        poses=torch.zeros(problems, 1, 7),
        actions=torch.zeros(problems, 0, 7),
    )
    # The goal is what some plan leads to, and a little that no plan can reach.
    plans = torch.zeros(problems, 1, horizon, 7)
    plans[..., :3] = 0.015 * torch.randn(problems, 1, 1, 3, generator=generator)
    if gripper is GripperRule.CONTINUOUS:
        plans[..., 6] = 0.3 + 0.2 * torch.rand(problems, 1, 1, generator=generator)
    else:
        table = space.gripper_plans(horizon, plans)
        plans[:, 0, :, 6] = table[torch.randint(len(table), (problems,), generator=generator)]
    world = LinearWorld(weights)
    goal = world.imagine(memory, plans).latents[:, 0, -1] + 0.05 * torch.randn(
        problems, 1, 8, generator=generator
    )
    return Quadratic(world, memory, goal, space, horizon)


@pytest.fixture
def quadratic() -> Callable[..., Quadratic]:
    return make_quadratic
