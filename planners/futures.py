"""Several futures for each candidate: samples of the latent variable z, their mean and how far they disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from data.types import Imagined, Memory
from planners.protocols import Imagines


@dataclass(kw_only=True)
class SampledFutures:
    """Imagines with every z of a fixed set; the mean future, with extras["disagreement"] [B, K, H]."""

    model: Imagines
    draw: Callable[[Memory, Tensor, torch.Generator], Tensor]
    """(memory, actions [B, K, H, A], generator) -> a z that `model.imagine` takes with these actions."""
    samples: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples is {self.samples}; disagreement needs at least two futures")

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        if z is not None:
            return self.model.imagine(memory, actions, z)
        generator = torch.Generator().manual_seed(self.seed)  # the same futures for all candidates and rounds
        futures = [
            self.model.imagine(memory, actions, self.draw(memory, actions, generator))
            for _ in range(self.samples)
        ]
        latents = torch.stack([future.latents for future in futures])
        poses = torch.stack([future.poses for future in futures])
        disagreement = latents.var(0).mean((-2, -1)).clamp(min=1e-12).sqrt()
        return Imagined(
            latents=latents.mean(0),
            poses=poses.mean(0),
            extras={**futures[0].extras, "disagreement": disagreement},
        )
