"""Does planning with a model find what was done in a log?  The offline score of a world model, log by log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.cache import FrameCache
from data.types import Memory
from planners.actions import ActionSpace, GripperRule
from planners.cem import CEM
from planners.costs.goal import GoalDistance
from planners.costs.total import Term, TotalCost
from world_model.checkpoint import load_model
from world_model.train.latents import Latents
from world_model.train.parts import Health
from world_model.train.score import ActionScore, action_score, choose_moments


def score_world(
    world: Any, judges: Latents, *, horizon: int = 3, count: int = 96, seed: int = 0
) -> ActionScore:
    """The offline score by cross-entropy search on the latent distance."""
    told = bool(getattr(world, "absolute_gripper", False))
    space = ActionSpace() if told else ActionSpace(
        low=(-0.06, -0.06, -0.06, -0.3, -0.3, -0.3, -1.0), gripper=GripperRule.DELTA
    )  # fmt: skip
    device = next(world.parameters()).device
    light = judges.latents.shape[1] > 1 and device.type == "cpu"
    candidates, iterations, count = (32, 3, min(count, 16)) if light else (128, 5, count)
    planner = CEM(
        space=space, horizon=horizon, candidates=candidates, iterations=iterations, elites=candidates // 8
    )

    @torch.no_grad()
    def plan(memory: Memory, goal: Tensor) -> Tensor:
        return planner.plan(
            memory, world, TotalCost([Term(name="goal", cost=GoalDistance(goal=goal))]), seed=seed
        ).actions

    moments = choose_moments(judges, horizon=horizon, count=count)
    return action_score(moments, plan, told_absolute=told)


def score_folder(
    path: str | Path, cache: FrameCache, *, log: str | Path | None = None, validation: float
) -> ActionScore:
    """The offline score of a model's folder on a log's held-out episodes."""
    world = load_model(path)
    return score_world(world, latents_of(world, cache, held_out_of(cache, log, validation=validation))[0])


def held_out_of(cache: FrameCache, log: str | Path | None = None, *, validation: float) -> list[int]:
    """Numbers of the held-out episodes of a cache, or of one of the logs that it was made of."""
    found = cache.split("validation", validation=validation)
    if log is None:
        return found
    source = str(Path(log).expanduser().resolve())
    return [e for e in found if cache.episodes[e].source == source]


@torch.no_grad()
def latents_of(world: Any, cache: FrameCache, episodes: Sequence[int] | np.ndarray) -> tuple[Latents, Tensor]:
    """Some episodes of a cache encoded as the world model is now, and the rows of the cache that they are."""
    chosen, device = np.asarray(episodes, np.int64), next(world.parameters()).device
    first, lengths = cache.episode_offsets[chosen], cache.episode_lengths[chosen]
    spans = [np.arange(f, f + n) for f, n in zip(first, lengths, strict=True)]
    rows = torch.from_numpy(np.concatenate(spans) if spans else np.empty(0, np.int64))
    training = world.training
    world.eval()
    latents = torch.cat(
        [world.encode(cache.frames[part].to(device)).float().cpu() for part in rows.split(64)]
    )
    world.train(training)
    found = Latents(
        latents=latents, poses=cache.poses[rows], actions=cache.actions[rows],
        first=np.cumsum(lengths) - lengths, rows=lengths,
    )  # fmt: skip
    return found, rows


def scored(
    hook: Health, cache: FrameCache, episodes: Sequence[int], *, most: int = 24, count: int = 48
) -> Health:
    """A measurement of health whose `score`, which the best checkpoint follows, is the action error in metres."""
    picked = np.unique(np.linspace(0, len(episodes) - 1, min(most, len(episodes))).astype(int))
    chosen = np.asarray(episodes)[picked]

    def measured(model: Any, step: int) -> tuple[dict[str, float], list[str]]:
        measures, warnings = hook(model, step)
        score = score_world(model.world, latents_of(model.world, cache, chosen)[0], count=count)
        return {**measures, "action_error_mm": 1e3 * score.error_m, "score": score.error_m}, warnings

    return measured
