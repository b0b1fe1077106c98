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


class ConvEncoder(nn.Module):
    """uint8 [B, H, W, 3] -> [B, width].  Where things are must survive: the last map is flattened, not pooled."""

    def __init__(
        self,
        *,
        image_size: int = 128,
        channels: tuple[int, ...] = (48, 64, 96, 128),
        width: int = 384,
        shrink: int = 1,
    ) -> None:
        super().__init__()
        side = image_size // (PATCH * shrink)
        layers: list[nn.Module] = [nn.Conv2d(3 * PATCH * PATCH, channels[0], 1)]
        for before, after in itertools.pairwise(channels):
            layers += [nn.SiLU(), nn.Conv2d(before, after, 4, stride=2, padding=1), Residual(after)]
            side //= 2
        self.image_size, self.shrink = image_size, shrink
        self.body = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(8, channels[-1])
        self.out = nn.Linear(channels[-1] * side * side, width)

    def forward(self, frames: Tensor) -> Tensor:
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
        x = F.silu(self.norm(self.body(x)))
        return self.out(x.flatten(1))
