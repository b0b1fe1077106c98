"""The dense world model: patch tokens per frame, as V-JEPA 2-AC has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from data.types import Conventions, Imagined, Memory
from world_model.encoders.dino import Dino, DinoConfig
from world_model.encoders.vit import VisionTransformer, ViTConfig, sized
from world_model.imagine import imagine_tokens
from world_model.losses.prediction import layer_norm
from world_model.predictors.masked import MaskedPredictor, MaskedPredictorConfig
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalise_pixels(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [..., H, W, 3] -> [..., 3, H, W] with ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGE_MEAN, device=frames.device) * 255
    std = torch.tensor(IMAGE_STD, device=frames.device) * 255
    return ((frames.float() - mean) / std).movedim(-1, -3).to(dtype)


ENCODERS: dict[str, tuple[Any, Any]] = {"vit": (VisionTransformer, ViTConfig), "dino": (Dino, DinoConfig)}
PREDICTORS: dict[str, tuple[Any, Any]] = {
    "tokens": (TokenPredictor, TokenPredictorConfig),
    "masked": (MaskedPredictor, MaskedPredictorConfig),
}


def dense_config(
    conventions: Conventions,
    *,
    encoder: str = "tiny",
    patch: int = 16,
    width: int = 192,
    depth: int = 6,
    heads: int = 6,
    z_dim: int = 0,
) -> dict[str, Any]:
    """The configuration of a dense model of our own, for `DenseModel(conventions, **config)`: an encoder of a known
    size (`encoders.vit.SIZES`), and a predictor of this width, depth and number of heads."""
    vit = sized(encoder, patch=patch, rope="interleaved")
    side = conventions.image_size // patch
    predictor = TokenPredictorConfig(
        latent_dim=vit.dim,
        dim=width,
        depth=depth,
        heads=heads,
        grid=(side * len(conventions.cameras), side),
        z_dim=z_dim,
        rope="interleaved",
    )
    return {
        "encoder": {"kind": "vit", **asdict(vit)},
        "predictor": {"kind": "tokens", **asdict(predictor)},
    }


class DenseModel(nn.Module):
    """An encoder that sees each frame alone and a token predictor (implements `data.types.WorldModel`).

    Several views are stacked as rows of one grid.  `encoder` and `predictor` give raw outputs; `encode`, `predict`
    and `imagine` give latents layer-normalised without parameters where `normalise` is set, as V-JEPA 2-AC does.
    """

    def __init__(
        self,
        conventions: Conventions,
        *,
        encoder: nn.Module | Mapping[str, Any],
        predictor: nn.Module | Mapping[str, Any] | None = None,
        normalise: bool = True,
        memory_limit_mb: float | None = None,
    ) -> None:
        """Encoder and predictor are modules, or their configurations with a `kind` (as `config` has them)."""
        super().__init__()
        self.encoder: nn.Module = _made(encoder, ENCODERS, "encoder")
        self.predictor = None if predictor is None else _made(predictor, PREDICTORS, "predictor")
        self.conventions = conventions
        self.normalise = normalise
        self.memory_limit_mb = memory_limit_mb

    @property
    def config(self) -> dict[str, Any]:
        """What builds this model again: `DenseModel(conventions, **config)`."""
        return {
            "encoder": _described(self.encoder, ENCODERS),
            "predictor": None if self.predictor is None else _described(self.predictor, PREDICTORS),
            "normalise": self.normalise,
            "memory_limit_mb": self.memory_limit_mb,
        }

    def encode(self, frames: Tensor, poses: Tensor | None = None) -> Tensor:
        """uint8 [B, V, H, W, 3] -> latents [B, V * N, D].  The pose is the predictor's, not the latent's."""
        views, height, width = frames.shape[1:4]
        size = self.conventions.image_size
        if (height, width) != (size, size):
            raise ValueError(
                f"frames of {height} x {width} px, but this model sees {size} x {size}: crop them first"
            )
        if views != len(self.conventions.cameras):
            raise ValueError(f"{views} views, but this model sees {len(self.conventions.cameras)}: "
                             f"{', '.join(self.conventions.cameras)}")  # fmt: skip
        weight = next(self.encoder.parameters())
        pixels = normalise_pixels(frames.to(weight.device), weight.dtype)
        tokens = self.encoder(pixels.flatten(0, 1)).unflatten(0, (-1, views)).flatten(1, 2)
        return layer_norm(tokens) if self.normalise else tokens

    def predict(
        self, latents: Tensor, actions: Tensor, poses: Tensor, extrinsics: Tensor | None = None, **z: Tensor
    ) -> Tensor:
        """latents [B, T, N, D], actions and poses [B, T, 7] -> the frame after each of them."""
        out = self._predictor()(latents, actions, poses, extrinsics, **z)
        return layer_norm(out) if self.normalise else out

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        """actions [B, K, H, 7] -> what would follow; gradients flow to the actions.  `z` None: the mean future."""
        return imagine_tokens(
            self._predictor(),
            memory,
            actions,
            z,
            normalise=self.normalise,
            memory_limit_mb=self.memory_limit_mb,
        )

    def _predictor(self) -> TokenPredictor:
        if not isinstance(self.predictor, TokenPredictor):
            raise TypeError(
                "this model has no action-conditioned predictor (a pretraining checkpoint has none): "
                "post-train one, or load an AC checkpoint"
            )
        return self.predictor


def _made(part: nn.Module | Mapping[str, Any], known: Mapping[str, tuple[Any, Any]], what: str) -> nn.Module:
    if isinstance(part, nn.Module):
        return part
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in part.items()}  # JSON has no tuples
    kind = str(fields.pop("kind", None))
    if kind not in known:
        raise ValueError(f"{what} kind {kind!r} is not known; there are {sorted(known)}")
    module, config = known[kind]
    return module(config(**fields))


def _described(module: nn.Module, known: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    for kind, (made, _) in known.items():
        if isinstance(module, made):
            return {"kind": kind, **asdict(cast(Any, module.config))}
    raise TypeError(f"a {type(module).__name__} has no configuration that a checkpoint could keep")
