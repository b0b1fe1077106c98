"""The compact world model: one vector a frame, made to think fast on two cores.

In memory and clips an action's gripper part is a change (`Conventions.gripper_action`); here, in `imagine`, it is
the commanded closedness itself, 0 .. 1 (`absolute_gripper`): what the gripper is told does not depend on what it did.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.poses import apply_action
from data.types import CLOSEDNESS, Conventions, Imagined, Memory

from .encoders.conv import ConvEncoder
from .features import ACTION_FEATURES, POSE_FEATURES, STEP_M, action_features, pose_features
from .predictors.adaln import AdaLNPredictor, Cache


class CompactModel(nn.Module):
    """encode: frames -> z [B, 1, dim].  imagine: what actions would lead to."""

    absolute_gripper = True  # actions given to `imagine` carry the commanded closedness

    def __init__(
        self,
        conventions: Conventions,
        *,
        dim: int = 256,
        channels: tuple[int, ...] = (48, 64, 96, 128),
        shrinks: tuple[int, ...] = (1, 2),
        view_width: int = 384,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
        context: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.conventions, self.dim, self.context = conventions, dim, context
        views = len(conventions.cameras)
        self.eyes = nn.ModuleList(
            ConvEncoder(
                image_size=conventions.image_size,
                channels=tuple(channels),
                width=view_width,
                shrink=shrinks[min(view, len(shrinks) - 1)],  # the wrist sees from near: half its pixels do
            )
            for view in range(views)
        )
        self.project = nn.Sequential(
            nn.BatchNorm1d(views * view_width),
            nn.SiLU(),
            nn.Linear(views * view_width, 2 * dim),
            nn.BatchNorm1d(2 * dim),
            nn.SiLU(),
            nn.Linear(2 * dim, dim),
            nn.BatchNorm1d(dim, affine=False),  # SIGReg wants a unit Gaussian; layer norm would forbid it
        )
        self.predictor = AdaLNPredictor(
            input_dim=dim + POSE_FEATURES,
            condition_dim=ACTION_FEATURES,
            output_dim=dim + 4,
            width=width,
            depth=depth,
            heads=heads,
            context=context,
            dropout=dropout,
        )

    def encode(self, frames: Tensor, poses: Tensor | None = None) -> Tensor:
        """uint8 [B, V, H, W, 3] -> [B, 1, D]; the pose goes to the predictor, so that a picture alone is a goal."""
        seen = [eye(frames[:, view]) for view, eye in enumerate(self.eyes)]
        return self.project(torch.cat(seen, -1))[:, None].float()

    def predict(self, latents: Tensor, poses: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced: latents [B, T, 1, D], poses [B, T, 7], told [B, T, 7] -> the next of each."""
        z, s, _ = self._advance(latents[:, :, 0], poses, told, None)
        return z[:, :, None], s

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        """Actions [B, K, H, 7] with the commanded closedness last.  The past is computed once for all candidates."""
        B, K, H, _ = actions.shape
        keep = self.context
        latents, poses = memory.latents[:, -keep:, 0], memory.poses[:, -keep:]
        past: Cache | None = None
        if latents.shape[1] > 1:
            before = poses[:, :-1]
            told = absolute(memory.actions[:, -(latents.shape[1] - 1) :], before)
            _, _, past = self._advance(latents[:, :-1], before, told, None)
            past = past.expand(K) if K > 1 else past
        z_now = latents[:, -1:].repeat_interleave(K, 0)
        s_now = poses[:, -1:].repeat_interleave(K, 0)
        steps = actions.reshape(B * K, H, 7)
        imagined_z, imagined_s = [], []
        for h in range(H):
            z_now, s_now, past = self._advance(z_now, s_now, steps[:, h : h + 1], past)
            imagined_z.append(z_now)
            imagined_s.append(s_now)
        return Imagined(
            latents=torch.cat(imagined_z, 1).view(B, K, H, 1, self.dim),
            poses=torch.cat(imagined_s, 1).view(B, K, H, 7),
        )

    def _advance(
        self, z: Tensor, s: Tensor, told: Tensor, past: Cache | None
    ) -> tuple[Tensor, Tensor, Cache]:
        """One step for each frame given: z [B, T, D], s and told [B, T, 7]."""
        frames = torch.cat([z, pose_features(s)], -1)
        change, kept = self.predictor(frames, action_features(told, s), past)
        change = change.float()
        move = change[..., -4:]
        moved = s[..., :3] + told[..., :3] + STEP_M * move[..., :3]
        turned = s[..., 3:6] if not told[..., 3:6].any() else apply_action(s, told)[..., 3:6]
        closed = (s[..., 6:] + move[..., 3:]).clamp(0.0, 1.0)
        return z + change[..., :-4], torch.cat([moved, turned, closed], -1), kept


def absolute(actions: Tensor, poses: Tensor) -> Tensor:
    """Actions whose gripper part is a change from `poses` -> actions that carry the commanded closedness."""
    told = (actions[..., CLOSEDNESS:] + poses[..., CLOSEDNESS:]).clamp(0.0, 1.0)
    return torch.cat([actions[..., :CLOSEDNESS], told], -1)
