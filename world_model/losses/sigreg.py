"""Sketched isotropic Gaussian regularisation (LeJEPA): latents, seen along random directions, look normal."""

from __future__ import annotations

import torch
from torch import Tensor

from world_model.losses.reduce import mean_over_processes


def random_directions(dim: int, count: int, *, seed: int, step: int, device: torch.device | str) -> Tensor:
    """Unit vectors [dim, count]; drawn on the CPU so that every process and every device gets the same ones."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % (2**63 - 1))
    directions = torch.randn(dim, count, generator=generator)
    return (directions / directions.norm(dim=0, keepdim=True)).to(device)


def sigreg(
    latents: Tensor,
    *,
    step: int,
    directions: int = 256,
    knots: int = 17,
    t_max: float = 3.0,
    per_step: bool = False,
    seed: int = 0,
) -> Tensor:
    """Epps-Pulley statistic of latents [..., D] along random directions, averaged over directions.

    With u = z . a the projection of n samples on a direction a, phi(t) = exp(-t^2 / 2):

        n * integral over -t_max..t_max of |mean_j exp(i t u_j) - phi(t)|^2 phi(t) dt

    by the trapezoid rule on `knots` points of the (even) integrand's positive half.  About 1.06 for samples
    of a standard normal, whatever n; grows with n where they are not.  `per_step` takes latents
    [B, T, ..., D] and tests each time step alone, so that time cannot stand in for variety.  Under
    torch.distributed the characteristic function is that of all processes' samples.
    """
    if per_step and latents.ndim < 3:
        raise ValueError(f"per_step needs latents [B, T, ..., D], got shape {tuple(latents.shape)}")
    with torch.autocast(latents.device.type, enabled=False):
        z = latents.float()
        z = z.transpose(0, 1).flatten(1, -2) if per_step else z.reshape(1, -1, z.shape[-1])  # [T, n, D]
        a = random_directions(z.shape[-1], directions, seed=seed, step=step, device=z.device)
        t = torch.linspace(0.0, t_max, knots, device=z.device)
        phi = torch.exp(-0.5 * t.square())
        weight = torch.full_like(t, 2 * t_max / (knots - 1))
        weight[0] = weight[-1] = t_max / (knots - 1)
        angle = (z @ a).unsqueeze(-1) * t  # [T, n, directions, knots]
        wave, count = mean_over_processes(torch.stack([angle.cos(), angle.sin()], -1), 1)
        gap = (wave[..., 0] - phi).square() + wave[..., 1].square()
        return (gap @ (weight * phi)).mean() * count
