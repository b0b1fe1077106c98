"""Several small predictors that were taught apart: where they disagree, the model does not know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from data.types import Conventions, Imagined, Memory, WorldModel
from world_model.compact import absolute
from world_model.features import ACTION_FEATURES, POSE_FEATURES, action_features, pose_features

from .policy import mlp


class Ensemble(nn.Module):
    """(z, pose, action) -> the change of z, as each member sees it."""

    def __init__(
        self, *, tokens: int = 1, dim: int = 256, members: int = 4, width: int = 256, depth: int = 2
    ) -> None:
        super().__init__()
        sizes = [tokens * dim + POSE_FEATURES + ACTION_FEATURES, *[width] * depth, tokens * dim]
        self.members = nn.ModuleList(mlp(sizes, dropout=0.0) for _ in range(members))

    def forward(self, z: Tensor, poses: Tensor, actions: Tensor) -> Tensor:
        """z [..., N, D], poses and actions (commanded closedness last) [..., 7] -> [members, ..., N * D]."""
        seen = torch.cat([z.flatten(-2), pose_features(poses), action_features(actions, poses)], -1)
        return torch.stack([member(seen).float() for member in self.members])

    def loss(self, z: Tensor, poses: Tensor, actions: Tensor, after: Tensor, own: Tensor) -> Tensor:
        """Squared error of the change; member m learns only from the samples where `own` [members, ...] is set."""
        gap = (self(z, poses, actions) - (after - z).flatten(-2)).square().mean(-1)
        return (gap * own).sum() / own.sum().clamp(min=1)

    def disagreement(self, z: Tensor, poses: Tensor, actions: Tensor) -> Tensor:
        """Deviation between the members' predictions, root mean square over the channels: [...]."""
        return self(z, poses, actions).var(0).mean(-1).clamp(min=1e-12).sqrt()


class WithDisagreement:
    """A world model whose imagination also says, in extras["disagreement"] [B, K, H], where it does not know."""

    def __init__(self, world: Any, ensemble: Ensemble) -> None:
        self.world: WorldModel = world
        self.ensemble = ensemble
        self.conventions: Conventions = world.conventions
        self.absolute_gripper: bool = getattr(world, "absolute_gripper", False)

    def encode(self, frames: Tensor, poses: Tensor | None = None) -> Tensor:
        return self.world.encode(frames, poses)

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        imagined = self.world.imagine(memory, actions, z)
        now = memory.latents[:, None, -1:].expand(-1, actions.shape[1], -1, -1, -1)
        here = memory.poses[:, None, -1:].expand(-1, actions.shape[1], -1, -1)
        latents = torch.cat([now, imagined.latents[:, :, :-1]], 2)
        poses = torch.cat([here, imagined.poses[:, :, :-1]], 2)
        told = actions if self.absolute_gripper else absolute(actions, poses)
        imagined.extras["disagreement"] = self.ensemble.disagreement(latents, poses, told)
        return imagined
