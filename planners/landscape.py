"""Energies on a grid around an action: what the planner sees, for pictures and for checks of a world model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.types import Memory
from planners.protocols import Energy, Imagines


@dataclass(kw_only=True, slots=True)
class Landscape:
    """Energies over one pair of axes."""

    axes: tuple[int, int]
    first: Tensor  # [P] values of the first axis of the action
    second: Tensor  # [Q]
    energies: Tensor  # [B, P, Q]
    terms: dict[str, Tensor]  # [B, P, Q] each

    def lowest(self) -> Tensor:
        """Where the energy is least: the values of both axes [B, 2]."""
        index = self.energies.flatten(1).argmin(1)
        columns = self.energies.shape[2]
        return torch.stack([self.first[index // columns], self.second[index % columns]], -1)


@torch.no_grad()
def landscape(
    memory: Memory,
    model: Imagines,
    energy: Energy,
    actions: Tensor,
    *,
    axes: tuple[int, int] = (0, 2),
    half_width: float | tuple[float, float] = 0.075,
    points: int = 21,
    steps: Sequence[int] = (0,),
    relative: bool = True,
    batch: int = 512,
) -> Landscape:
    """Energies on a grid of two axes of the actions [B, H, A].

    Args:
        half_width: how far the grid goes to each side, in the axes' units.
        points: grid points per axis; odd, so that the middle is one.
        steps: steps of the plan that are changed together.
        relative: around the first problem's action at the first of `steps`; False: around zero.
        batch: candidates imagined at once.
    """
    widths = half_width if isinstance(half_width, tuple) else (half_width, half_width)
    values = []
    for axis, width in zip(axes, widths):
        middle = actions[0, steps[0], axis] if relative else actions.new_zeros(())
        values.append(
            middle + torch.linspace(-width, width, points, device=actions.device, dtype=actions.dtype)
        )
    grid = torch.cartesian_prod(*values)  # [P * Q, 2]
    candidates = actions[:, None].repeat(1, len(grid), 1, 1)
    for step in steps:
        for column, axis in enumerate(axes):
            candidates[:, :, step, axis] = grid[:, column]
    pieces: dict[str, list[Tensor]] = {}
    for start in range(0, len(grid), batch):
        part = candidates[:, start : start + batch]
        for name, value in energy.terms(memory, model.imagine(memory, part), part).items():
            pieces.setdefault(name, []).append(value)
    terms = {name: torch.cat(parts, 1).unflatten(1, (points, points)) for name, parts in pieces.items()}
    total = torch.stack(list(terms.values())).sum(0)
    return Landscape(axes=axes, first=values[0], second=values[1], energies=total, terms=terms)
