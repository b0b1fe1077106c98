"""The cross-entropy method exactly as V-JEPA 2-AC was released with: xyz and gripper, box, momenta, the last mean.

It searches dx dy dz (each within `maxnorm`) and the change of closedness (within 0.75); rotations stay zero.  It
returns the mean of the last round and not the best candidate, and small gripper changes become none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from data.types import CLOSEDNESS
from planners.actions import ActionSpace, GripperRule
from planners.protocols import Proposes
from planners.search import Search
from planners.searching import Searching

GRIPPER = 3  # index among the searched numbers: dx dy dz gripper
GRIPPER_BOUND = 0.75
GRIPPER_DEAD = 0.25  # smaller changes of closedness become none
_SPACE = ActionSpace(low=[-1.0] * 7, high=[1.0] * 7, gripper=GripperRule.CONTINUOUS)


@dataclass(kw_only=True)
class CEMVJepa2(Searching):
    """Defaults are those of the released world model; the paper's robots use horizon 1 and 800 samples of 7.5 cm."""

    space: ActionSpace = field(init=False, repr=False, default_factory=lambda: _SPACE)
    horizon: int = 2
    """Model steps that a plan looks ahead."""
    samples: int = 400
    """Action sequences per iteration."""
    iterations: int = 10
    """Rounds of drawing and keeping."""
    topk: int = 10
    """Candidates that the next round is drawn around."""
    maxnorm_m: float = 0.05
    """Bound of dx, dy and dz each."""
    momentum_mean: float = 0.15
    """Share of the old mean that is kept."""
    momentum_std: float = 0.15
    """Share of the old deviation that is kept."""
    momentum_mean_gripper: float = 0.15
    """The same for the gripper's mean."""
    momentum_std_gripper: float = 0.15
    """The same for the gripper's deviation."""
    fixed: Mapping[int, float] = field(default_factory=dict)
    """Numbers that are not searched: 0, 1, 2 for xyz, 3 for the gripper -> value."""
    close_gripper: int | None = None
    """Close the gripper from this step of the plan on; none: search it."""
    noise: Tensor | None = None
    """Recorded standard normal draws [iterations * horizon, samples, 4] instead of fresh ones."""

    def find(self, search: Search, proposers: tuple[Proposes, ...]) -> None:
        """As released: proposals are not used.  `info` has the mean and deviation before each update."""
        search.stage = "cem_vjepa2"
        if proposers:
            search.notes.append("cem_vjepa2 takes no proposals, as released")
        mean = search.memory.poses.new_zeros(search.problems, self.horizon, 4)
        bound = mean.new_tensor([self.maxnorm_m] * 3 + [GRIPPER_BOUND])
        std = mean.new_tensor([self.maxnorm_m] * 3 + [1.0]).expand_as(mean)
        keep_mean = mean.new_tensor([self.momentum_mean] * 3 + [self.momentum_mean_gripper])
        keep_std = mean.new_tensor([self.momentum_std] * 3 + [self.momentum_std_gripper])
        books: dict[str, list[Tensor]] = {"mean": [], "std": [], "energies": []}
        for round_ in range(self.iterations):
            values = self._draw(search, round_) * std[:, None] + mean[:, None]  # [B, K, H, 4]
            values = torch.minimum(torch.maximum(values, -bound), bound)
            for axis, value in self.fixed.items():
                values[..., int(axis)] = value
            if self.close_gripper is not None:
                values[:, :, self.close_gripper :, GRIPPER] = 1.0
            energies = search.evaluate(_with_rotation(values))
            if energies is None:
                break
            best, index = energies.topk(min(self.topk, self.samples), 1, largest=False)
            rows = torch.arange(search.problems, device=index.device)[:, None]
            elites = values[rows, index]  # [B, E, H, 4]
            for name, value in zip(books, (mean, std, energies)):
                books[name].append(value)
            search.note_iteration(energies, best)
            if search.over:
                break
            mean = elites.mean(1) * (1 - keep_mean) + mean * keep_mean
            std = elites.std(1) * (1 - keep_std) + std * keep_std
        small = mean[..., GRIPPER].abs() < GRIPPER_DEAD
        mean = torch.cat([mean[..., :GRIPPER], mean[..., GRIPPER:].masked_fill(small[..., None], 0.0)], -1)
        search.best = None  # the mean is the plan, whatever the candidates were
        search.evaluate(_with_rotation(mean[:, None]), always=True)
        search.info |= {name: torch.stack(values) for name, values in books.items() if values}

    def _draw(self, search: Search, round_: int) -> Tensor:
        """[B, K, H, 4], drawn step by step of the horizon."""
        if self.noise is None:
            return torch.stack([search.normal(self.samples, 4) for _ in range(self.horizon)], 2)
        rows = self.noise[round_ * self.horizon : (round_ + 1) * self.horizon]  # [H, K, 4]
        return rows.transpose(0, 1).expand(search.problems, -1, -1, -1)


def _with_rotation(values: Tensor) -> Tensor:
    """[..., 4] -> actions [..., 7]."""
    actions = values.new_zeros(*values.shape[:-1], 7)
    actions[..., :3] = values[..., :3]
    actions[..., CLOSEDNESS] = values[..., GRIPPER]
    return actions
