"""Mode 1: what to do now to get from what is seen to what is wanted, without thinking ahead."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_model.features import POSE_FEATURES, STEP_M, pose_features


def mlp(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Policy(nn.Module):
    """(z, g, pose) -> an action [7] whose last number is the commanded closedness."""

    def __init__(
        self, *, tokens: int = 1, dim: int = 256, width: int = 768, depth: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.net = mlp([3 * tokens * dim + POSE_FEATURES, *[width] * depth, 4], dropout)

    def forward(self, z: Tensor, goal: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """z, goal [..., N, D], poses [..., 7] -> move [..., 3] in metres, logit of closing [...]."""
        z, goal = z.flatten(-2), goal.flatten(-2)
        out = self.net(torch.cat([z, goal, goal - z, pose_features(poses)], -1)).float()
        return STEP_M * out[..., :3], 3.0 * out[..., 3]

    def act(self, z: Tensor, goal: Tensor, poses: Tensor) -> Tensor:
        """[..., 7]; the rotation stays."""
        move, closing = self(z, goal, poses)
        action = torch.zeros(*move.shape[:-1], 7, dtype=move.dtype, device=move.device)
        action[..., :3] = move
        action[..., 6] = closing.sigmoid()
        return action

    def loss(self, z: Tensor, goal: Tensor, poses: Tensor, actions: Tensor) -> Tensor:
        """Smooth L1 of the move in steps (nearly L1: one of two ways, not their mean), cross-entropy of the gripper; actions carry the commanded closedness."""
        move, closing = self(z, goal, poses)
        return F.smooth_l1_loss(
            move / STEP_M, actions[..., :3] / STEP_M, beta=0.2
        ) + 0.3 * F.binary_cross_entropy_with_logits(closing, actions[..., 6].clamp(0, 1))
