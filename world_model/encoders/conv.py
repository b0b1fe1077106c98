"""A small convolutional eye for two cores: one picture to one vector."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 4  # pixels folded into channels before the first convolution


class Residual(nn.Module):
    """x + conv(silu(conv(silu(norm(x)))))"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class Points(nn.Module):
    """Where things are, directly: the mean position of each of some soft masks over a feature map."""

    def __init__(self, channels: int, side: int, count: int) -> None:
        super().__init__()
        self.masks = nn.Conv2d(channels, count, 1)
        line = torch.linspace(-1.0, 1.0, side)
        self.register_buffer(
            "grid", torch.stack(torch.meshgrid(line, line, indexing="xy")).flatten(1), persistent=False
        )
        self.grid: Tensor  # [2, side * side]

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, side, side] -> [B, 2 * count]"""
        share = (4.0 * self.masks(features).flatten(2).float()).softmax(-1)
        return (share @ self.grid.T).flatten(1)


class ConvEncoder(nn.Module):
    """uint8 [B, H, W, 3] -> [B, width].  Where things are must survive: the last map is flattened, not pooled."""

    def __init__(
        self,
        *,
        image_size: int = 128,
        channels: tuple[int, ...] = (48, 64, 96, 128),
        width: int = 384,
        shrink: int = 1,
        points: int = 32,
    ) -> None:
        super().__init__()
        fold = PATCH * shrink
        least = fold * 2 ** (len(channels) - 1)
        if image_size < least or image_size % fold:
            raise ValueError(
                f"image_size {image_size}: this encoder takes multiples of {fold} pixels, from {least} upwards"
            )
        layers: list[nn.Module] = [nn.Conv2d(3 * PATCH * PATCH, channels[0], 1)]
        for before, after in itertools.pairwise(channels):
            layers += [nn.SiLU(), nn.Conv2d(before, after, 4, stride=2, padding=1), Residual(after)]
        side = image_size // (PATCH * shrink)
        self.image_size, self.shrink = image_size, shrink
        self.body = nn.Sequential(*layers)
        self.points = Points(channels[1], side // 2, points)
        self.point_out = nn.Linear(2 * points, width)
        self.norm = nn.GroupNorm(8, channels[-1])
        side //= 2 ** (len(channels) - 1)
        self.out = nn.Linear(channels[-1] * side * side, width)

    def forward(self, frames: Tensor) -> Tensor:
        return self.late(self.early(frames))

    def early(self, frames: Tensor) -> Tensor:
        """The map [B, C, side, side] after the first halving: what is where, still fine enough to point."""
        if frames.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(
                f"the encoder takes frames [B, {self.image_size}, {self.image_size}, 3], got {list(frames.shape)}"
            )
        x = frames.permute(0, 3, 1, 2)
        if torch.is_autocast_enabled(x.device.type):  # half the memory to move; 0 .. 255 are exact
            x = x.to(torch.get_autocast_dtype(x.device.type))
        else:
            x = x.to(self.out.weight.dtype)
        if self.shrink > 1:
            x = F.avg_pool2d(x, self.shrink)
        x = F.pixel_unshuffle(x.mul(1 / 64).sub_(2.0), PATCH).contiguous(memory_format=torch.channels_last)
        return self.body[:4](x)  # the first halving and its residual

    def late(self, early: Tensor) -> Tensor:
        x = F.silu(self.norm(self.body[4:](early)))
        return self.out(x.flatten(1)) + self.point_out(self.points(early))
