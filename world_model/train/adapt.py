"""Going on from a trained model on few logs: what it knew is brought along, what is new learns first.

Batch norm's means and variances are those of the lab where the model was trained: they are measured again first.
The recipe's helpers that no model's folder holds (inverse dynamics, touch, body) begin at random, and random helpers pull
the encoder in random directions.  So they are fitted on the latents as they are before anything else moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from world_model.checkpoint import describe, load_heads
from world_model.train.latents import Latents
from world_model.train.panda import PandaModel, touch_error


def bring_heads(model: nn.Module, folder: str | Path) -> list[str]:
    """Give the learner the policy, the critic and the sense of body of a model's folder, where they fit; returns their names."""
    if not isinstance(model, PandaModel):
        return []
    brought: list[str] = []
    stored = [name for name in ("policy", "critic", "body") if name in describe(folder).heads]
    for name, head in load_heads(folder, names=stored).items():
        own = getattr(model, name)
        shapes = {key: value.shape for key, value in own.state_dict().items()}
        if shapes == {key: value.shape for key, value in head.state_dict().items()}:
            own.load_state_dict(head.state_dict())
            brought.append(name)
    return brought


@torch.no_grad()
def recalibrate(world: Any, pictures: Iterable[Tensor]) -> int:
    """Measure the encoder's batch norms again on pictures [B, V, H, W, 3] of where it is now; returns how many it has."""
    norms = [
        m for m in world.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    if not norms:
        return 0
    momenta, training = [norm.momentum for norm in norms], world.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all that follow
    device = next(world.parameters()).device
    world.train()
    for frames in pictures:
        world.encode(frames.to(device))
    world.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return len(norms)


def settle(
    model: nn.Module,
    latents: Latents,
    held: Tensor,
    *,
    steps: int = 400,
    batch: int = 512,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> dict[str, float]:
    """Fit inverse dynamics, touch and body on latents as they are; `held` [N, 3] is where the thing in hand was or will be.

    Returns the last losses.  The same seed gives the same helpers.
    """
    if not isinstance(model, PandaModel):
        return {}
    helpers: Any = nn.ModuleList([model.inverse, model.touch, model.body]).train()
    optimizer = torch.optim.AdamW(helpers.parameters(), lr=learning_rate, weight_decay=0.01)
    device = next(helpers.parameters()).device
    starts = np.concatenate(
        [np.arange(f, f + n - 1) for f, n in zip(latents.first, latents.rows, strict=True)]
    )
    rng = np.random.default_rng([seed, 7])
    figures: dict[str, float] = {}
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        rows = torch.from_numpy(rng.choice(starts, batch))
        pairs = (
            torch.stack([latents.latents[rows], latents.latents[rows + 1]], 1).float().to(device)
        )  # [B, 2, N, D]
        inverse = model.inverse.loss(pairs, latents.actions[rows][:, None].to(device))
        touch = touch_error(model.touch(pairs[:, 0, 0]), held[rows].to(device))
        body = model.body.loss(pairs[:, 0], latents.poses[rows].to(device))
        (inverse + touch + body).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        figures = {"inverse": inverse.item(), "touch": touch.item(), "body": body.item()}
    return figures
