"""The released planner's arithmetic on our weights: what `benchmarks.world_model` measures against."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.types import Memory
from world_model.losses import layer_norm
from world_model.predictors.tokens import TokenPredictor


class OfficialWay:
    """The released planner's arithmetic on our weights."""

    def __init__(self, predictor: TokenPredictor, max_frames: int = 32) -> None:
        self.p = predictor
        self.frame = predictor.tokens + 2
        n = max_frames * self.frame
        self.mask = torch.zeros(n, n, dtype=torch.bool)
        for i in range(max_frames):
            for j in range(i + 1):
                rows, columns = (slice(x * self.frame, (x + 1) * self.frame) for x in (i, j))
                self.mask[rows, columns] = True

    def imagine(self, memory: Memory, actions: Tensor) -> Tensor:
        """[1, K, H, 7] -> latents [K, H, N, D]."""
        k, horizon = actions.shape[1:3]
        latents = memory.latents.expand(k, -1, -1, -1)
        poses = memory.poses.expand(k, -1, -1)
        done = memory.actions.expand(k, -1, -1)
        for h in range(horizon):
            so_far = torch.cat([done, actions[0, :, : h + 1]], 1)
            out = layer_norm(self.forward(latents, so_far, poses)[:, -1:])
            latents = torch.cat([latents, out], 1)
            poses = torch.cat([poses, self.new_poses(poses[:, -1], actions[0, :, h])[:, None]], 1)
        return latents[:, -horizon:]

    def forward(self, latents: Tensor, actions: Tensor, poses: Tensor) -> Tensor:
        p, t = self.p, latents.shape[1]
        kind = p.predictor_proj.weight.dtype
        tokens = [p.action_encoder(actions.to(kind))[:, :, None], p.state_encoder(poses.to(kind))[:, :, None]]
        x = torch.cat([*tokens, p.predictor_embed(latents.to(kind))], 2).flatten(1, 2)
        mask = self.mask[: x.shape[1], : x.shape[1]]
        for block in p.predictor_blocks:
            x = x + self.attention(block.attn, block.norm1(x), t, mask)  # type: ignore[operator, arg-type]
            x = x + block.mlp(block.norm2(x))  # type: ignore[operator]
        x = x.unflatten(1, (t, self.frame))[:, :, 2:]
        return p.predictor_proj(p.predictor_norm(x))

    def attention(self, attn: Any, x: Tensor, t: int, mask: Tensor) -> Tensor:
        b, _, d = x.shape
        rows, columns = self.p.config.grid
        q, k, v = attn.qkv(x).unflatten(-1, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4)
        head = q.shape[-1]
        axis = 2 * (head // 3 // 2)
        q, k, v = (y.unflatten(2, (t, self.frame)) for y in (q, k, v))
        ids = torch.arange(t * rows * columns)
        where = [ids // (rows * columns), ids // columns % rows, ids % columns]
        times = torch.arange(t)
        joined = []
        for y in (q, k):
            conditions = []
            for i in range(2):
                c = y[:, :, :, i]
                turned = _rotate_axis(c[..., :axis], times)
                conditions.append(torch.cat([turned, c[..., axis:]], -1).unsqueeze(3))
            patches = y[:, :, :, 2:].flatten(2, 3)
            parts = [
                _rotate_axis(patches[..., a * axis : (a + 1) * axis], where[a].to(x.dtype)) for a in range(3)
            ]
            patches = torch.cat([*parts, patches[..., 3 * axis :]], -1).unflatten(2, (t, -1))
            joined.append(torch.cat([*conditions, patches], 3).flatten(2, 3))
        y = F.scaled_dot_product_attention(joined[0], joined[1], v.flatten(2, 3), attn_mask=mask)
        return attn.proj(y.transpose(1, 2).reshape(b, -1, d))

    @staticmethod
    def new_poses(poses: Tensor, actions: Tensor) -> Tensor:
        from scipy.spatial.transform import Rotation

        s, a = poses.numpy(), actions.numpy()
        position = s[:, :3] + a[:, :3]
        turns = [Rotation.from_euler("xyz", x, degrees=False).as_matrix() for x in a[:, 3:6]]
        states = [Rotation.from_euler("xyz", x, degrees=False).as_matrix() for x in s[:, 3:6]]
        angles = [Rotation.from_matrix(d @ r).as_euler("xyz") for d, r in zip(turns, states)]
        gripper = np.clip(s[:, 6:] + a[:, 6:], 0, 1)
        return torch.from_numpy(np.concatenate([position, np.stack(angles), gripper], 1)).float()


def _rotate_axis(x: Tensor, position: Tensor) -> Tensor:
    d = x.shape[-1]
    w = 1 / 10000 ** (torch.arange(d // 2, dtype=x.dtype) / (d / 2))
    angle = torch.outer(position.to(x.dtype), w)
    sin, cos = angle.sin().repeat(1, 2), angle.cos().repeat(1, 2)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack([-b, a], -1).flatten(-2) * sin
