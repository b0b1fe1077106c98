"""A latent variable z in the predictor: what the future will be that the present does not tell.

In training a posterior looks at the true next frame and says in z what could not be foreseen; how much it may say is
paid for.  At imagination z is drawn from a standard normal: each draw is one possible future, and no z is their mean.
Letters: B batch, K candidates, H horizon, T frames, N tokens, D channels, Z channels of z.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from data.types import Memory
from world_model.losses.prediction import prediction_error


class PredictsWithZ(Protocol):
    def __call__(
        self, latents: Tensor, actions: Tensor, poses: Tensor, /, *, z: Tensor, keep: Tensor
    ) -> Tensor: ...


class Posterior(nn.Module):
    """q(z | frame, next frame): mean and log variance [..., Z] from latents [..., N, D], any number of tokens."""

    def __init__(self, *, dim: int, z_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2 * dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.all = nn.Linear(hidden, 2 * z_dim)
        nn.init.zeros_(self.all.bias)

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.each(torch.cat([before, after - before], -1)).mean(-2)
        mean, log_variance = self.all(seen).chunk(2, -1)
        return mean, log_variance.clamp(-10, 4)


def information(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z) || N(0, 1)) in nats, [...]: what z tells of the future."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def variational_prediction(
    predict: PredictsWithZ,
    posterior: Posterior,
    latents: Tensor,
    actions: Tensor,
    poses: Tensor,
    *,
    price: float = 0.01,
    free_nats: float = 0.0,
    drop: float = 0.25,
    power: float = 2.0,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Teacher-forced prediction of latents [B, T, N, D] with z from the posterior, actions [B, T-1, 7]:

        error(prediction with z ~ q, next) + price * max(KL(q || N(0, 1)) - free_nats, 0)

    For a share `drop` of the frames z is left out, which teaches the mean future that `z=None` stands for.
    """
    before, after = latents[:, :-1], latents[:, 1:]
    mean, log_variance = posterior(before, after)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    z = mean + (0.5 * log_variance).exp() * noise
    keep = torch.rand(mean.shape[:-1], generator=generator, device=mean.device) >= drop
    prediction = predict(before, actions, poses[:, : before.shape[1]], z=z, keep=keep)
    nats = information(mean, log_variance).mean()
    error = prediction_error(prediction, after, power=power)
    return {"error": error, "nats": nats, "loss": error + price * (nats - free_nats).clamp(min=0)}


class DrawZ:
    """Draws z [B, K, H, Z] from the prior: the same future for all candidates, so that they can be compared."""

    def __init__(self, z_dim: int) -> None:
        self.z_dim = z_dim

    def __call__(self, memory: Memory, actions: Tensor, generator: torch.Generator) -> Tensor:
        b, k, horizon = actions.shape[:3]
        z = torch.randn(b, 1, horizon, self.z_dim, generator=generator)
        return z.expand(-1, k, -1, -1).to(actions)
