"""Masked prediction in latent space: I-JEPA, V-JEPA 2, and V-JEPA 2.1's dense term."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from world_model.losses.masks import Grid, Mask, coordinates
from world_model.losses.prediction import layer_norm, prediction_error


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """tokens [B, N, D] at ids [B, n] -> [B, n, D]."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def normalise_levels(tokens: Tensor, levels: int = 1) -> Tensor:
    """Layer norm without parameters of each of `levels` equal parts of the channels (2.1 joins four depths)."""
    return layer_norm(tokens.unflatten(-1, (levels, -1))).flatten(-2)


def masked_prediction(
    predictions: Sequence[Tensor], targets: Tensor, mask: Mask, *, power: float = 1.0, levels: int = 1
) -> Tensor:
    """Mean over the target sets of |prediction - normalised target|^power / power.

    `targets` [B, N, D] are the EMA encoder's tokens of the whole clip; no gradient reaches them.
    """
    wanted = normalise_levels(targets.detach(), levels)
    errors = [
        prediction_error(p, take(wanted, ids), power=power) for p, ids in zip(predictions, mask.targets)
    ]
    return torch.stack(errors).mean()


def distance_to_hidden(context: Tensor, hidden: Tensor, grid: Grid) -> Tensor:
    """Euclidean distance in tokens [B, Nc] from each seen token to the nearest predicted one."""
    return torch.cdist(coordinates(context, grid).float(), coordinates(hidden, grid).float()).amin(-1)


def dense_context(
    predictions: Tensor, targets: Tensor, mask: Mask, grid: Grid, *, power: float = 1.0, levels: int = 1
) -> Tensor:
    """V-JEPA 2.1: the visible tokens are predicted too, less and less away from the masked ones:

        mean over visible tokens of |prediction - target|^power / power / sqrt(distance to nearest masked)

    `predictions` [B, Nc, D] at `mask.context`.  The caller weights it (lambda, warmed up over training).
    """
    wanted = take(normalise_levels(targets.detach(), levels), mask.context)
    weight = distance_to_hidden(mask.context, torch.cat(mask.targets, 1), grid).clamp(min=1.0).rsqrt()
    gap = (predictions.float() - wanted.float()).abs().pow(power).mean(-1) / power
    return (gap * weight).mean()
