"""DINOv2 (with or without registers) and DINOv3 vision transformers as frozen encoders of single images."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from world_model.attention import MLP, Attention, Tables

HEADS = {384: 6, 768: 12, 1024: 16, 1280: 20, 1536: 24, 4096: 32}  # of the published widths


@dataclass(kw_only=True, slots=True)
class DinoConfig:
    """What the tensors of a checkpoint say of themselves."""

    dim: int
    """Channels of a token."""
    depth: int
    """Blocks."""
    heads: int
    """Attention heads."""
    hidden: int
    """Channels inside the MLP."""
    patch: int
    """Side of a patch in pixels."""
    registers: int = 0
    """Register tokens."""
    positions: int = 0
    """Side of the grid of learned positions (v2); 0: rotary positions (v3)."""
    gated: bool = False
    """An MLP with a gate (v2 giant, v3 huge and 7B)."""


class GatedMLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class DinoBlock(nn.Module):
    """A pre-norm block whose branches are scaled per channel."""

    def __init__(self, config: DinoConfig, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=eps)
        self.attn = Attention(config.dim, config.heads)
        self.scale1 = nn.Parameter(torch.ones(config.dim))
        self.norm2 = nn.LayerNorm(config.dim, eps=eps)
        self.mlp = (GatedMLP if config.gated else MLP)(config.dim, config.hidden)
        self.scale2 = nn.Parameter(torch.ones(config.dim))

    def forward(self, x: Tensor, tables: Tables | None) -> Tensor:
        y, _ = self.attn(self.norm1(x), tables)
        x = x + self.scale1 * y
        return x + self.scale2 * self.mlp(self.norm2(x))


class Dino(nn.Module):
    """Normalised pixels [B, 3, H, W] -> patch tokens [B, N, D].  Never trained, always in evaluation mode."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        c = self.config = config
        eps = 1e-6 if c.positions else 1e-5
        self.patch_embed = nn.Conv2d(3, c.dim, c.patch, stride=c.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, c.registers, c.dim))
        if c.positions:
            self.positions = nn.Parameter(torch.zeros(1, 1 + c.positions**2, c.dim))
        self.blocks = nn.ModuleList(DinoBlock(c, eps) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim, eps=eps)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Dino:
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(images)[:, 1 + self.config.registers :]

    def tokens(self, images: Tensor) -> Tensor:
        """Class token, registers and patches [B, 1 + R + N, D]."""
        c = self.config
        if images.shape[-2] % c.patch or images.shape[-1] % c.patch:
            raise ValueError(
                f"image of {tuple(images.shape[-2:])} px: both sides must be multiples of {c.patch}"
            )
        x = self.patch_embed(images)
        grid = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(len(x), -1, -1)
        tables = None
        if c.positions:
            first, rest = self._learned(grid)
            cls, x = cls + first, x + rest
        else:
            tables = self._rotary(grid, x.device)
        x = torch.cat([cls, self.register_tokens.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x, tables)
        return self.norm(x)

    def _learned(self, grid: torch.Size) -> tuple[Tensor, Tensor]:
        """v2: learned positions of the class token and of the patches, resized to the image's grid."""
        first, rest = self.positions[:, :1], self.positions[:, 1:]
        side = self.config.positions
        if tuple(grid) != (side, side):
            table = rest.transpose(1, 2).unflatten(2, (side, side)).float()
            # The models with registers were published with antialiasing, the ones before without.
            table = F.interpolate(
                table, size=tuple(grid), mode="bicubic", antialias=self.config.registers > 0
            )
            rest = table.flatten(2).transpose(1, 2).to(rest.dtype)
        return first, rest

    def _rotary(self, grid: torch.Size, device: torch.device) -> Tables:
        """v3: angles 2 pi y w_i, then 2 pi x w_i, of the patch centres in -1..1; none for the first tokens."""
        c = self.config
        head = c.dim // c.heads
        w = 100.0 ** -torch.arange(0, 1, 4 / head)
        y, x = ((torch.arange(n) + 0.5) / n * 2 - 1 for n in grid)
        centres = torch.cartesian_prod(y, x)  # [N, 2]
        angle = (2 * math.pi * centres.unsqueeze(-1) * w).flatten(1)  # [N, head / 2]
        angle = F.pad(angle, (0, 0, 1 + c.registers, 0)).repeat_interleave(2, -1).to(device)
        return angle.cos(), angle.sin() * torch.tensor([-1.0, 1.0], device=device).repeat(head // 2)


def load_dino(path: str | Path, *, heads: int | None = None, dtype: torch.dtype | None = None) -> Dino:
    """A frozen DINOv2 or DINOv3 from a safetensors file (or its folder) in Hugging Face's layout."""
    path = Path(path)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"no .safetensors file at {path}")
    weights: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, "pt") as f:
            weights |= {_ours(k): f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a dict)
    weights.pop("mask_token", None)
    config = _config(weights, heads)
    tensors = _joined(weights, config)
    model = Dino(config)
    wanted = set(model.state_dict())
    missing, left = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
    if missing or left:
        raise ValueError(
            f"{path} is no DINOv2 or DINOv3: missing {missing or 'none'}, left over {left or 'none'}"
        )
    model.load_state_dict(tensors)
    return model if dtype is None else model.to(dtype)


