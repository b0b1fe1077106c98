"""From a latent back to small pictures, for people to look at; no gradient of it reaches the world model."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _grow(inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inside, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU()
    )  # fmt: skip


class Decoder(nn.Module):
    """Latents [..., N, D] -> pictures [..., V, size, size, 3] between 0 and 1."""

    def __init__(
        self, *, tokens: int = 1, dim: int = 256, views: int = 2, size: int = 64, width: int = 128
    ) -> None:
        super().__init__()
        side = math.isqrt(tokens // views) if tokens > 1 else 4
        if tokens > 1 and side * side * views != tokens:
            raise ValueError(
                f"{tokens} tokens are not {views} square grids: this decoder cannot lay them out"
            )
        doublings = round(math.log2(size / side))
        if side * 2**doublings != size:
            raise ValueError(
                f"size {size} is not {side} doubled some times: choose {side * 2 ** max(doublings, 1)}"
            )
        self.tokens, self.views, self.side = tokens, views, side
        self.width = width
        self.lay = nn.Linear(dim, width if tokens > 1 else views * width * side * side)
        widths = [max(width >> i, 16) for i in range(doublings + 1)]
        self.grow = nn.Sequential(*(_grow(a, b) for a, b in itertools.pairwise(widths)))
        self.paint = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        lead = latents.shape[:-2]
        x = self.lay(latents.flatten(0, -3) if lead else latents[None])
        if self.tokens > 1:  # views are stacked as rows of one grid
            x = x.unflatten(1, (self.views, self.side, self.side)).permute(0, 1, 4, 2, 3)
        else:
            x = x.reshape(-1, self.views, self.width, self.side, self.side)
        picture = self.paint(self.grow(x.flatten(0, 1))).float().sigmoid()
        picture = picture.permute(0, 2, 3, 1).unflatten(0, (-1, self.views))
        return picture.unflatten(0, lead) if lead else picture[0]

    def loss(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Half squared, half absolute error against uint8 frames [B, V, H, W, 3], shrunk to the decoder's size."""
        made = self(latents).flatten(0, 1).permute(0, 3, 1, 2)
        with torch.no_grad():
            wanted = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
            wanted = F.interpolate(wanted, size=made.shape[-2:], mode="area")
        return F.mse_loss(made, wanted) + 0.1 * F.l1_loss(made, wanted)
