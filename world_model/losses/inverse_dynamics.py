"""Inverse dynamics: which action led from one latent to the next?  Keeps what the arm controls in the latent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.types import ACTION_SIZE

# What one model step changes, roughly: metres, radians, closedness.  Makes the seven errors comparable.
ACTION_SCALE = (0.03, 0.03, 0.03, 0.1, 0.1, 0.1, 0.5)


class InverseDynamics(nn.Module):
    """(latent before, latent after) [..., N, D] -> action [..., 7] in real units."""

    def __init__(
        self,
        *,
        tokens: int,
        dim: int,
        hidden: int = 256,
        squeeze: int | None = None,
        action_scale: Sequence[float] = ACTION_SCALE,
    ) -> None:
        """`squeeze` channels are kept of each token before they are laid side by side (for many tokens)."""
        super().__init__()
        self.squeeze = nn.Linear(dim, squeeze) if squeeze else nn.Identity()
        width = tokens * (squeeze or dim)
        self.net = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, len(action_scale)),
        )  # fmt: skip
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(action_scale))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        before, after = self.squeeze(before).flatten(-2), self.squeeze(after).flatten(-2)
        return self.net(torch.cat([after - before, after], -1)) * self.scale

    def loss(self, latents: Tensor, actions: Tensor, predicted: Tensor | None = None) -> Tensor:
        """smooth L1 of action errors in units of `scale`, on pairs (z_t, z_t+1) of latents [B, T, N, D] and,
        where given, on pairs (z_t, zhat_t+1) with `predicted` [B, T-1, N, D]; actions [B, T-1, 7]."""
        before = latents[:, :-1]
        target = actions / self.scale
        loss = F.smooth_l1_loss(self(before, latents[:, 1:]) / self.scale, target)
        if predicted is not None:
            loss = (loss + F.smooth_l1_loss(self(before, predicted) / self.scale, target)) / 2
        return loss


assert len(ACTION_SCALE) == ACTION_SIZE
