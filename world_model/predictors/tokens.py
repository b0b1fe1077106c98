"""The action-conditioned token predictor of V-JEPA 2-AC: block-causal over frames, any number of frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.types import ACTION_SIZE, POSE_SIZE
from world_model.attention import Block, Cache, Tables, initialise
from world_model.rope import RopeStyle, grid_positions, rotary_tables


@dataclass(kw_only=True, slots=True)
class TokenPredictorConfig:
    """Per frame: an action token, a pose token, perhaps a camera token and a token of z, then the patches."""

    latent_dim: int
    """Channels of the encoder's tokens."""
    dim: int = 1024
    """Channels inside the predictor."""
    depth: int = 24
    """Blocks."""
    heads: int = 16
    """Attention heads."""
    hidden: int | None = None
    """Channels inside the MLP; four times `dim` unless given."""
    grid: tuple[int, int] = (16, 16)
    """Rows and columns of a frame's patches."""
    z_dim: int = 0
    """Channels of a latent variable that picks one of several futures (0: none)."""
    rope: RopeStyle = "tiled"
    """V-JEPA 2-AC: tiled."""


class TokenPredictor(nn.Module):
    """Predicts the next frame's tokens directly; a token sees its own frame and the frames before it.

    `forward` takes a whole sequence, `step` one frame after the cached ones; the two agree.  Extrinsics are given
    for all frames or for none.  The weights' names are the official ones.
    """

    def __init__(self, config: TokenPredictorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.predictor_embed = nn.Linear(c.latent_dim, c.dim)
        self.action_encoder = nn.Linear(ACTION_SIZE, c.dim)
        self.state_encoder = nn.Linear(POSE_SIZE, c.dim)
        self.extrinsics_encoder = nn.Linear(ACTION_SIZE - 1, c.dim)
        if c.z_dim:
            self.z_encoder = nn.Linear(c.z_dim, c.dim)
            self.no_z = nn.Parameter(torch.zeros(c.dim))
        self.predictor_blocks = nn.ModuleList(
            Block(c.dim, c.heads, c.hidden or 4 * c.dim) for _ in range(c.depth)
        )
        self.predictor_norm = nn.LayerNorm(c.dim, eps=1e-6)
        self.predictor_proj = nn.Linear(c.dim, c.latent_dim)
        initialise(self, self.predictor_blocks)

    @property
    def tokens(self) -> int:
        """Patches of one frame."""
        return self.config.grid[0] * self.config.grid[1]

    def forward(
        self,
        latents: Tensor,
        actions: Tensor,
        poses: Tensor,
        extrinsics: Tensor | None = None,
        z: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """latents [B, T*N, D] or [B, T, N, D], actions and poses [B, T, 7], extrinsics [B, T, 6], z [B, T, Z] -> the
        frames after them, shaped as `latents`.  `keep` bool [B, T]: where False, z is as if it were not given."""
        frames = latents.unflatten(1, (actions.shape[1], -1)) if latents.ndim == 3 else latents
        out, _ = self.step(frames, actions, poses, extrinsics=extrinsics, z=z, keep=keep)
        return out.reshape(latents.shape)

    def step(
        self,
        latents: Tensor,
        actions: Tensor,
        poses: Tensor,
        caches: list[Cache] | None = None,
        *,
        extrinsics: Tensor | None = None,
        z: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> tuple[Tensor, list[Cache]]:
        """The frames [B, T, N, D] that come after the cached ones -> the frames that follow each, and the caches.

        The caches given are extended in place.
        """
        t, n = latents.shape[1:3]
        if n != self.tokens:
            raise ValueError(f"{n} tokens a frame, but a grid of {self.config.grid} has {self.tokens}")
        x = torch.cat(
            [self._conditions(actions, poses, extrinsics, z, keep), self.predictor_embed(latents)], 2
        )
        frame = x.shape[2]
        first = caches[0].used // frame if caches else 0
        cos, sin = self._tables(first, t, frame - n, x.device)
        tables = cos.to(x.dtype), sin.to(x.dtype)
        x = x.flatten(1, 2)
        kept: list[Cache] = []
        for i, block in enumerate(self.predictor_blocks):
            x, cache = block(x, tables, frame, caches[i] if caches else None)
            kept.append(cache)
        x = x.unflatten(1, (t, frame))[:, :, frame - n :]
        return self.predictor_proj(self.predictor_norm(x)), kept

    def _conditions(
        self, actions: Tensor, poses: Tensor, extrinsics: Tensor | None, z: Tensor | None, keep: Tensor | None
    ) -> Tensor:
        """[B, T, 2 to 4, dim]"""
        kind = self.action_encoder.weight.dtype
        tokens = [self.action_encoder(actions.to(kind)), self.state_encoder(poses.to(kind))]
        if extrinsics is not None:
            tokens.append(self.extrinsics_encoder(extrinsics.to(kind)))
        if self.config.z_dim:
            none = self.no_z.expand_as(tokens[0])
            given = none if z is None else self.z_encoder(z.to(kind))
            tokens.append(given if keep is None else torch.where(keep.unsqueeze(-1), given, none))
        elif z is not None:
            raise ValueError("this predictor has no latent variable (z_dim is 0), but z was given")
        return torch.stack(tokens, 2)

    def _tables(self, first: int, frames: int, conditions: int, device: torch.device) -> Tables:
        """Conditioning tokens are at (t, 0, 0).  Columns of non-square grids are squeezed onto the rows' range."""
        rows, columns = self.config.grid
        patches = grid_positions((frames, rows, columns), stretch=(1.0, rows / columns)).unflatten(
            0, (frames, -1)
        )
        moments = patches[:, :1] * torch.tensor([1.0, 0.0, 0.0])
        positions = torch.cat([moments.expand(-1, conditions, -1), patches], 1).flatten(0, 1)
        positions = positions + torch.tensor([float(first), 0.0, 0.0])
        return rotary_tables(positions.to(device), self.config.dim // self.config.heads, self.config.rope)
