"""The dense world model: patch tokens per frame, as V-JEPA 2-AC has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from data.types import Conventions, Imagined, Memory
from world_model.encoders.vit import VisionTransformer, sized
from world_model.imagine import imagine_tokens
from world_model.losses.prediction import layer_norm
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalise_pixels(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [..., H, W, 3] -> [..., 3, H, W] with ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGE_MEAN, device=frames.device) * 255
    std = torch.tensor(IMAGE_STD, device=frames.device) * 255
    return ((frames.float() - mean) / std).movedim(-1, -3).to(dtype)


@dataclass(kw_only=True)
class DenseConfig:
    """A dense world model of our own."""

    encoder: str = "tiny"
    """A size of `encoders.vit.SIZES`: tiny small base large huge giant gigantic."""
    patch: int = 16
    """Side of a patch in pixels."""
    width: int = 192
    """Channels inside the predictor."""
    depth: int = 6
    """Blocks of the predictor."""
    heads: int = 6
    """Attention heads of the predictor."""
    z_dim: int = 0
    """Channels of a latent variable that picks one of several futures (0: none)."""
    conventions: Conventions = field(default_factory=Conventions)
    """Cameras, crop, step: what the model takes for granted."""

    def build(self) -> DenseWorldModel:
        """The untrained model."""
        vit = sized(self.encoder, patch=self.patch, rope="interleaved")
        side = self.conventions.image_size // self.patch
        grid = (side * len(self.conventions.cameras), side)
        predictor = TokenPredictorConfig(
            latent_dim=vit.dim,
            dim=self.width,
            depth=self.depth,
            heads=self.heads,
            grid=grid,
            z_dim=self.z_dim,
            rope="interleaved",
        )
        model = DenseWorldModel(
            VisionTransformer(vit), TokenPredictor(predictor), conventions=self.conventions
        )
        model.config = asdict(self)
        return model


class DenseWorldModel(nn.Module):
    """An encoder that sees each frame alone and a token predictor (implements `data.types.WorldModel`).

    Several views are stacked as rows of one grid.  `encoder` and `predictor` give raw outputs; `encode`, `predict`
    and `imagine` give latents layer-normalised without parameters where `normalise` is set, as V-JEPA 2-AC does.
    """

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module | None,
        *,
        conventions: Conventions,
        normalise: bool = True,
        memory_limit_mb: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.conventions = conventions
        self.normalise = normalise
        self.memory_limit_mb = memory_limit_mb
        self.config: dict[str, Any] = {}

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
