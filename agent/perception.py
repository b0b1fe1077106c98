"""Perception: pictures to latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data.types import Observation, WorldModel, as_views

from .task import Goal


@dataclass(kw_only=True, slots=True)
class Percept:
    """A moment as the world model knows it."""

    latent: Tensor  # [1, N, D]
    pose: Tensor  # [1, 7]
    observation: Observation


class Perceives(Protocol):
    def see(self, observation: Observation) -> Percept: ...

    def see_goal(self, goal: Goal) -> Tensor:
        """[1, N, D]"""
        ...


class Perception:
    """Encodes frames with the world model, in the cameras' order that it was trained with."""

    def __init__(self, model: WorldModel, *, blind: bool = False) -> None:
        self._model, self._blind = model, blind

    @torch.no_grad()
    def see(self, observation: Observation) -> Percept:
        pose = torch.from_numpy(np.asarray(observation.pose, np.float32))[None]
        return Percept(latent=self._encode(observation.frames, pose), pose=pose, observation=observation)

    @torch.no_grad()
    def see_goal(self, goal: Goal) -> Tensor:
        pose = None if goal.pose is None else torch.from_numpy(np.asarray(goal.pose, np.float32))[None]
        return self._encode(goal.frames, pose)

    def _encode(self, frames: Mapping[str, np.ndarray], pose: Tensor | None) -> Tensor:
        conventions = self._model.conventions
        views = as_views(frames, conventions.cameras)[None]
        size = conventions.image_size
        if views.shape[2:4] != (size, size):
            raise ValueError(
                f"the model sees {size} x {size} pixels, the frames are {views.shape[3]} x {views.shape[2]}: "
                f"render at the model's size, or crop with data.images (crop {conventions.crop!r})"
            )
        if self._blind:
            views = torch.zeros_like(views)
        return self._model.encode(views, pose)
