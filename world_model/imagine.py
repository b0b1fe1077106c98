"""The one cached rollout of a token predictor: training's rollout, evaluation and planning all come here.

Letters: B batch, K candidates, H horizon, T frames remembered, N tokens, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from data.poses import apply_action
from data.types import Imagined, Memory
from world_model.attention import Cache
from world_model.losses.prediction import layer_norm
from world_model.predictors.tokens import TokenPredictor

# Measured: turns of this size cost a CPU nothing, and keep below the memory of one pass over the whole sequence.
CPU_TURN_MB = 128.0


def imagine_tokens(
    predictor: TokenPredictor,
    memory: Memory,
    actions: Tensor,
    z: Tensor | None = None,
    *,
    normalise: bool = True,
    memory_limit_mb: float | None = None,
) -> Imagined:
    """What would follow from each of the candidates' actions [B, K, H, 7], with latent variables z [B, K, H, Z].

    The frames before the current one are looked at once, for all candidates: the current one already sees the
    candidate's first action.  Then each imagined step costs one frame.  The poses are those that the actions add
    up to.  `memory_limit_mb` takes the candidates in turns, so that about this much is needed beside the result and the
    40 MB that libraries take (unless given: `CPU_TURN_MB` on a CPU without gradients, all at once otherwise).
    """
    horizon = actions.shape[2]
    if memory.latents.shape[1] != memory.actions.shape[1] + 1:
        raise ValueError(
            f"a memory of {memory.latents.shape[1]} frames needs one action less, got {memory.actions.shape[1]}"
        )
    if horizon == 0:
        raise ValueError("nothing to imagine: the actions have a horizon of 0")
    kind = predictor.predictor_proj.weight.dtype
    latents, caches = memory.latents.to(kind), None
    if latents.shape[1] > 1:
        _, caches = predictor.step(latents[:, :-1], memory.actions, memory.poses[:, :-1])
    turns = _turns(predictor, memory, actions, z, memory_limit_mb)
    if len(turns) == 1:
        seen, felt = _imagine(predictor, latents[:, -1:], memory.poses[:, -1], caches, actions, z, normalise)
        return Imagined(latents=seen.to(memory.latents.dtype), poses=felt)
    shape = (*actions.shape[:3], *latents.shape[2:])
    together = Imagined(  # filled turn by turn: results side by side would be held twice
        latents=memory.latents.new_empty(shape), poses=memory.poses.new_empty((*actions.shape[:3], 7))
    )
    done = 0
    for some, zs in turns:
        rows = slice(done, done := done + some.shape[1])
        together.latents[:, rows], together.poses[:, rows] = _imagine(
            predictor, latents[:, -1:], memory.poses[:, -1], caches, some, zs, normalise
        )
    return together


def _imagine(
    predictor: TokenPredictor,
    now: Tensor,
    pose: Tensor,
    past: list[Cache] | None,
    actions: Tensor,
    z: Tensor | None,
    normalise: bool,
) -> tuple[Tensor, Tensor]:
    """now [B, 1, N, D], pose [B, 7] -> latents [B, K, H, N, D], poses [B, K, H, 7]."""
    b, k, horizon = actions.shape[:3]
    frame = None if past is None else past[0].used
    caches = None
    if past is not None and frame is not None:
        per_frame = predictor.tokens + conditions(predictor)
        caches = [c.spread(k, frame + horizon * per_frame) for c in past]
    latents = now.unsqueeze(1).expand(-1, k, -1, -1, -1).flatten(0, 1)  # [B*K, 1, N, D]
    pose = pose.unsqueeze(1).expand(-1, k, -1).flatten(0, 1)
    seen: list[Tensor] = []
    felt: list[Tensor] = []
    for h in range(horizon):
        a = actions[:, :, h].flatten(0, 1)
        zs = None if z is None else z[:, :, h].flatten(0, 1).unsqueeze(1)
        latents, caches = predictor.step(latents, a.unsqueeze(1), pose.unsqueeze(1), caches, z=zs)
        if h == 0 and past is None and horizon > 1:
            caches = [c.spread(1, horizon * c.used) for c in caches]
        if normalise:
            latents = layer_norm(latents)
        pose = apply_action(pose, a.to(pose.dtype))
        seen.append(latents)
        felt.append(pose)
    return torch.cat(seen, 1).unflatten(0, (b, k)), torch.stack(felt, 1).unflatten(0, (b, k))


def conditions(predictor: TokenPredictor) -> int:
    """Conditioning tokens of one frame at imagination."""
    return 2 + bool(predictor.config.z_dim)


def bytes_per_candidate(predictor: TokenPredictor, remembered: int, horizon: int) -> int:
    """About how much memory imagining one more candidate needs: keys and values, and the widest layer."""
    c = predictor.config
    item = predictor.predictor_proj.weight.element_size()
    frame = predictor.tokens + conditions(predictor)
    cached = 2 * c.depth * (remembered - 1 + horizon) * frame * c.dim
    working = frame * (8 * c.dim + 2 * (c.hidden or 4 * c.dim))
    if torch.is_grad_enabled():
        cached, working = cached * horizon, working * c.depth * horizon
    return item * (cached + working)


def _turns(
    predictor: TokenPredictor, memory: Memory, actions: Tensor, z: Tensor | None, limit_mb: float | None
) -> list[tuple[Tensor, Tensor | None]]:
    b, k, horizon = actions.shape[:3]
    if limit_mb is None and actions.device.type == "cpu" and not torch.is_grad_enabled():
        limit_mb = CPU_TURN_MB
    if limit_mb is None:
        return [(actions, z)]
    each = b * bytes_per_candidate(predictor, memory.latents.shape[1], horizon)
    size = min(max(int(limit_mb * 2**20) // each, 1), k)
    size = -(-k // -(-k // size))  # turns of about equal size
    zs = [None] * k if z is None else list(z.split(size, 1))
    return list(zip(actions.split(size, 1), zs))
