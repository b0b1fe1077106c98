"""The real frames that are nearest to an imagined latent: what a decoder might flatter, memory does not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(kw_only=True)
class Near:
    """A real frame, where it is from and how far it is, in units of two random frames' distance."""

    frames: np.ndarray  # uint8 [V, H, W, 3]
    where: str
    distance: float


@dataclass
class RealFrames:
    """Frames that were really seen, with their latents; `scale` is the distance of two random frames."""

    scale: float = 1.0
    _latents: list[Tensor] = field(default_factory=list)  # each [N D]
    _frames: list[np.ndarray] = field(default_factory=list)
    _where: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._latents)

    def add(self, latents: Tensor, frames: np.ndarray, where: str) -> None:
        """One moment: latents [N, D], frames uint8 [V, H, W, 3]."""
        self._latents.append(latents.flatten().float())
        self._frames.append(frames)
        self._where.append(where)

    def nearest(self, latents: Tensor) -> Near:
        """To an imagined latent [N, D]."""
        if not self._latents:
            raise ValueError("nothing was seen yet: add a frame first")
        gaps = (torch.stack(self._latents) - latents.flatten()).square().mean(1)
        best = int(gaps.argmin())
        return Near(
            frames=self._frames[best], where=self._where[best], distance=float(gaps[best]) / self.scale
        )