_RENAMED = (
    (r"^(dinov2|dinov2_with_registers|model)\.", ""),
    (r"^embeddings\.", ""),
    (r"^patch_embeddings\.(projection\.)?", "patch_embed."),
    (r"^position_embeddings$", "positions"),
    (r"^(encoder\.|model\.)?layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.attention\.(attention\.)?(query|key|value)\.", r".attn.\2."),
    (r"\.attention\.(q|k|v)_proj\.", r".attn.\1."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".scale\1"),
)


def _ours(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.attn\.(q|k|v)(uery|ey|alue)\.", r".attn.\1.", name)


def _config(weights: Mapping[str, Tensor], heads: int | None) -> DinoConfig:
    if "patch_embed.weight" not in weights or "blocks.0.norm1.weight" not in weights:
        raise ValueError(f"no DINO in these tensors: {', '.join(list(weights)[:6])} ...")
    dim, _, _, patch = weights["patch_embed.weight"].shape
    if heads is None and dim not in HEADS:
        raise ValueError(f"{dim} channels is no published width ({', '.join(map(str, HEADS))}): give heads=")
    first = next(weights[k] for k in _GATED + _PLAIN if k in weights)
    gated = any(k in weights for k in _GATED)
    positions = weights.get("positions")
    registers = weights.get("register_tokens")
    return DinoConfig(
        dim=dim,
        depth=1 + max(int(m[1]) for k in weights if (m := re.match(r"blocks\.(\d+)\.", k))),
        heads=heads or HEADS[dim],
        hidden=len(first) // (2 if "blocks.0.mlp.weights_in.weight" in weights else 1),
        patch=patch,
        registers=0 if registers is None else registers.shape[1],
        positions=0 if positions is None else math.isqrt(positions.shape[1] - 1),
        gated=gated,
    )


_GATED = ("blocks.0.mlp.weights_in.weight", "blocks.0.mlp.gate_proj.weight")
_PLAIN = ("blocks.0.mlp.fc1.weight", "blocks.0.mlp.up_proj.weight")


def _joined(weights: Mapping[str, Tensor], config: DinoConfig) -> dict[str, Tensor]:
    """q, k and v as one matrix, the MLP under our names; v3's rotation of half against half as one of pairs."""
    out = {k: v for k, v in weights.items() if not re.search(r"\.attn\.[qkv]\.|\.mlp\.", k)}
    out.setdefault("register_tokens", torch.zeros(1, 0, config.dim))
    head = config.dim // config.heads
    # Channel i and i + head/2 turn together in v3: put them side by side, in queries and keys alike.
    order = torch.arange(config.dim).view(config.heads, 2, head // 2).transpose(1, 2).flatten()
    for i in range(config.depth):
        at = f"blocks.{i}."
        for leaf in ("weight", "bias"):
            parts = []
            for name in "qkv":
                part = weights.get(f"{at}attn.{name}.{leaf}")
                part = torch.zeros(config.dim) if part is None else part  # v3's keys have no bias
                parts.append(part[order] if name != "v" and not config.positions else part)
            out[f"{at}attn.qkv.{leaf}"] = torch.cat(parts)
        for name, tensor in weights.items():
            if name.startswith(f"{at}mlp."):
                out.update(_mlp(name, tensor, config.gated))
    return out


def _mlp(name: str, tensor: Tensor, gated: bool) -> dict[str, Tensor]:
    if ".weights_in." in name:
        gate, up = tensor.chunk(2)
        return {name.replace("weights_in", "gate"): gate, name.replace("weights_in", "up"): up}
    names = {"weights_out": "down", "gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
    if not gated:
        names = {"up_proj": "fc1", "down_proj": "fc2"}
    for theirs, ours in names.items():
        name = name.replace(f".{theirs}.", f".{ours}.")
    return {name: tensor}
