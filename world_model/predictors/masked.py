"""The predictor of masked pretraining (V-JEPA 2 and 2.1): fills hidden tokens in from the visible ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from world_model.attention import Block, initialise
from world_model.rope import RopeStyle, grid_positions, rotary_tables


@dataclass(kw_only=True, slots=True)
class MaskedPredictorConfig:
    """A narrow transformer over visible tokens and mask tokens."""

    latent_dim: int
    """Channels of the encoder's tokens."""
    dim: int = 384
    """Channels inside."""
    depth: int = 12
    """Blocks."""
    heads: int = 12
    """Attention heads."""
    hidden: int | None = None
    """Channels inside the MLP; four times `dim` unless given."""
    levels: int = 1
    """Depths of the encoder that come in side by side (V-JEPA 2.1: 4)."""
    out_dim: int | None = None
    """Channels of a prediction; `levels` times `latent_dim` unless given."""
    mask_tokens: int = 2
    """Learned mask tokens, one per kind of mask."""
    dense: bool = False
    """Predict the visible tokens too, through a projection of their own (V-JEPA 2.1)."""
    modalities: bool = False
    """Embeddings that say image or video (V-JEPA 2.1)."""
    rope: RopeStyle = "tiled"
    """V-JEPA 2: tiled.  V-JEPA 2.1: interleaved."""


class MaskedPredictor(nn.Module):
    """The weights' names are the official ones."""

    def __init__(self, config: MaskedPredictorConfig) -> None:
        super().__init__()
        c = self.config = config
        if c.levels == 1:
            self.predictor_embed: nn.Module = nn.Linear(c.latent_dim, c.dim)
        else:
            self.predictor_embed = nn.Sequential(
                nn.Linear(c.levels * c.latent_dim, c.latent_dim), nn.GELU(), nn.Linear(c.latent_dim, c.dim)
            )
        self.mask_tokens = nn.ParameterList(torch.zeros(1, 1, c.dim) for _ in range(c.mask_tokens))
        self.predictor_blocks = nn.ModuleList(
            Block(c.dim, c.heads, c.hidden or 4 * c.dim) for _ in range(c.depth)
        )
        self.predictor_norm = nn.LayerNorm(c.dim, eps=1e-6)
        out = c.out_dim or c.levels * c.latent_dim
        self.predictor_proj = nn.Linear(c.dim, out)
        if c.dense:
            self.predictor_proj_context = nn.Linear(c.dim, out)
        if c.modalities:
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, c.dim))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, c.dim))
        initialise(self, self.predictor_blocks)

    def forward(
        self, context: Tensor, seen: Tensor, hidden: Tensor, grid: tuple[int, int, int], *, kind: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, Nc, D] at ids `seen` [B, Nc] -> predictions at ids `hidden` [B, Nt, out]; and at `seen`, where
        the predictor is dense.  `kind` picks the mask token."""
        c = self.config
        mask = self.mask_tokens[kind % c.mask_tokens].expand(len(context), hidden.shape[1], -1)
        x = torch.cat([self.predictor_embed(context), mask], 1)
        if c.modalities:
            x = x + (self.img_mod_embed if grid[0] == 1 else self.video_mod_embed)
        positions = grid_positions(grid, ids=torch.cat([seen, hidden], 1)).unsqueeze(1)
        tables = rotary_tables(positions, c.dim // c.heads, c.rope)
        for block in self.predictor_blocks:
            x, _ = block(x, tables)
        x = self.predictor_norm(x)
        n = seen.shape[1]
        return self.predictor_proj(x[:, n:]), self.predictor_proj_context(x[:, :n]) if c.dense else None
