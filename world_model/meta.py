"""Meta's weights: V-JEPA 2 (AC and pretraining), V-JEPA 2.1, and Hugging Face's layout of V-JEPA 2.

Sizes are read from the tensors.  The number of attention heads is not in them: it is known for the published
widths and has to be given for others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from data.types import Conventions
from world_model.dense import DenseModel
from world_model.encoders.vit import LEVELS, SIZES, VisionTransformer, ViTConfig
from world_model.predictors.masked import MaskedPredictor, MaskedPredictorConfig
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

log = logging.getLogger(__name__)

Weights = Mapping[str, Tensor]
HEADS = {dim: heads for dim, _, heads, _ in SIZES.values()}
PREDICTOR_HEADS = {1024: 16, 384: 12}
# Position tables that rotary models carry along and never use.
UNUSED = {"pos_embed", "predictor_pos_embed"}
ENCODER_KEYS = ("target_encoder", "ema_encoder", "encoder")


def load_vjepa2(
    path: str | Path,
    *,
    heads: int | None = None,
    predictor_heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    dtype: torch.dtype | None = None,
    encoder_key: str | None = None,
    conventions: Conventions | None = None,
) -> DenseModel:
    """A world model with the encoder and predictor of an official file, in evaluation mode.

    `path` is an official `.pt` file, or a `.safetensors` file (or the folder that holds one) in Hugging Face's
    layout.  `image_size` sets the predictor's grid (256 px unless given).  `dtype` converts while loading; without
    it the weights stay where the file maps them, and only what is used is ever read.  `encoder_key` chooses among
    the file's encoders; else the target encoder where there is one.  The `predictor` is a TokenPredictor for
    AC files, a MaskedPredictor for pretraining ones and None where the file has none.
    """
    encoder_weights, predictor_weights = _read(Path(path), encoder_key)
    encoder = _encoder(encoder_weights, heads)
    patch = encoder.config.patch
    size = (image_size, image_size) if isinstance(image_size, int) else image_size or (256, 256)
    if size[0] % patch or size[1] % patch:
        raise ValueError(f"image_size {size} must be a multiple of the patch, {patch} px")
    _fill(encoder, encoder_weights, dtype, "encoder")
    predictor = None
    if predictor_weights:
        predictor = _predictor(
            predictor_weights, encoder.config, predictor_heads, (size[0] // patch, size[1] // patch)
        )
        _fill(predictor, predictor_weights, dtype, "predictor")
    # Meta's logs: one exterior camera, gripper changes as measured; frames about a second apart (vjepa2#183).
    conventions = conventions or Conventions(
        cameras=("exterior_left",),
        image_size=size[0],
        crop="droid_train",
        period_s=1.0,
        gripper_action="measured",
    )
    model = DenseModel(conventions, encoder=encoder, predictor=predictor)
    log.info("%s: %s, %s", path, encoder.config, type(predictor).__name__)
    return model.eval()


def _read(path: Path, encoder_key: str | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Encoder's and predictor's tensors under the official names; the predictor's are empty where there is none."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if not found:
            raise FileNotFoundError(f"no .safetensors file in {path}")
        return from_hugging_face({k: v for f in found for k, v in _safetensors(f).items()})
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix == ".safetensors":
        return from_hugging_face(_safetensors(path))
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except RuntimeError as e:
        if "mmap" not in str(e):
            raise
        log.warning("%s is in torch's old format and cannot be mapped: reading all of it", path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a checkpoint's dictionary")
    keys = (encoder_key,) if encoder_key else ENCODER_KEYS
    key = next((k for k in keys if k in content), None)
    if key is None:
        raise ValueError(f"{path} has no {' or '.join(keys)}; it has {', '.join(map(str, content))}")
    return _clean(content[key]), _clean(content.get("predictor") or {})


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a dict)


def _clean(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that data-parallel and multi-sequence wrappers leave."""
    return {k.replace("module.", "").replace("backbone.", ""): v for k, v in weights.items()}


def _fill(module: nn.Module, weights: Weights, dtype: torch.dtype | None, what: str) -> None:
    """Make the tensors the module's parameters, one at a time, so that two copies of all never exist."""
    wanted = set(module.state_dict())
    missing, left = sorted(wanted - set(weights)), sorted(set(weights) - wanted - UNUSED)
    if missing or left:
        raise ValueError(
            f"the {what}'s weights do not fit: missing {missing or 'none'}, left over {left or 'none'}"
        )
    for name in wanted:
        owner, _, leaf = name.rpartition(".")
        tensor, place = weights[name], module.get_submodule(owner)
        shape = module.get_parameter(name).shape
        if tensor.shape != shape:
            raise ValueError(f"{what}: {name} is {tuple(tensor.shape)}, expected {tuple(shape)}")
        converted = tensor if dtype is None else tensor.to(dtype)
        parameter = nn.Parameter(converted)
        if isinstance(place, nn.ParameterList):
            place[int(leaf)] = parameter
        else:
            setattr(place, leaf, parameter)


