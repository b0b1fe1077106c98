"""Short-term memory: what was perceived and done lately, as the world model's context, and the whole episode."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data.poses import pose_difference
from data.types import CLOSEDNESS, Memory

from .perception import Percept


@dataclass(kw_only=True, slots=True)
class Moment:
    """One model step, for pictures, logs and learning."""

    percept: Percept
    commanded: np.ndarray | None = None  # [7] what was commanded then
    energy: float | None = None
    surprise: float | None = None


class Remembers(Protocol):
    moments: list[Moment]

    def perceive(self, percept: Percept) -> None: ...

    def did(self, commanded: np.ndarray, energy: float | None = None) -> None: ...

    def context(self) -> Memory: ...


@dataclass
class ShortTermMemory:
    """Actions are the measured changes, with the commanded closedness less the measured one as gripper part."""

    frames: int = 3
    moments: list[Moment] = field(default_factory=list)

    def perceive(self, percept: Percept) -> None:
        self.moments.append(Moment(percept=percept))

    def did(self, commanded: np.ndarray, energy: float | None = None) -> None:
        self.moments[-1].commanded, self.moments[-1].energy = np.asarray(commanded), energy

    def context(self) -> Memory:
        recent = self.moments[-self.frames :]
        latents = torch.stack([m.percept.latent for m in recent], 1)  # [1, T, N, D]
        poses = torch.stack([m.percept.pose for m in recent], 1)
        actions = [executed_action(a, b) for a, b in itertools.pairwise(recent)]
        return Memory(
            latents=latents,
            poses=poses,
            actions=torch.stack(actions, 1) if actions else poses.new_zeros(1, 0, 7),
        )


def executed_action(before: Moment, after: Moment) -> Tensor:
    """[1, 7]"""
    action = pose_difference(before.percept.pose, after.percept.pose)
    if before.commanded is not None:
        action[:, CLOSEDNESS] = float(before.commanded[CLOSEDNESS]) - before.percept.pose[:, CLOSEDNESS]
    return action
