"""What imagining returns, as a quadratic in the actions: a cheap stand-in near the candidates that were imagined.

Imagining is dear and scoring is cheap.  Every imagined number gets a quadratic of its own, fitted to the best
candidates so far, and the costs themselves judge what it gives: a distance keeps its kinks, a hinge its edge.  So
a search in the stand-in costs a few milliseconds and says where to imagine next.

Letters: B problems, K candidates, n candidates that were imagined, H horizon, A action size, d searched numbers of
a plan, P gripper plans, F features, M imagined numbers of a candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from data.types import Imagined, Memory
from planners.actions import ActionSpace

FULL = 12  # numbers of a plan with products of their own; beyond, the solve costs more than it saves: squares alone
LOOSE, TIGHT = (
    1e-6,
    1e-2,
)  # how firmly slopes and curvatures are held at zero where the candidates do not tell
MOST = 2**27  # imagined numbers that a fit goes through: of a large latent fewer candidates are used
KNOWN = 1.0  # candidates, weighted by how good they are, from which on a gripper plan counts as known


@dataclass(kw_only=True, slots=True)
class Sample:
    """Candidates that were imagined."""

    actions: Tensor  # [B, n, H, A]
    imagined: Imagined  # K = n
    energies: Tensor  # [B, n]


class LocalModel:
    """Imagines as the samples' surroundings suggest; `known` [B, P] says of which gripper plans it has seen enough."""

    def __init__(
        self, space: ActionSpace, memory: Memory, samples: Sequence[Sample], *, most: int = 96
    ) -> None:
        first = samples[0].imagined
        self._space = space
        self._parts = {name: value.shape[2:] for name, value in _parts(first).items()}
        self._table = space.gripper_plans(first.poses.shape[2], first.poses) if space.switched else None
        actions = torch.cat([s.actions for s in samples], 1)
        energies = torch.cat([s.energies for s in samples], 1)
        points, plans = self._described(memory, actions)
        self._fits, known = [], []
        numbers = sum(value[0, 0].numel() for value in _parts(first).values())
        for b in range(len(energies)):
            order = energies[b].argsort()[: min(most, max(2, MOST // numbers))]
            outcome = torch.cat([_flat(s.imagined, b) for s in samples])[order]
            fit = _Fit(points[b, order], plans[b, order], outcome, energies[b, order], self._plan_count)
            self._fits.append(fit)
            known.append(fit.seen >= KNOWN)
        self.known = torch.stack(known)

    @property
    def _plan_count(self) -> int:
        return 1 if self._table is None else len(self._table)

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        points, plans = self._described(memory, actions)
        each = [fit(x, p) for fit, x, p in zip(self._fits, points, plans, strict=True)]
        flat = torch.stack(each) if len(each) > 1 else each[0][None]  # [B, K, M]
        sizes = [shape.numel() for shape in self._parts.values()]
        found = {
            name: part.unflatten(2, shape)
            for (name, shape), part in zip(self._parts.items(), flat.split(sizes, 2), strict=True)
        }
        return Imagined(latents=found.pop("latents"), poses=found.pop("poses"), extras=found)

    def _described(self, memory: Memory, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The searched numbers [B, K, d] of actions [B, K, H, A], and which gripper plan they follow [B, K]."""
        points = self._space.take(actions).flatten(2)
        if self._table is None:
            return points, torch.zeros_like(points[..., 0], dtype=torch.long)
        same = self._space.targets(actions, memory)[:, :, None] == self._table  # [B, K, P, H]
        return points, same.all(-1).long().argmax(-1)


class _Fit:
    """Weighted least squares of one problem; the better a candidate, the more it counts."""

    def __init__(
        self, points: Tensor, plans: Tensor, outcome: Tensor, energies: Tensor, plan_count: int
    ) -> None:
        """points [n, d], plans [n], outcome [n, M], energies [n] from the lowest up."""
        n, d = points.shape
        one = torch.arange(d, device=points.device)
        self._rows, self._columns = (
            torch.triu_indices(d, d, device=points.device) if d <= FULL else (one, one)
        )
        self._plan_count, self._best, self._at_best = plan_count, points[0], outcome[0]
        above = torch.where(torch.isfinite(energies), energies - energies[0], torch.inf)
        scale = above[min(n - 1, d + len(self._rows))]
        weights = torch.exp(-above / scale.clamp(min=1e-12, max=1e12))
        offset = points - self._best
        self._size = ((weights[:, None] * offset.square()).sum(0) / weights.sum()).sqrt().clamp(min=1e-6)
        self.seen = points.new_zeros(plan_count).index_add(0, plans, weights)
        design = self._features(points, plans).double()  # [n, F]
        held = torch.full_like(design[0], LOOSE)
        held[plan_count + d :] = TIGHT
        gram = design.T @ (weights[:, None] * design) + torch.diag(held * weights.sum())
        change = torch.where(weights[:, None] > 0, outcome - self._at_best, 0.0)
        self._beta = torch.linalg.solve(gram, (weights[:, None] * design).T).to(points) @ change  # [F, M]

    def __call__(self, points: Tensor, plans: Tensor) -> Tensor:
        return torch.addmm(self._at_best, self._features(points, plans), self._beta)

    def _features(self, points: Tensor, plans: Tensor) -> Tensor:
        u = (points - self._best) / self._size
        return torch.cat(
            [one_hot(plans, self._plan_count).to(u), u, u[:, self._rows] * u[:, self._columns]], 1
        )


def _parts(imagined: Imagined) -> dict[str, Tensor]:
    return {"latents": imagined.latents, "poses": imagined.poses, **imagined.extras}


def _flat(imagined: Imagined, problem: int) -> Tensor:
    """[n, M]."""
    return torch.cat([value[problem].flatten(1) for value in _parts(imagined).values()], 1)
