"""What the model's eye makes of a picture, where: feature maps in three colours, and what differs from the goal.

A dense model's latent is itself a map, token by token.  A compact model's is one vector: there the eye's map before
pooling is shown, and a difference is led back to it by integrated gradients, whose sum is the latent distance.
Letters: V views, C channels, h w a map's rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PATH_POINTS = 3  # of the path that gradients are integrated along: the midpoints of as many pieces


@dataclass(kw_only=True)
class Basis:
    """The first three principal components of a cloud of features, as red, green and blue."""

    mean: Tensor  # [C]
    axes: Tensor  # [C, 3]
    low: Tensor  # [3]
    high: Tensor  # [3]

    @classmethod
    def of(cls, features: Tensor) -> Basis:
        """features [n, C]; the colours span all but the outermost hundredths."""
        x = features.double()
        mean = x.mean(0)
        _, _, v = torch.linalg.svd(x - mean, full_matrices=False)
        axes = torch.zeros(x.shape[1], 3, dtype=x.dtype)
        axes[:, : min(3, len(v))] = v[:3].T
        axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)  # the sign is nobody's choice: make it stable
        placed = (x - mean) @ axes
        low, high = placed.quantile(0.01, 0), placed.quantile(0.99, 0)
        return cls(mean=mean, axes=axes, low=low, high=torch.maximum(high, low + 1e-9))

    def place(self, features: Tensor) -> Tensor:
        """[..., C] -> coordinates [..., 3]"""
        return ((features.double() - self.mean) @ self.axes).float()

    def colours(self, features: Tensor) -> np.ndarray:
        """[..., C] -> uint8 [..., 3]"""
        share = (self.place(features).double() - self.low) / (self.high - self.low)
        return (255 * share.clamp(0, 1)).round().byte().numpy()


def can_map(model: Any) -> bool:
    """Whether there are maps to draw: of tokens, or of an eye before it pools."""
    return hasattr(model, "maps") or hasattr(model, "encoder")


def has_tokens(latents: Tensor, views: int) -> bool:
    """Whether latents [..., N, D] are square maps, one a view."""
    return latents.shape[-2] > 1 and math.isqrt(latents.shape[-2] // views) ** 2 * views == latents.shape[-2]


def token_maps(latents: Tensor, views: int) -> list[Tensor]:
    """[N, D] -> one [h, w, D] a view; the views are stacked as rows of one grid."""
    side = math.isqrt(latents.shape[-2] // views)
    return list(latents.unflatten(-2, (views, side, side)))


@torch.no_grad()
def eye_maps(model: Any, frames: Tensor) -> list[Tensor]:
    """A compact model's maps of frames [B, V, H, W, 3]: one [B, C, h, w] a view."""
    return [found.float() for found in model.maps(frames)]


def token_difference(latents: Tensor, goal: Tensor, views: int) -> list[Tensor]:
    """Squared distance of each token: one [h, w] a view; their mean is the latent distance."""
    return [m.square().mean(-1) for m in token_maps(latents - goal, views)]


def eye_difference(model: Any, now: Sequence[Tensor], there: Sequence[Tensor], goal: Tensor) -> list[Tensor]:
    """Which places make a compact model's latent differ from the goal's [N, D]: one [B, h, w] a view.

    Integrated gradients of |z - g|^2 / D from the goal's maps [1, C, h, w] to those of the frames [B, C, h, w]: over
    all places they add up to the distance.
    """
    along = ((torch.arange(PATH_POINTS) + 0.5) / PATH_POINTS)[:, None, None, None, None]
    between = [
        (start + along * (end - start)).flatten(0, 1).requires_grad_()
        for start, end in zip(there, now, strict=True)
    ]
    with torch.enable_grad():
        distance = (model.from_maps(between) - goal).square().mean((-1, -2)).sum()
        slopes = torch.autograd.grad(distance, between)
    return [
        (slope.unflatten(0, (PATH_POINTS, -1)).mean(0) * (end - start)).sum(1)
        for slope, start, end in zip(slopes, there, now, strict=True)
    ]


def heated(frame: np.ndarray, heat: Tensor, most: float) -> np.ndarray:
    """A greyed picture uint8 [H, W, 3] with heat [h, w] over it; `most` is the heat that is quite orange."""
    size = frame.shape[:2]
    share = F.interpolate(
        heat.clamp(min=0)[None, None].float(), size=size, mode="bilinear", align_corners=False
    )
    share = (share[0, 0] / max(most, 1e-12)).clamp(0, 1).sqrt().numpy()[..., None]
    grey = 40 + 0.6 * frame.astype(np.float32).mean(-1, keepdims=True)
    warm = np.array([255.0, 120.0, 40.0]) * (0.55 + 0.45 * share)
    return (grey * (1 - 0.85 * share) + warm * 0.85 * share).clip(0, 255).astype(np.uint8)
