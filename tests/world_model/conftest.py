"""Meta's golden numbers: weights, inputs and outputs written by the official code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from world_model.encoders.vit import VisionTransformer, ViTConfig
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig


@pytest.fixture(scope="session")
def golden(fixtures: Path) -> Callable[[str], dict[str, Tensor]]:
    """Tensors of one file, half precision made single (they are exact)."""

    def load(name: str) -> dict[str, Tensor]:
        tensors = load_file(fixtures / "vjepa2" / f"{name}.safetensors")
        return {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}

    return load


@pytest.fixture(scope="session")
def golden_text(fixtures: Path) -> Callable[[str], dict[str, Any]]:
    return lambda name: json.loads((fixtures / "vjepa2" / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def meta_encoder(golden: Callable[[str], dict[str, Tensor]]) -> VisionTransformer:
    """The encoder of fixture a."""
    encoder = VisionTransformer(ViTConfig(dim=96, depth=3, heads=3, hidden=384))
    encoder.load_state_dict(golden("a_encoder_weights"))
    return encoder.eval()


@pytest.fixture(scope="session")
def meta_predictor(golden: Callable[[str], dict[str, Tensor]]) -> Callable[..., TokenPredictor]:
    """The predictor of fixture b, for a grid."""

    def build(grid: tuple[int, int] = (4, 4)) -> TokenPredictor:
        predictor = TokenPredictor(TokenPredictorConfig(latent_dim=96, dim=48, depth=3, heads=3, grid=grid))
        predictor.load_state_dict(golden("b_ac_predictor_weights"))
        return predictor.eval()

    return build
