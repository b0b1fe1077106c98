"""Transformer blocks with rotary positions, block-causal attention without a mask, and cached keys and values.

Letters: B batch, L tokens, D channels, G heads, M tokens of one frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_model.rope import rotate

Tables = tuple[Tensor, Tensor]  # cos and signed sin, [L, hd] or [B, 1, L, hd]


@dataclass(slots=True)
class Cache:
    """Keys and values [B, G, L, hd] of one block, of the frames so far."""

    keys: Tensor
    values: Tensor
    used: int

    def spread(self, copies: int, capacity: int) -> Cache:
        """Each row of the batch `copies` times, with room for `capacity` tokens: what candidates share.

        Where gradients are recorded nothing may be overwritten, so tokens are joined there and no room is kept.
        """

        def copy(x: Tensor) -> Tensor:
            b, g, n, d = x.shape
            wide = x.unsqueeze(1).expand(b, copies, g, n, d)
            if torch.is_grad_enabled():
                return wide.reshape(b * copies, g, n, d)
            room = x.new_empty(b, copies, g, capacity, d)
            room[..., : self.used, :] = wide[..., : self.used, :]
            return room.flatten(0, 1)

        return Cache(copy(self.keys), copy(self.values), self.used)

    def append(self, k: Tensor, v: Tensor) -> Tables:
        """Add a frame's keys and values; return all."""
        new = self.used + k.shape[-2]
        if torch.is_grad_enabled() or self.keys.shape[-2] < new:
            self.keys = torch.cat([self.keys[..., : self.used, :], k], -2)
            self.values = torch.cat([self.values[..., : self.used, :], v], -2)
        else:
            self.keys[..., self.used : new, :] = k
            self.values[..., self.used : new, :] = v
        self.used = new
        return self.keys[..., :new, :], self.values[..., :new, :]


def attend(q: Tensor, k: Tensor, v: Tensor, frame: int | None = None) -> Tensor:
    """Attention [B, G, L, hd]; with `frame` tokens per frame, each frame sees itself and the frames before it.

    One call per frame over the keys it may see: no mask is ever built and half of the products are saved.  More
    keys than queries means that the first ones are the past.
    """
    n = q.shape[-2]
    if frame is None or n == frame:
        return F.scaled_dot_product_attention(q, k, v)
    past = k.shape[-2] - n
    return torch.cat(
        [
            F.scaled_dot_product_attention(
                q[..., s : s + frame, :], k[..., : past + s + frame, :], v[..., : past + s + frame, :]
            )
            for s in range(0, n, frame)
        ],
        -2,
    )


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"width {dim} cannot be cut into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, tables: Tables | None, frame: int | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if tables is not None:
            q, k = rotate(q, *tables), rotate(k, *tables)
        if cache is None:
            cache = Cache(k, v, k.shape[-2])
        else:
            k, v = cache.append(k, v)
        return self.proj(attend(q, k, v, frame).transpose(1, 2).flatten(2)), cache


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, hidden)

    def forward(
        self, x: Tensor, tables: Tables | None, frame: int | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        y, seen = self.attn(self.norm1(x), tables, frame, cache)
        x = x + y
        return x + self.mlp(self.norm2(x)), seen


def initialise(module: nn.Module, blocks: nn.ModuleList, std: float = 0.02) -> None:
    """Truncated normal weights and zero biases; block i's outputs (from 1) divided by sqrt(2 i)."""
    for m in module.modules():
        if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.trunc_normal_(m.weight, std=std)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    with torch.no_grad():
        for i, block in enumerate(blocks, 1):
            assert isinstance(block, Block)
            block.attn.proj.weight /= math.sqrt(2 * i)
            block.mlp.fc2.weight /= math.sqrt(2 * i)
