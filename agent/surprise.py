"""Surprise: how far what is perceived lies from what was imagined, in units of what is normal.

Four things are compared: the latent, the place of the hand, the fingers, and whether the pictures stand still although
the hand moves.  Each in units of its own limit, and the largest counts: 1 is the 99th percentile of ordinary steps.  Limits come from episodes that the agent drove itself (`calibrated`); those from logs (`scale_from`)
serve until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data.types import CLOSEDNESS, Memory

from .perception import Percept

WORDS = {
    "latent": "the picture is not what was imagined",
    "position": "the arm is not where it should be",
    "fingers": "the fingers are not where they should be",
    "frozen": "the pictures stand still although the arm moves",
}


class Surprised(Protocol):
    def measure(self, imagined_latent: Tensor, imagined_pose: Tensor, percept: Percept) -> float: ...


@dataclass(kw_only=True)
class SurpriseScale:
    """What is normal: the limit of each error on ordinary episodes."""

    latent: float = 1.0
    """Mean squared latent error of one imagined step."""
    position_m: float = 0.02
    """Distance between imagined and measured position."""
    fingers: float = 0.5
    """Difference between imagined and measured closedness."""
    frozen_m: float = 0.004
    """How far the hand has gone while the pictures stayed the same to the last bit."""
    strong: float = 3.0
    """Above this the agent stops and holds."""
    mild: float = 1.0
    """Above this it thinks afresh."""

    def parts(self, errors: Mapping[str, Any]) -> dict[str, Any]:
        """Errors, numbers or arrays, in units of their limits.  The latent's is a square already, and counts most near
        its limit; what the arm itself knows is either as usual or far off: a fourth power keeps the usual out of the way."""
        return {
            "latent": errors["latent"] / self.latent,
            "position": (errors["position"] / self.position_m) ** 4,
            "fingers": (errors["fingers"] / self.fingers) ** 4,
            "frozen": (errors["frozen"] / self.frozen_m) ** 4,
        }


@dataclass
class Surprise:
    """Measures, and remembers for how long it has lasted."""

    scale: SurpriseScale = field(default_factory=SurpriseScale)
    history: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)  # the last ones, in their own units
    _still: tuple[list[np.ndarray], Tensor] | None = (
        None  # the pictures, and where the hand was when they came
    )

    @torch.no_grad()
    def measure(self, imagined_latent: Tensor, imagined_pose: Tensor, percept: Percept) -> float:
        """imagined_latent [1, N, D], imagined_pose [1, 7]: what the last action was expected to lead to."""
        gap = percept.latent - imagined_latent
        away = imagined_pose - percept.pose
        self.errors = {
            "latent": float(gap.square().mean()),
            "position": float(away[:, :3].norm()),
            "fingers": float(away[:, CLOSEDNESS].abs()),
            "frozen": self._gone_unseen(percept),
        }
        self.parts.append(self.scale.parts(self.errors))
        self.history.append(max(self.parts[-1].values()))
        return self.history[-1]

    def _gone_unseen(self, percept: Percept) -> float:
        """How far the hand has gone since these very pictures came; pictures of one colour all over tell nothing."""
        frames = list(percept.observation.frames.values())
        same = self._still is not None and all(map(np.array_equal, frames, self._still[0]))
        if self._still is None or not same or all(frame.min() == frame.max() for frame in frames):
            self._still = [frame.copy() for frame in frames], percept.pose
        return float((percept.pose[:, :3] - self._still[1][:, :3]).norm())

    def describe(self) -> str:
        """What differs, and since when, in words."""
        what = WORDS[max(self.parts[-1], key=self.parts[-1].__getitem__)]
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
    """The scale by recorded steps.  There hands did what the log says they did; one that is told and presses on
    something falls short of what was imagined, so that less than the usual limit is not believed."""
    return SurpriseScale(
        latent=float(np.quantile(latent_errors, 0.99)),
        position_m=max(SurpriseScale().position_m, float(np.quantile(position_errors, 0.99))),
    )


def calibrated(errors: Sequence[Mapping[str, np.ndarray]]) -> SurpriseScale:
    """The scale by ordinary episodes of an agent's own: errors [T] of each.  1 % of these steps are beyond `mild`, and
    none comes near a stop."""
    if len(errors) < 4:
        raise ValueError(f"{len(errors)} episodes do not tell what is ordinary; give at least 4, better 100")
    steps = {name: np.concatenate([one[name] for one in errors]) for name in WORDS}
    most = {name: float(np.quantile(values, 0.997)) for name, values in steps.items()}
    scale = SurpriseScale(
        latent=float(np.quantile(steps["latent"], 0.99)), position_m=1.35 * most["position"],
        fingers=max(0.1, 3.0 * most["fingers"]),
    )  # fmt: skip
    felt = np.max(list(scale.parts(steps).values()), 0)
    unit = float(np.quantile(felt, 0.99))
    scale.latent *= unit
    felt = np.max(list(scale.parts(steps).values()), 0)
    scale.strong = max(scale.strong, 1.5 * float(felt.max()))
    return scale
