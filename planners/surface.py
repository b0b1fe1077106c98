"""A quadratic surface through the energies seen so far, and where it is lowest.

Imagining is dear and a small linear solve is cheap: near the optimum a handful of good candidates already tells
where the energy bottoms out, long before the spread of a population has shrunk to it.

Letters: B problems, n points, d dimensions, F features of the surface.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planners.belief import Belief
from planners.search import Search

SHARES = (1.0, 0.5, 1.5, 0.25)  # of the way from the best point to the surface's lowest
MOST = 12  # dimensions: beyond, the solve costs more than it saves, and squares without products save nothing
REACH = 3.0  # how far beyond the points the surface is believed, in their deviations


def lowest(points: Tensor, energies: Tensor, usable: Tensor, count: int) -> Tensor:
    """Up to four guesses [B, count, d] of where the energy is least.

    Args:
        points: [B, n, d], with d at most `MOST`.
        energies: [B, n]; infinite ones are left out.
        usable: [B, n], which points the surface may go through (those with the best one's gripper plan).
    """
    return torch.stack([_lowest(*each, count) for each in zip(points, energies, usable)]).to(points)


def with_guesses(
    search: Search,
    belief: Belief,
    actions: Tensor,
    plans: Tensor | None,
    seen: list[tuple[Tensor, Tensor, Tensor | None]],
    guesses: int,
) -> tuple[Tensor, Tensor | None]:
    """Candidates with a few more [B, K + guesses, H, A] where a surface through the energies seen is lowest."""
    values, energies = torch.cat([v for v, _, _ in seen], 1), torch.cat([e for _, e, _ in seen], 1)
    usable, first = torch.ones_like(energies, dtype=torch.bool), energies.argmin(1, keepdim=True)
    kept = None
    if plans is not None:
        all_plans = torch.cat([p for _, _, p in seen if p is not None], 1)
        kept = all_plans.gather(1, first)
        usable = all_plans == kept
    points = lowest(values.flatten(2), energies, usable, guesses).unflatten(2, values.shape[2:])
    points = torch.minimum(torch.maximum(points, belief.low[:, None]), belief.high[:, None])
    more = belief.space.put(belief.centre[:, None].expand(-1, points.shape[1], -1, -1), points)
    if plans is not None and kept is not None and belief.table is not None:
        chosen = kept.expand(-1, points.shape[1])
        more = belief.space.with_targets(more, belief.table[chosen], search.memory)
        plans = torch.cat([plans, chosen], 1)
    return torch.cat([actions, more], 1), plans


def _lowest(points: Tensor, energies: Tensor, usable: Tensor, count: int) -> Tensor:
    usable = usable & torch.isfinite(energies)
    if not usable.any():
        return points[:1].double().expand(min(count, len(SHARES)), -1)
    points, energies = points[usable], energies[usable]
    n, d = points.shape
    rows, columns = torch.triu_indices(d, d, device=points.device)
    features = 1 + d + len(rows)
    order = energies.argsort()[: 3 * features]  # far and bad points bend the surface
    points, energies = points[order].double(), energies[order].double()
    best = points[0]
    if n < d + 2:
        return best.expand(min(count, len(SHARES)), d)
    above = energies - energies[0]
    weights = torch.exp(-above / above[min(len(order) - 1, features)].clamp(min=1e-12))
    offset = points - best
    size = ((weights[:, None] * offset.square()).sum(0) / weights.sum()).sqrt().clamp(min=1e-9)
    u = offset / size
    design = torch.cat([torch.ones_like(u[:, :1]), u, u[:, rows] * u[:, columns]], 1)  # [n, F]
    gram = design.T @ (weights[:, None] * design)
    ridge = (1e-7 if n >= features else 1e-3) * gram.diagonal().mean()
    beta = torch.linalg.solve(
        gram + ridge * torch.eye(features, dtype=u.dtype, device=u.device), design.T @ (weights * above)
    )
    curvature = u.new_zeros(d, d)
    curvature[rows, columns] = beta[d + 1 :]
    curvature = curvature + curvature.T
    values, vectors = torch.linalg.eigh(curvature)
    values = values.abs().clamp(
        min=1e-3 * float(values.abs().max()) + 1e-12
    )  # downhill even where it bends down
    step = -vectors @ ((vectors.T @ beta[1 : d + 1]) / values)
    step = torch.nan_to_num(step) / max(1.0, float(torch.nan_to_num(step).abs().max()) / REACH)
    shares = torch.tensor(SHARES[:count], dtype=u.dtype, device=u.device)
    return best + shares[:, None] * step * size
