"""What the loop is made of: the protocols of recipes and loaders, the step as one module, seeds, weight decay."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from data.types import Conventions

Health = Callable[[nn.Module, int], tuple[dict[str, float], list[str]]]  # -> figures, warnings in words


class Recipe(Protocol):
    """What is learned from a clip.  `after_step` (an EMA) and `parameter_groups` are optional."""

    def build(self, conventions: Conventions) -> nn.Module: ...

    def loss(
        self, model: nn.Module, clip: TensorDict, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The scalar to minimise and the figures to show.  `generator` is the same in every process."""
        ...


class Loader(Protocol):
    """Yields clips without end, or epoch after epoch, and knows its place in their order."""

    def __iter__(self) -> Iterator[TensorDict]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Program(nn.Module):
    """Model and recipe as one call, so that DDP, FSDP and torch.compile see the whole step."""

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        super().__init__()
        self.recipe, self.model = recipe, model

    def forward(
        self, clip: TensorDict, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        return self.recipe.loss(self.model, clip, step, generator)


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels; none for biases, norms and other one-dimensional parameters."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim <= 1 or n.endswith("bias")]
    decayed = [p for n, p in named if not (p.ndim <= 1 or n.endswith("bias"))]
    return [g for g in ({"params": decayed}, {"params": plain, "weight_decay": 0.0}) if g["params"]]


def seed_everything(seed: int, step: int, rank: int = 0) -> int:
    """Seed torch, numpy and python for one step of one process; returns the seed that all processes share."""
    shared, own = (
        int(np.random.SeedSequence([seed, step + 1, r]).generate_state(1)[0]) for r in (2**31, rank)
    )
    torch.manual_seed(own)
    np.random.seed(own)
    random.seed(own)
    return shared


def endless(loader: Loader) -> Iterator[TensorDict]:
    while True:
        empty = True
        for clip in loader:
            empty = False
            yield clip
        if empty:
            raise ValueError(
                "the loader yields no clips: the data is empty, or every episode is shorter than a clip"
            )
