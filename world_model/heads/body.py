"""Where the hand is and how far it is closed, from a picture alone.

A robot knows that of itself now; of a goal picture it has to see it, and where the two differ now, the camera moved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.types import CLOSEDNESS

TABLE_MIDDLE = (0.5, 0.0, 0.05)  # guesses of places are in decimetres from here


class Body(nn.Module):
    """z -> place [..., 3] in metres and closedness [...]."""

    def __init__(self, *, tokens: int = 1, dim: int = 256, width: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(tokens * dim, width), nn.SiLU(), nn.Linear(width, 4))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z [..., N, D]"""
        guess = self.net(z.flatten(-2)).float()
        return guess[..., :3] / 10 + guess.new_tensor(TABLE_MIDDLE), guess[..., 3]

    def loss(self, z: Tensor, poses: Tensor) -> Tensor:
        """Mean absolute error, nearly: a decimetre counts as much as opening the whole hand."""
        place, closed = self(z)
        gap = torch.cat([10 * (place - poses[..., :3]), (closed - poses[..., CLOSEDNESS])[..., None]], -1)
        return nearly_absolute(gap)


def nearly_absolute(gap: Tensor) -> Tensor:
    return F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.1)
