"""Sums over the processes of a torch.distributed group, with the gradient that data-parallel training needs."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _SumOverProcesses(torch.autograd.Function):
    """Forward: sum.  Backward: sum.

    Every process computes the same loss from the sum, and DDP averages the gradients of the parameters, so
    the processes together get exactly the gradient of the loss over the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of `x` over all processes; `x` itself where there is one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    if torch.is_grad_enabled() and x.requires_grad:
        return _SumOverProcesses.apply(x)  # type: ignore[return-value]
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def mean_over_processes(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean of `x` along `dim` over all processes (whose sizes may differ) and the number of samples."""
    count = sum_over_processes(torch.tensor(float(x.shape[dim]), device=x.device))
    return sum_over_processes(x.sum(dim)) / count, count
