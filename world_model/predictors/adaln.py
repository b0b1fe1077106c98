"""A predictor for one token a frame: causal blocks steered by the action through adaptive layer norm.

Each frame attends to itself and the `context - 1` frames before it, with a learned bias per distance.  Because the
window moves with the frame, keys and values can be kept: imagining a step costs one frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(slots=True)
class Cache:
    """Keys and values of the last frames, per block: [B, heads, <= context - 1, head dim]."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def expand(self, count: int) -> Cache:
        """The same past for `count` candidates each: rows [B * count]."""
        return Cache(
            [k.repeat_interleave(count, 0) for k in self.keys],
            [v.repeat_interleave(count, 0) for v in self.values],
        )


class Block(nn.Module):
    def __init__(self, width: int, heads: int, context: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.context = heads, context
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.steer = nn.Linear(width, 6 * width)
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(heads, context))  # by distance in frames
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)

    def forward(
        self, x: Tensor, condition: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x, condition [B, T, W] -> [B, T, W], keys and values of past and present."""
        shift, scale, gate, shift2, scale2, gate2 = self.steer(condition).chunk(6, -1)
        B, T, W = x.shape
        h = self.norm(x) * (1 + scale) + shift
        q, k, v = self.qkv(h).view(B, T, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(T, k.shape[2]).to(q.dtype))
        x = x + gate * self.dropout(self.proj(attended.transpose(1, 2).reshape(B, T, W)))
        h = self.norm(x) * (1 + scale2) + shift2
        return x + gate2 * self.dropout(self.mlp(h)), k, v

    def _mask(self, queries: int, keys: int) -> Tensor:
        """[heads, queries, keys]: the bias by distance inside the window, minus infinity outside."""
        if queries == 1 and keys <= self.context:
            return self.bias[:, :keys].flip(1)[:, None]
        first = keys - queries
        distance = (torch.arange(queries) + first)[:, None] - torch.arange(keys)[None]
        inside = ((distance >= 0) & (distance < self.context)).to(self.bias.device)
        bias = self.bias[:, distance.clamp(0, self.context - 1).to(self.bias.device)]
        return bias.masked_fill(~inside, float("-inf"))


class AdaLNPredictor(nn.Module):
    """Frames [B, T, input_dim] and conditions [B, T, condition_dim] -> [B, T, output_dim]."""

    def __init__(
        self,
        *,
        input_dim: int,
        condition_dim: int,
        output_dim: int,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
        context: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.context = context
        self.embed = nn.Linear(input_dim, width)
        self.condition = nn.Sequential(
            nn.Linear(condition_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.blocks = nn.ModuleList(Block(width, heads, context, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, output_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, frames: Tensor, conditions: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Outputs for the given frames, and the cache from which the next ones go on."""
        x, c = self.embed(frames), self.condition(conditions)
        kept = Cache()
        keep = self.context - 1
        for index, block in enumerate(self.blocks):
            past = (cache.keys[index], cache.values[index]) if cache is not None and cache.keys else None
            x, keys, values = block(x, c, past)
            kept.keys.append(keys[:, :, keys.shape[2] - min(keep, keys.shape[2]) :])
            kept.values.append(values[:, :, values.shape[2] - min(keep, values.shape[2]) :])
        return self.out(self.norm(x)), kept
