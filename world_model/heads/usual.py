"""Which errors of imagination are usual: measured on ordinary episodes, not trained.

Most of what a model gets wrong lies in a few directions of the latent (how far the hand has come).  An error of the
same length in any other direction (a thing that floats, a colour that changes) is far more telling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Usual(nn.Module):
    """Directions in which errors are large, the deviation along each, and the deviation in all others."""

    directions: Tensor  # [R, N * D], orthonormal
    deviations: Tensor  # [R]
    rest: Tensor  # []

    def __init__(self, *, tokens: int = 1, dim: int = 256, rank: int = 64) -> None:
        super().__init__()
        self.register_buffer("directions", torch.eye(rank, tokens * dim))
        self.register_buffer("deviations", torch.ones(rank))
        self.register_buffer("rest", torch.ones(()))

    @classmethod
    @torch.no_grad()
    def measured(cls, gaps: Tensor, *, rank: int = 64) -> Usual:
        """gaps [M, N, D]: seen minus imagined, on ordinary steps."""
        flat = gaps.flatten(-2).double()
        rank = min(rank, flat.shape[1] - 1, len(flat) // 4)
        if rank < 1:
            raise ValueError(f"{len(flat)} ordinary steps do not tell what is usual; give at least 4")
        usual = cls(tokens=gaps.shape[-2], dim=gaps.shape[-1], rank=rank)
        variances, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))  # ascending
        left = variances.clamp(min=0)[:-rank].mean()
        floor = torch.maximum(left, 1e-3 * variances.mean())
        usual.directions.copy_(vectors[:, -rank:].T)
        usual.deviations.copy_(torch.maximum(variances[-rank:], floor).sqrt())
        usual.rest.copy_(floor.sqrt())
        return usual

    def forward(self, gap: Tensor) -> Tensor:
        """gap [..., N, D] -> [...]: mean square in units of what is usual (about 1 on ordinary steps)."""
        flat = gap.flatten(-2)
        along = flat @ self.directions.T
        other = (flat.square().sum(-1) - along.square().sum(-1)).clamp(min=0) / self.rest**2
        return (other + (along / self.deviations).square().sum(-1)) / flat.shape[-1]
