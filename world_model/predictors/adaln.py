"""A predictor for one token a frame: causal blocks steered by the action through adaptive layer norm.

With `heads`, each frame attends to itself and the `context - 1` frames before it, with a learned bias per distance:
a transformer.  With `heads` 0 the frames before, and what was done in them, are added to it at the entrance: a residual
MLP.  The window moves with the frame, so what was worked out for a frame can be kept: imagining a step costs one frame.
Letters: T frames, W width, h heads, d channels of a head; "..." batch, or batch and candidates.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kept = list[tuple[Tensor, ...]]  # what one layer keeps of each of the last frames, oldest first: [..., 1, .]
Cache = list[Kept]  # of every layer


class Block(nn.Module):
    def __init__(
        self, *, width: int, heads: int, context: int, hidden: int, steer: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.context = heads, context
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        if heads:
            self.qkv = nn.Linear(width, 3 * width)
            self.proj = nn.Linear(width, width)
            self.bias = nn.Parameter(torch.zeros(heads, context))  # by distance in frames
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.steer = nn.Linear(steer, (6 if heads else 3) * width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)

    def forward(self, x: Tensor, condition: Tensor, past: Kept) -> tuple[Tensor, Kept]:
        """x [..., T, W] and its condition -> [..., T, W], and the keys and values of these frames."""
        steering = through(self.steer, condition).chunk(6 if self.heads else 3, -1)
        now: Kept = []
        if self.heads:
            shift, scale, gate = steering[:3]
            mixed, now = self._attend(self.norm(x) * (1 + scale) + shift, past)
            x = x + gate * self.dropout(mixed)
        shift, scale, gate = steering[-3:]
        return x + gate * self.dropout(through(self.mlp, self.norm(x) * (1 + scale) + shift)), now

    def _attend(self, x: Tensor, past: Kept) -> tuple[Tensor, Kept]:
        q, k, v = through(self.qkv, x).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # [..., T, h, d]
        now: Kept = list(zip(k.split(1, -3), v.split(1, -3), strict=True))
        if len(now) > 1:
            lead = q.shape[:-3]
            whole = [torch.cat([f.expand(*lead, -1, -1, -1) for f in fs], -3) for fs in zip(*past, *now)]
            bias = self._bias(len(now), len(past) + len(now)).to(q.dtype)
            q, k, v = (y.transpose(-2, -3) for y in (q, *whole))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(-2, -3)
        else:  # a few keys: products and sums are faster, and what candidates share is not copied for each
            seen = [*past, *now][-self.context :]
            scale = q.shape[-1] ** -0.5
            scores = torch.stack([(q * k).sum(-1) * scale for k, _ in seen], -1)  # [..., 1, h, keys]
            weights = (scores + self.bias[:, : len(seen)].flip(1)).softmax(-1).to(q.dtype)
            y = sum((w * v for w, (_, v) in zip(weights.split(1, -1), seen)), q.new_zeros(()))
        return through(self.proj, y.flatten(-2)), now

    def _bias(self, queries: int, keys: int) -> Tensor:
        """[h, queries, keys]: the bias by distance inside the window, minus infinity outside."""
        distance = (torch.arange(queries) + keys - queries)[:, None] - torch.arange(keys)[None]
        distance = distance.to(self.bias.device)
        bias = self.bias[:, distance.clamp(0, self.context - 1)]
        return bias.masked_fill((distance < 0) | (distance >= self.context), float("-inf"))


class AdaLNPredictor(nn.Module):
    """Frames [..., T, input_dim] and conditions [..., T, condition_dim] -> [..., T, output_dim]."""

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
        hidden: int | None = None,
        steer: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        """`hidden` units in an MLP (four widths unless given), `steer` channels of the condition (the width)."""
        super().__init__()
        self.context, steer = context, steer or width
        self.embed = nn.Linear(input_dim, width)
        self.condition = nn.Sequential(
            nn.Linear(condition_dim, steer), nn.SiLU(), nn.Linear(steer, steer), nn.SiLU()
        )
        if not heads:
            self.before = nn.ModuleList(
                nn.Linear(input_dim + condition_dim, width) for _ in range(context - 1)
            )
        self.blocks = nn.ModuleList(
            Block(
                width=width,
                heads=heads,
                context=context,
                hidden=hidden or 4 * width,
                steer=steer,
                dropout=dropout,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, output_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, frames: Tensor, conditions: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """Outputs for the given frames, and the cache from which the next ones go on.

        A past of fewer candidates (one for all of them) is looked at by each.
        """
        x, c = through(self.embed, frames), through(self.condition, conditions)
        layers = past or [[] for _ in range(1 + len(self.blocks))]
        x, now = self._remind(x, frames, conditions, layers[0])
        cache = [self._last(layers[0], now)]
        for block, kept in zip(self.blocks, layers[1:], strict=True):
            x, now = block(x, c, kept)
            cache.append(self._last(kept, now))
        return through(self.out, self.norm(x)), cache

    def _remind(self, x: Tensor, frames: Tensor, conditions: Tensor, past: Kept) -> tuple[Tensor, Kept]:
        """Add the frames before to each frame, where there is no attention that looks at them."""
        if not hasattr(self, "before"):
            return x, []
        lead = conditions.shape[:-1]
        seen = torch.cat([frames.expand(*lead, -1), conditions], -1)
        now: Kept = [(f,) for f in seen.split(1, -2)]
        known = [f for (f,) in [*past, *now]]
        for distance, layer in enumerate(self.before, 1):
            first = max(len(past), distance)  # of the frames that have one so far back
            there = known[first - distance : len(known) - distance]
            if there:
                told = through(layer, there[0] if len(there) == 1 else torch.cat(there, -2))
                x = x + F.pad(told, (0, 0, first - len(past), 0))
        return x, now

    def _last(self, past: Kept, now: Kept) -> Kept:
        return [*past, *now][-(self.context - 1) :] if self.context > 1 else []

    def lighter(self, dtype: torch.dtype) -> AdaLNPredictor:
        """A copy whose matrices have this type; between them all stays in single precision."""
        other = copy.deepcopy(self).requires_grad_(False)
        for module in other.modules():
            if isinstance(module, nn.Linear):
                module.to(dtype)
        return other


def through(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)`, in the precision of its weights where that is half."""
    kind = next(layer.parameters()).dtype
    if kind == x.dtype or kind not in (torch.bfloat16, torch.float16):
        return layer(x)
    return layer(x.to(kind)).to(x.dtype)
