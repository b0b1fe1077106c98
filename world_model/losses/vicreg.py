"""Variance and covariance terms of VICReg (as C-JEPA adds them to a JEPA): no dimension dies, none repeats another."""

from __future__ import annotations

import torch
from torch import Tensor

from world_model.losses.reduce import mean_over_processes, sum_over_processes


def covariance_matrix(latents: Tensor) -> Tensor:
    """Unbiased covariance [G, D, D] of [G, n, D], over the samples of all processes."""
    z = latents.float()
    mean, count = mean_over_processes(z, 1)
    centred = z - mean.unsqueeze(1)
    return sum_over_processes(centred.transpose(1, 2) @ centred) / (count - 1)


def vicreg(
    latents: Tensor,
    *,
    variance_weight: float = 1.0,
    covariance_weight: float = 0.04,
    target_std: float = 1.0,
    per_step: bool = False,
    eps: float = 1e-4,
) -> Tensor:
    """For covariance C of latents [..., D] (each time step of [B, T, ..., D] alone with `per_step`):

    variance   = mean_d relu(target_std - sqrt(C_dd + eps))
    covariance = sum over d != e of C_de^2 / D
    """
    with torch.autocast(latents.device.type, enabled=False):
        z = latents.float()
        z = z.transpose(0, 1).flatten(1, -2) if per_step else z.reshape(1, -1, z.shape[-1])
        c = covariance_matrix(z)
        diagonal = c.diagonal(dim1=-2, dim2=-1)
        variance = torch.relu(target_std - torch.sqrt(diagonal + eps)).mean()
        covariance = (c.square().sum((-2, -1)) - diagonal.square().sum(-1)).mean() / c.shape[-1]
        return variance_weight * variance + covariance_weight * covariance
