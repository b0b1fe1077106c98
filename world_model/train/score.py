"""An offline score on held-out episodes: does planning with the model find what was really done?

From a moment of a log and the frame `horizon` steps later as the goal, plan; compare where the planned actions
would take the hand with where it went.  No robot moves.  As the DROID action score: 800 (0.1 - error in metres).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.types import CLOSEDNESS, Memory
from world_model.compact import absolute
from world_model.train.latents import Latents

Plans = Callable[[Memory, Tensor], Tensor]  # memory, goal latents [B, N, D] -> actions [B, H, 7]


@dataclass(kw_only=True)
class ActionScore:
    """Errors in metres; `still_m` is what doing nothing would have."""

    error_m: float
    first_error_m: float
    still_m: float
    gripper_right: float
    moments: int

    @property
    def score(self) -> float:
        return max(0.0, 800 * (0.1 - self.error_m))

    @property
    def figures(self) -> dict[str, float]:
        return {**vars(self), "score": self.score}

    def __str__(self) -> str:
        return (
            f"action score {self.score:.1f} (end position {1e3 * self.error_m:.1f} mm off, doing nothing "
            f"{1e3 * self.still_m:.1f} mm; gripper right {self.gripper_right:.0%}; {self.moments} moments)"
        )


@dataclass(kw_only=True)
class Moments:
    """Places in held-out episodes to plan from."""

    memory: Memory
    goal: Tensor  # [B, N, D]
    done: Tensor  # [B, H, 7], the gripper part commanded closedness
    places: Tensor  # [B, H + 1, 3] where the hand was
    after: Tensor  # [B, N, D] one step later


def choose_moments(held: Latents, *, horizon: int = 3, context: int = 3, count: int = 128) -> Moments:
    """`count` moments, evenly spread over the episodes, each with its past and its future."""
    starts = [
        np.arange(f + context - 1, f + n - horizon)
        for f, n in zip(held.first, held.rows)
        if n >= context + horizon
    ]
    every = np.concatenate(starts) if starts else np.empty(0, np.int64)
    if not len(every):
        longest = int(held.rows.max(initial=0))
        raise ValueError(
            f"no held-out episode has {context + horizon} steps (the longest of {len(held.rows)} has {longest}): "
            "record more, or hold out a larger share with validation="
        )
    now = torch.from_numpy(every[np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)])
    past = now[:, None] + torch.arange(1 - context, 1)
    ahead = now[:, None] + torch.arange(horizon + 1)
    memory = Memory(
        latents=held.latents[past].float(), poses=held.poses[past], actions=held.actions[past[:, :-1]]
    )
    done = absolute(held.actions[ahead[:, :-1]], held.poses[ahead[:, :-1]])
    return Moments(
        memory=memory, goal=held.latents[ahead[:, -1]].float(), done=done, places=held.poses[ahead][..., :3],
        after=held.latents[ahead[:, 1]].float(),
    )  # fmt: skip


def action_score(moments: Moments, plan: Plans, *, told_absolute: bool, batch: int = 16) -> ActionScore:
    """Plan from every moment and compare with what was done."""
    memory = moments.memory
    found = [
        plan(
            Memory(latents=memory.latents[at], poses=memory.poses[at], actions=memory.actions[at]),
            moments.goal[at],
        )
        for at in torch.arange(len(moments.goal)).split(batch)
    ]
    actions = torch.cat(found)
    if not told_absolute:
        closed = memory.poses[:, -1:, CLOSEDNESS] + actions[..., CLOSEDNESS].cumsum(-1)
        actions = torch.cat([actions[..., :CLOSEDNESS], closed[..., None]], -1)
    went = moments.places[:, -1] - moments.places[:, 0]
    right = (actions[..., CLOSEDNESS] > 0.5) == (moments.done[..., CLOSEDNESS] > 0.5)
    return ActionScore(
        error_m=float((actions[..., :3].sum(1) - went).norm(dim=-1).mean()),
        first_error_m=float((actions[:, 0, :3] - moments.done[:, 0, :3]).norm(dim=-1).mean()),
        still_m=float(went.norm(dim=-1).mean()),
        gripper_right=float(right.float().mean()),
        moments=len(actions),
    )


@torch.no_grad()
def one_step_errors(world: Any, moments: Moments) -> tuple[Tensor, Tensor]:
    """How far off the model is one step ahead: mean squared latent error [B], position error [B] in metres."""
    memory, first = moments.memory, moments.done[:, :1]
    if not getattr(world, "absolute_gripper", False):
        change = first[..., CLOSEDNESS:] - memory.poses[:, -1:, CLOSEDNESS:]
        first = torch.cat([first[..., :CLOSEDNESS], change], -1)
    imagined = world.imagine(memory, first[:, None])
    latent = (imagined.latents[:, 0, 0] - moments.after).square().mean((-1, -2))
    position = (imagined.poses[:, 0, 0, :3] - moments.places[:, 1]).norm(dim=-1)
    return latent, position
