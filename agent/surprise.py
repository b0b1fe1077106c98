"""Surprise: how far what is perceived lies from what was imagined, in units of what is normal.

The scale comes from ordinary episodes (`calibrate`): a value of 1 is the 99th percentile of normal steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data.types import CLOSEDNESS, Memory

from .perception import Percept


class Surprised(Protocol):
    def measure(self, imagined_latent: Tensor, imagined_pose: Tensor, percept: Percept) -> float: ...


@dataclass(kw_only=True)
class SurpriseScale:
    """What is normal: the 99th percentile of each error on ordinary episodes."""

    latent: float = 1.0
    """Mean squared latent error of one imagined step."""
    position_m: float = 0.02
    """Distance between imagined and measured position."""
    strong: float = 3.0
    """Above this the agent stops and holds."""
    mild: float = 1.0
    """Above this it thinks afresh."""


@dataclass
class Surprise:
    """Measures, and remembers for how long it has lasted."""

    scale: SurpriseScale = field(default_factory=SurpriseScale)
    history: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)

    @torch.no_grad()
    def measure(self, imagined_latent: Tensor, imagined_pose: Tensor, percept: Percept) -> float:
        """imagined_latent [1, N, D], imagined_pose [1, 7]: what the last action was expected to lead to."""
        latent = float((imagined_latent - percept.latent).square().mean()) / self.scale.latent
        position = float((imagined_pose[:, :3] - percept.pose[:, :3]).norm()) / self.scale.position_m
        self.parts.append({"latent": latent, "position": position})
        self.history.append(max(latent, position))
        return self.history[-1]

    def describe(self) -> str:
        """What differs, and since when, in words."""
        part = self.parts[-1]
        what = (
            "the picture is not what was imagined"
            if part["latent"] >= part["position"]
            else "the arm is not where it should be"
        )
        lasting = 0
        for value in reversed(self.history):
            if value < self.scale.mild:
                break
            lasting += 1
        return f"{what} ({self.history[-1]:.1f} times the normal limit, for {lasting} step{'s' if lasting != 1 else ''})"


@torch.no_grad()
def surprise_at_rest(model: Any, scale: SurpriseScale, percept: Percept) -> float:
    """How surprised one would be to stand still here and see nothing change: much where the model does not know its way."""
    told = torch.zeros(1, 1, 1, 7)
    if getattr(model, "absolute_gripper", False):
        told[..., CLOSEDNESS] = percept.pose[0, CLOSEDNESS].round()
    memory = Memory(
        latents=percept.latent[:, None], poses=percept.pose[:, None], actions=percept.pose.new_zeros(1, 0, 7)
    )
    imagined = model.imagine(memory, told)
    return Surprise(scale=scale).measure(imagined.latents[:, 0, 0], imagined.poses[:, 0, 0], percept)


def scale_from(latent_errors: np.ndarray, position_errors: np.ndarray) -> SurpriseScale:
    """The scale of normal episodes."""
    return SurpriseScale(
        latent=float(np.quantile(latent_errors, 0.99)),
        position_m=max(0.005, float(np.quantile(position_errors, 0.99))),
    )
