"""How the world that a model sees is turned against the arm's: the turn under which it foresees best what came.

The energy's minimum over actions (the axis check) says where the model thinks it went, one direction at a time; with
an unfamiliar view it errs by tens of degrees.  Here whole moves vote: poses and actions are turned about a vertical
axis, and the turn and the axis are kept with which imagination comes nearest to the frames that followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.poses import euler_from_rotation, rotation_from_euler
from data.types import Memory
from world_model.health import given_actions

from .imagining import Encoded

COARSE_DEG = 10
FIRST_STEP = (np.deg2rad(5.0), 0.1, 0.1)  # of the search: yaw, and the axis's x and y in metres
FINE = 16  # the last step is so many times finer


@dataclass(kw_only=True, slots=True)
class Turn:
    """imagined = pivot + turn (true - pivot)."""

    yaw_rad: float
    pivot: tuple[float, float]
    error: float  # mean squared latent error of one imagined step under it
    plain: float  # and with nothing turned
    copied: float  # and of taking the last frame for the next

    @property
    def explained(self) -> float:
        """Share of what changes from frame to frame that is foreseen: 0 no better than the last frame, 1 all of it."""
        return 1.0 - self.error / max(self.copied, 1e-12)


def turned(poses: Tensor, yaw_rad: float, pivot: tuple[float, float]) -> Tensor:
    """Poses [..., 7] about a vertical axis."""
    turn = rotation_from_euler(torch.tensor([0.0, 0.0, yaw_rad], dtype=torch.float64))
    about = torch.tensor([*pivot, 0.0], dtype=torch.float64)
    poses = poses.double()
    position = about + (poses[..., :3] - about) @ turn.T
    rotation = euler_from_rotation(turn @ rotation_from_euler(poses[..., 3:6]))
    return torch.cat([position, rotation, poses[..., 6:]], -1)


def turned_actions(actions: Tensor, yaw_rad: float) -> Tensor:
    """Actions [..., 7]: the move and the axis of the turn."""
    turn = rotation_from_euler(torch.tensor([0.0, 0.0, yaw_rad], dtype=torch.float64))
    actions = actions.double()
    spin = turn @ rotation_from_euler(actions[..., 3:6]) @ turn.T
    return torch.cat([actions[..., :3] @ turn.T, euler_from_rotation(spin), actions[..., 6:]], -1)


def find_turn(model: Any, episodes: list[Encoded], *, context: int = 3) -> Turn:
    """Coarsely all around, then finer with the axis, as long as it gets better."""
    start = torch.cat([e.stretch.poses[:, :2] for e in episodes]).mean(0).tolist()
    here = np.array([0.0, start[0], start[1]])
    plain = _error(model, episodes, here, context)
    candidates = [np.array([np.deg2rad(d), *start]) for d in range(-180, 180, COARSE_DEG)]
    scored = [(plain, here), *((_error(model, episodes, c, context), c) for c in candidates)]
    best, here = min(scored, key=lambda pair: pair[0])
    step = np.array(FIRST_STEP)
    while step[0] > FIRST_STEP[0] / FINE:
        before = best
        for axis in range(3):
            for sign in (1.0, -1.0):
                there = here.copy()
                there[axis] += sign * step[axis]
                error = _error(model, episodes, there, context)
                if error < best * (1 - 1e-4):
                    best, here = error, there
        if best == before:
            step /= 2
    truths = [e.latents[0, context:] - e.latents[0, context - 1 : -1] for e in episodes]
    copied = float(torch.cat(truths).square().mean())
    return Turn(
        yaw_rad=float(here[0]),
        pivot=(float(here[1]), float(here[2])),
        error=best,
        plain=plain,
        copied=copied,
    )


@torch.no_grad()
def _error(model: Any, episodes: list[Encoded], place: np.ndarray, context: int) -> float:
    """Mean squared latent error of one imagined step, with everything turned: yaw, axis x, axis y."""
    total, count = 0.0, 0
    for encoded in episodes:
        poses = turned(encoded.stretch.poses, place[0], (place[1], place[2])).float()
        actions = turned_actions(encoded.stretch.actions, place[0]).float()
        z = encoded.latents[0]
        steps = range(context - 1, len(poses) - 1)
        memory = Memory(
            latents=torch.stack([z[t - context + 1 : t + 1] for t in steps]),
            poses=torch.stack([poses[t - context + 1 : t + 1] for t in steps]),
            actions=torch.stack([actions[t - context + 1 : t] for t in steps]),
        )
        given = given_actions(
            model,
            torch.stack([actions[t : t + 1] for t in steps]),
            torch.stack([poses[t : t + 2] for t in steps]),
        )
        imagined = model.imagine(memory, given[:, None]).latents[:, 0, 0]
        total += float((imagined - z[context:]).square().mean((-1, -2)).sum())
        count += len(steps)
    return total / max(count, 1)
