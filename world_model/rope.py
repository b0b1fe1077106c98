"""Rotary positions over time, row and column, in V-JEPA 2's two variants.

A head's channels are cut in time | row | column | rest; each axis gets 2 * ((head_dim // 3) // 2) of them and the
rest stays as it is.  Channel pairs (x0, x1) are turned by position * w_i with w_i = 10000^(-i / (d / 2)).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

RopeStyle = Literal["tiled", "interleaved"]


def rotary_tables(positions: Tensor, head_dim: int, style: RopeStyle = "tiled") -> tuple[Tensor, Tensor]:
    """Positions (time, row, column) [..., N, 3] -> cos and signed sin [..., N, head_dim], for `rotate`.

    "interleaved" is the textbook's (V-JEPA 2.1): both members of a pair turn by the same angle.  "tiled" is V-JEPA
    2's: the frequencies are laid out [w0 w1 .. w0 w1 ..] over pairs (0 1)(2 3).., so they turn by different ones;
    a mistake that its weights were trained with (vjepa2 PR #15).  A token at (t, 0, 0) is turned by time alone.
    """
    d = 2 * (head_dim // 3 // 2)
    if d < 2:
        raise ValueError(f"three-axis rotary positions need heads of 6 channels or more, got {head_dim}")
    w = 10000.0 ** (-torch.arange(d // 2, dtype=torch.float32, device=positions.device) / (d / 2))
    angle = positions.float().unsqueeze(-1) * w  # [..., N, 3, d/2]
    angle = torch.cat([angle, angle], -1) if style == "tiled" else angle.repeat_interleave(2, -1)
    angle = torch.nn.functional.pad(angle.flatten(-2), (0, head_dim - 3 * d))
    sign = torch.tensor([-1.0, 1.0], device=positions.device).repeat(head_dim // 2)
    if head_dim % 2:
        sign = torch.cat([sign, sign.new_zeros(1)])
    return angle.cos(), angle.sin() * sign


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., N, head_dim]: (x0, x1) -> (x0 cos0 - x1 sin0, x1 cos1 + x0 sin1); the signs are in `sin`."""
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cos.to(x.dtype) + swapped * sin.to(x.dtype)


def grid_positions(
    grid: tuple[int, int, int], *, ids: Tensor | None = None, stretch: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """(time, row, column) of the tokens of a (T, H, W) grid, [N, 3]; of `ids` [B, n] alone, [B, n, 3].

    Rows and columns are multiplied by `stretch`.
    """
    t, h, w = grid
    if ids is None:
        ids = torch.arange(t * h * w)
    scale = torch.tensor([1.0, *stretch], device=ids.device)
    return torch.stack([ids // (h * w), ids // w % h, ids % w], -1) * scale
