"""Which tokens are seen and which are predicted: I-JEPA's multi-block masks and V-JEPA's tubes.

Grids are (T, H, W) in tokens, T = 1 for an image; token ids run time, row, column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Grid = tuple[int, int, int]


@dataclass(kw_only=True, slots=True)
class Mask:
    """Token ids of a batch, ascending: what the encoder sees, and one or more sets that are predicted."""

    context: Tensor  # [B, Nc]
    targets: tuple[Tensor, ...]  # [B, Nt] each


@dataclass(kw_only=True, slots=True)
class Tubes:
    """`count` rectangles of `scale` of the frame's area each, through all of time; their union is predicted."""

    count: int = 8
    scale: tuple[float, float] = (0.15, 0.15)
    aspect: tuple[float, float] = (0.75, 1.5)


SHORT = Tubes(count=8, scale=(0.15, 0.15))  # V-JEPA's short-range masks
LONG = Tubes(count=2, scale=(0.7, 0.7))  # and long-range ones


def _uniform(low_high: tuple[float, float], generator: torch.Generator) -> float:
    low, high = low_high
    return low + (high - low) * torch.rand((), generator=generator).item()


def _size(grid: Grid, scale: float, aspect: float) -> tuple[int, int]:
    _, rows, columns = grid
    area = scale * rows * columns
    return (
        min(max(round(math.sqrt(area * aspect)), 1), rows),
        min(max(round(math.sqrt(area / aspect)), 1), columns),
    )


def _rectangle(grid: Grid, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """bool [H, W], one rectangle of that size somewhere."""
    _, rows, columns = grid
    top = int(torch.randint(rows - size[0] + 1, (), generator=generator))
    left = int(torch.randint(columns - size[1] + 1, (), generator=generator))
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    inside[top : top + size[0], left : left + size[1]] = True
    return inside


def _ids(chosen: Sequence[Tensor], grid: Grid, generator: torch.Generator) -> Tensor:
    """bool [H, W] per sample -> ids [B, N]; longer ones lose random tokens so that all are equally many."""
    ids = [c.expand(grid).flatten().nonzero().squeeze(1) for c in chosen]
    n = min(len(i) for i in ids)
    return torch.stack([i[torch.randperm(len(i), generator=generator)[:n].sort().values] for i in ids])


def tube_mask(grid: Grid, batch: int, generator: torch.Generator, tubes: Tubes = SHORT) -> Mask:
    """V-JEPA: the encoder sees what lies outside every tube, and the union of the tubes is predicted."""
    if tubes.scale[0] >= 1:
        raise ValueError(f"a tube of the whole frame (scale {tubes.scale}) leaves no context")
    hidden: list[Tensor] = []
    size = _size(grid, _uniform(tubes.scale, generator), _uniform(tubes.aspect, generator))
    if size == tuple(grid[1:]):
        raise ValueError(
            f"tubes of scale {tubes.scale} fill the whole {grid[1]} x {grid[2]} grid: use smaller ones"
        )
    while len(hidden) < batch:
        union = torch.zeros(grid[1:], dtype=torch.bool)
        for _ in range(tubes.count):
            covered = union | _rectangle(grid, size, generator)
            if covered.all():  # a context of nothing teaches nothing
                break
            union = covered
        hidden.append(union)
    return Mask(context=_ids([~h for h in hidden], grid, generator), targets=(_ids(hidden, grid, generator),))


def multiblock_mask(
    grid: Grid,
    batch: int,
    generator: torch.Generator,
    *,
    targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
) -> Mask:
    """I-JEPA: a large square-ish block is seen, less the target blocks; each target block is predicted alone."""
    size = _size(grid, _uniform(target_scale, generator), _uniform(target_aspect, generator))
    large = _size(grid, _uniform(context_scale, generator), 1.0)
    blocks: list[list[Tensor]] = []
    seen: list[Tensor] = []
    while len(seen) < batch:
        mine = [_rectangle(grid, size, generator) for _ in range(targets)]
        context = _rectangle(grid, large, generator) & ~torch.stack(mine).any(0)
        if context.any():
            blocks.append(mine)
            seen.append(context)
    return Mask(
        context=_ids(seen, grid, generator),
        targets=tuple(_ids([b[i] for b in blocks], grid, generator) for i in range(targets)),
    )


def coordinates(ids: Tensor, grid: Grid) -> Tensor:
    """Token ids [...] -> (time, row, column) [..., 3]."""
    _, rows, columns = grid
    return torch.stack([ids // (rows * columns), ids // columns % rows, ids % columns], -1)
