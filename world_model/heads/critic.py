"""The critic: how many model steps from here to there?  Asymmetric: dropping is quicker than putting back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_model.features import POSE_FEATURES, pose_features

from .policy import mlp


class Critic(nn.Module):
    """(z, g, pose) -> a distribution over the number of steps 0 .. horizon; the last bin means that many or more."""

    def __init__(
        self,
        *,
        tokens: int = 1,
        dim: int = 256,
        horizon: int = 40,
        width: int = 512,
        depth: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.net = mlp([3 * tokens * dim + POSE_FEATURES, *[width] * depth, horizon + 1], dropout)
        self.register_buffer("steps", torch.arange(horizon + 1, dtype=torch.float32), persistent=False)
        self.steps: Tensor

    def forward(self, z: Tensor, goal: Tensor, poses: Tensor) -> Tensor:
        """Logits [..., horizon + 1]."""
        z, goal = z.flatten(-2), goal.flatten(-2)
        return self.net(torch.cat([z, goal, goal - z, pose_features(poses)], -1)).float()

    def steps_to_go(self, z: Tensor, goal: Tensor, poses: Tensor) -> Tensor:
        """The expected number of steps [...]."""
        return self(z, goal, poses).softmax(-1) @ self.steps

    def loss(self, z: Tensor, goal: Tensor, poses: Tensor, steps: Tensor) -> Tensor:
        """Cross-entropy; `steps` [...] are whole numbers."""
        logits = self(z, goal, poses)
        return F.cross_entropy(logits.flatten(0, -2), steps.clamp(0, self.horizon).long().flatten())
