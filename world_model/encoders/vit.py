"""The video vision transformer of V-JEPA 2 and 2.1: images or clips to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from world_model.attention import Block, initialise
from world_model.rope import RopeStyle, grid_positions, rotary_tables

# The depths whose outputs V-JEPA 2.1 supervises, per number of blocks.
LEVELS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 40: (9, 19, 29, 39), 48: (11, 23, 37, 47)}


@dataclass(kw_only=True, slots=True)
class ViTConfig:
    """A video ViT; `sized("small")` for a known size."""

    dim: int
    """Channels of a token."""
    depth: int
    """Blocks."""
    heads: int
    """Attention heads."""
    hidden: int
    """Channels inside the MLP."""
    patch: int = 16
    """Side of a patch in pixels."""
    tubelet: int = 2
    """Frames of a token."""
    rope: RopeStyle = "tiled"
    """V-JEPA 2: tiled.  V-JEPA 2.1 and models of our own: interleaved."""
    rope_grid: int | None = None
    """Stretch rows and columns to a grid of this side, whatever the image's size (V-JEPA 2.1: 16)."""
    image_tokens: bool = False
    """A patch embedding of its own for single images, and embeddings that say image or video (V-JEPA 2.1)."""
    levels: tuple[int, ...] = ()
    """Blocks with a norm of their own (V-JEPA 2.1); the last must be the last block.  Empty: one final norm."""


# dim, depth, heads, hidden
SIZES = {
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "giant": (1408, 40, 22, 6144),
    "gigantic": (1664, 48, 26, 8192),
}


def sized(name: str, *, patch: int = 16, rope: RopeStyle = "tiled") -> ViTConfig:
    """The configuration of a known size."""
    if name not in SIZES:
        raise ValueError(f"no encoder size {name!r}; there are {', '.join(SIZES)}")
    dim, depth, heads, hidden = SIZES[name]
    return ViTConfig(dim=dim, depth=depth, heads=heads, hidden=hidden, patch=patch, rope=rope)


class PatchEmbed(nn.Module):
    """Pixels [B, 3, T, H, W] -> tokens [B, N, D], ordered time, row, column."""

    def __init__(self, dim: int, tubelet: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, dim, (tubelet, patch, patch), stride=(tubelet, patch, patch))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """No position parameters and no class token; the weights' names are the official ones."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        if config.levels and config.levels[-1] != config.depth - 1:
            raise ValueError(f"the last of levels {config.levels} must be the last block, {config.depth - 1}")
        self.config = config
        self.patch_embed = PatchEmbed(config.dim, config.tubelet, config.patch)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.hidden) for _ in range(config.depth)
        )
        if config.levels:
            self.norms_block = nn.ModuleList(nn.LayerNorm(config.dim, eps=1e-6) for _ in config.levels)
        else:
            self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        if config.image_tokens:
            self.patch_embed_img = PatchEmbed(config.dim, 1, config.patch)
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, config.dim))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, config.dim))
        initialise(self, self.blocks)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Tokens over time, rows and columns of a clip of this many frames and pixels."""
        c = self.config
        if height % c.patch or width % c.patch:
            raise ValueError(f"image of {height} x {width} px: both sides must be multiples of {c.patch}")
        if frames > 1 and frames % c.tubelet:
            raise ValueError(f"clip of {frames} frames: it must be one frame or a multiple of {c.tubelet}")
        return max(frames // c.tubelet, 1), height // c.patch, width // c.patch

    def forward(
        self, video: Tensor, ids: Tensor | None = None, levels: Sequence[int] | None = None
    ) -> Tensor:
        """Normalised pixels [B, 3, T, H, W] or [B, 3, H, W] -> [B, N, D].

        `ids` [B, n]: only these tokens are looked at.  `levels`: the normed outputs of these blocks side by side
        [B, N, len(levels) D] instead of the last one's.  A single image goes through the image's own embedding
        where there is one, and is doubled into a still clip otherwise.
        """
        c = self.config
        if video.ndim == 4:
            video = video.unsqueeze(2)
        t, h, w = self.grid(*video.shape[2:])
        if c.image_tokens and video.shape[2] == 1:
            x = self.patch_embed_img(video) + self.img_mod_embed
        else:
            if video.shape[2] == 1:
                video = video.expand(-1, -1, c.tubelet, -1, -1)
            x = self.patch_embed(video)
            if c.image_tokens:
                x = x + self.video_mod_embed
        stretch = (1.0, 1.0)
        if c.rope_grid:
            stretch = ((c.rope_grid - 1) / max(h - 1, 1), (c.rope_grid - 1) / max(w - 1, 1))
        if ids is None:
            positions = grid_positions((t, h, w), stretch=stretch).to(x.device)
        else:
            x = x.gather(1, ids.unsqueeze(-1).expand(-1, -1, c.dim))
            positions = grid_positions((t, h, w), ids=ids, stretch=stretch).unsqueeze(1)
        tables = rotary_tables(positions, c.dim // c.heads, c.rope)
        wanted = [c.depth - 1] if levels is None else list(levels)
        outputs = []
        for i, block in enumerate(self.blocks):
            x, _ = block(x, tables)
            if i in wanted:
                outputs.append(self._normed(x, i))
        return torch.cat(outputs, -1)

    def _normed(self, x: Tensor, level: int) -> Tensor:
        if not self.config.levels:
            return self.norm(x)
        if level not in self.config.levels:
            raise ValueError(f"block {level} has no norm of its own; blocks {self.config.levels} have")
        return self.norms_block[self.config.levels.index(level)](x)
