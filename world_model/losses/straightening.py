"""Temporal straightening: a latent trajectory that bends little is one that gradients can follow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def straightening(latents: Tensor, *, still: float = 1e-3) -> Tensor:
    """mean over t of 1 - cos(z_t+1 - z_t, z_t - z_t-1) for latents [B, T, ..., D], T >= 3.

    Steps shorter than `still` times the mean step have no direction and are left out.
    """
    if latents.shape[1] < 3:
        raise ValueError(f"straightening needs three frames or more, got {latents.shape[1]}")
    velocity = latents.float().diff(dim=1)
    if velocity.ndim > 3:
        velocity = velocity.flatten(2)
    length = velocity.norm(dim=-1).detach()
    moving = length > still * length.mean()
    bend = 1 - F.cosine_similarity(velocity[:, 1:], velocity[:, :-1], dim=-1)
    counted = moving[:, 1:] & moving[:, :-1]
    return torch.where(counted, bend, torch.zeros_like(bend)).sum() / counted.sum().clamp(min=1)