def _depth(weights: Weights, prefix: str) -> int:
    found = {int(m[1]) for k in weights if (m := re.match(rf"{prefix}\.(\d+)\.", k))}
    if not found:
        raise ValueError(f"no {prefix}.0 among the weights: {', '.join(list(weights)[:8])} ...")
    return max(found) + 1


def _heads(dim: int, given: int | None, known: Mapping[int, int], argument: str) -> int:
    if given is None and dim not in known:
        raise ValueError(
            f"{dim} channels is no published width ({', '.join(map(str, sorted(known)))}), so the number of "
            f"attention heads is not known: give {argument}="
        )
    return given or known[dim]


def _encoder(weights: Weights, heads: int | None) -> VisionTransformer:
    patches = weights["patch_embed.proj.weight"]  # [D, 3, tubelet, patch, patch]
    dim, depth = patches.shape[0], _depth(weights, "blocks")
    newer = "norms_block.0.weight" in weights  # V-JEPA 2.1
    levels: tuple[int, ...] = ()
    if newer:
        count = _depth(weights, "norms_block")
        levels = LEVELS.get(depth) or tuple(depth * (i + 1) // count - 1 for i in range(count))
    config = ViTConfig(
        dim=dim,
        depth=depth,
        heads=_heads(dim, heads, HEADS, "heads"),
        hidden=weights["blocks.0.mlp.fc1.weight"].shape[0],
        patch=patches.shape[-1],
        tubelet=patches.shape[2],
        rope="interleaved" if newer else "tiled",
        rope_grid=256 // patches.shape[-1] if newer else None,
        image_tokens="patch_embed_img.proj.weight" in weights,
        levels=levels,
    )
    with torch.device("meta"):
        return VisionTransformer(config)


def _predictor(
    weights: Weights, encoder: ViTConfig, heads: int | None, grid: tuple[int, int]
) -> TokenPredictor | MaskedPredictor:
    dim, depth = weights["predictor_norm.weight"].shape[0], _depth(weights, "predictor_blocks")
    common: dict[str, Any] = {
        "latent_dim": encoder.dim,
        "dim": dim,
        "depth": depth,
        "heads": _heads(dim, heads, PREDICTOR_HEADS, "predictor_heads"),
        "hidden": weights["predictor_blocks.0.mlp.fc1.weight"].shape[0],
    }
    if "action_encoder.weight" in weights:
        with torch.device("meta"):
            return TokenPredictor(TokenPredictorConfig(**common, grid=grid))
    first = weights.get("predictor_embed.0.weight", weights.get("predictor_embed.weight"))
    assert first is not None
    config = MaskedPredictorConfig(
        **common,
        levels=first.shape[1] // encoder.dim,
        out_dim=weights["predictor_proj.weight"].shape[0],
        mask_tokens=sum(k.startswith("mask_tokens.") for k in weights),
        dense="predictor_proj_context.weight" in weights,
        modalities="video_mod_embed" in weights,
        rope=encoder.rope,
    )
    with torch.device("meta"):
        return MaskedPredictor(config)


_RENAMED = (
    (r"^encoder\.embeddings\.patch_embeddings\.", "encoder.patch_embed."),
    (r"^encoder\.layernorm\.", "encoder.norm."),
    (r"^encoder\.layer\.", "encoder.blocks."),
    (r"^predictor\.embeddings\.predictor_embeddings\.", "predictor.predictor_embed."),
    (r"^predictor\.embeddings\.mask_tokens$", "predictor.mask_tokens"),
    (r"^predictor\.layernorm\.", "predictor.predictor_norm."),
    (r"^predictor\.proj\.", "predictor.predictor_proj."),
    (r"^predictor\.layer\.", "predictor.predictor_blocks."),
    (r"\.attention\.", ".attn."),
)


def from_hugging_face(weights: Weights) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """V-JEPA 2's tensors in the layout of the `transformers` package, under the official names."""
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "predictor": {}}
    for name, tensor in weights.items():
        renamed = name.removeprefix("vjepa2.")
        for pattern, replacement in _RENAMED:
            renamed = re.sub(pattern, replacement, renamed)
        part, _, rest = renamed.partition(".")
        if part in ("pooler", "classifier"):  # of a fine-tuned classifier
            continue
        if part not in parts:
            raise ValueError(
                f"{name}: not a tensor of V-JEPA 2 in Hugging Face's layout (encoder.* or predictor.*)"
            )
        if rest == "mask_tokens":
            parts[part].update({f"mask_tokens.{i}": t for i, t in enumerate(tensor)})
        elif m := re.match(r"(.*\.attn)\.query\.(weight|bias)$", rest):
            three = [weights[name.replace("query", x)] for x in ("query", "key", "value")]
            parts[part][f"{m[1]}.qkv.{m[2]}"] = torch.cat(three)
        elif not re.search(r"\.attn\.(key|value)\.", rest):
            parts[part][rest] = tensor
    return parts["encoder"], parts["predictor"]
