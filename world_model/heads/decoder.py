"""From a latent back to small pictures, for people to look at; no gradient of it reaches the world model.

Letters: B batch, V views, N tokens, D channels of a latent, C channels of a map.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOVING_WEIGHT = 8.0  # arm and object are a few hundred of thousands of pixels
EDGE_WEIGHT = 0.5


class _Grow(nn.Module):
    """Twice the size; then x + conv(silu(conv(silu(norm(x))))), scaled and shifted by what the latent says."""

    def __init__(self, inside: int, out: int, code: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(inside, out, 1)
        self.norm = nn.GroupNorm(8, out)
        self.say = nn.Linear(code, 2 * out)
        self.first = nn.Conv2d(out, out, 3, padding=1)
        self.second = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = F.interpolate(self.widen(x), scale_factor=2, mode="nearest")
        scale, shift = self.say(code)[:, :, None, None].chunk(2, 1)
        change = self.first(F.silu(self.norm(x) * (1 + scale) + shift))
        return x + self.second(F.silu(change))


class Decoder(nn.Module):
    """Latents [..., N, D] -> pictures [..., V, size, size, 3] between 0 and 1."""

    def __init__(
        self,
        *,
        tokens: int = 1,
        dim: int = 256,
        views: int = 2,
        size: int = 64,
        width: int = 128,
        code: int = 256,
    ) -> None:
        super().__init__()
        side = math.isqrt(tokens // views) if tokens > 1 else 4
        if tokens > 1 and side * side * views != tokens:
            raise ValueError(
                f"{tokens} tokens are not {views} square grids: this decoder cannot lay them out"
            )
        doublings = round(math.log2(size / side))
        if side * 2**doublings != size or doublings < 1:
            raise ValueError(
                f"size {size} is not {side} doubled some times: choose {side * 2 ** max(doublings, 1)}"
            )
        self.tokens, self.views, self.side, self.width = tokens, views, side, width
        self.listen = nn.Sequential(nn.Linear(dim, code), nn.SiLU(), nn.Linear(code, code), nn.SiLU())
        self.lay = nn.Linear(dim, width) if tokens > 1 else nn.Linear(code, views * width * side * side)
        self.eye = nn.Embedding(views, code)  # the views share what follows
        widths = [max(width >> (i + 1) // 2, 16) for i in range(doublings)]
        self.grow = nn.ModuleList(_Grow(a, b, code) for a, b in itertools.pairwise(widths))
        self.paint = nn.Sequential(
            nn.GroupNorm(8, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 12, 3, padding=1), nn.PixelShuffle(2)
        )  # fmt: skip

    def forward(self, latents: Tensor) -> Tensor:
        lead = latents.shape[:-2]
        x = latents.flatten(0, -3) if lead else latents[None]
        code = self.listen(x.mean(1))
        if self.tokens > 1:  # views are stacked as rows of one grid
            maps = self.lay(x).unflatten(1, (self.views, self.side, self.side)).permute(0, 1, 4, 2, 3)
        else:
            maps = self.lay(code).reshape(-1, self.views, self.width, self.side, self.side)
        x = maps.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # [B V, C, side, side]
        told = (code[:, None] + self.eye.weight).flatten(0, 1)
        for grow in self.grow:
            x = grow(x, told)
        picture = self.paint(x).float().sigmoid().permute(0, 2, 3, 1).unflatten(0, (-1, self.views))
        return picture.unflatten(0, lead) if lead else picture[0]

    def loss(self, latents: Tensor, frames: Tensor, others: Tensor | None = None) -> Tensor:
        """Absolute error of colours and edges at three scales against uint8 frames [B, V, H, W, 3].

        `others` are frames of another moment of the same episodes: what differs there is what moves, and counts most.
        """
        made = self(latents).flatten(0, 1).permute(0, 3, 1, 2)
        with torch.no_grad():
            wanted = shrunk(frames, made.shape[-1])
            weight = torch.ones_like(wanted[:, :1])
            if others is not None:
                change = (shrunk(others, made.shape[-1]) - wanted).abs().amax(1, keepdim=True)
                weight = weight + MOVING_WEIGHT * (4 * change).clamp(max=1)
            weight = weight / weight.mean()
        loss = made.new_zeros(())
        for scale in range(3):
            if scale and made.shape[-1] >= 8:
                made, wanted, weight = (F.avg_pool2d(x, 2) for x in (made, wanted, weight))
            loss = loss + (weight * (made - wanted).abs()).mean()
            for axis in (-1, -2):
                edge = (made.diff(dim=axis) - wanted.diff(dim=axis)).abs()
                loss = loss + EDGE_WEIGHT * (weight.narrow(axis, 1, edge.shape[axis]) * edge).mean()
        return loss


def shrunk(frames: Tensor, size: int) -> Tensor:
    """uint8 [B, V, H, W, 3] -> [B V, 3, size, size] between 0 and 1, each pixel the mean of those it covers."""
    x = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    return F.interpolate(x, size=(size, size), mode="area")


@torch.no_grad()
def picture_figures(decoder: Decoder, latents: Tensor, frames: Tensor, others: Tensor) -> dict[str, float]:
    """Mean absolute errors in grey levels 0 .. 255: of all pixels, of those that move, and of these for one who paints
    the other moment of the episode instead."""
    made = decoder(latents).flatten(0, 1).permute(0, 3, 1, 2)
    wanted, other = shrunk(frames, made.shape[-1]), shrunk(others, made.shape[-1])
    moving = ((wanted - other).abs().amax(1, keepdim=True) > 0.1).expand_as(wanted)
    count = moving.sum().clamp(min=1)
    error, copied = (255 * (picture - wanted).abs() for picture in (made, other))
    return {
        "error": error.mean().item(),
        "error_moving": ((error * moving).sum() / count).item(),
        "of_copying_moving": ((copied * moving).sum() / count).item(),
    }
