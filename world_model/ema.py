"""The slow copy of an encoder that masked prediction takes its targets from."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class EMA(nn.Module, Generic[M]):
    """target <- momentum * target + (1 - momentum) * online, after each optimiser step; never trained itself."""

    def __init__(self, online: M) -> None:
        super().__init__()
        self.target: M = copy.deepcopy(online).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> EMA[M]:
        """The target stays in evaluation mode."""
        super().train(mode)
        self.target.eval()
        return self

    @torch.no_grad()
    def update(self, online: nn.Module, momentum: float) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum {momentum} must lie between 0 and 1")
        for s, f in zip(self.target.parameters(), online.parameters()):
            s.lerp_(f.detach().to(s.dtype), 1 - momentum)
        for s, f in zip(self.target.buffers(), online.buffers()):
            s.copy_(f)

    @torch.no_grad()
    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        return self.target(*args, **kwargs)
