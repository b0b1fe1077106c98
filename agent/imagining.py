"""Imagined against real: what a world model's roll-outs are worth, on recorded episodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.types import CLOSEDNESS, Memory
from planners.costs.goal import GoalDistance
from planners.costs.total import Term, TotalCost
from planners.landscape import Landscape, landscape
from world_model.health import Health, given_actions, measure

from .recorded import Stretch

AXES = {0: "x", 1: "y", 2: "z", 6: "gripper"}


@dataclass(kw_only=True)
class Encoded:
    """A stretch with its latents [1, T, N, D]."""

    stretch: Stretch
    latents: Tensor


@dataclass(kw_only=True)
class RollOuts:
    """Errors by horizon 1 .. H, means over starts; latent ones are mean squares."""

    latent: list[float]
    copy_last: list[float]
    wrong_actions: list[float]
    position_m: list[float]
    closedness: list[float]
    starts: int
    hand_m: list[float] | None = None
    """How far the hand's place, as read from the imagined latent, is from where it was; None: no head reads it."""
    hand_seen_m: list[float] | None = None
    """The same, read from the latent that came: what the head itself errs."""

    @property
    def figures(self) -> dict[str, Any]:
        pairs = zip(self.latent, self.copy_last, self.wrong_actions, strict=True)
        ratios = [(e / max(c, 1e-12), w / max(e, 1e-12)) for e, c, w in pairs]
        return {
            "copy_ratio": [r for r, _ in ratios],
            "wrong_ratio": [r for _, r in ratios],
            "position_error_m": self.position_m,
            "closedness_error": self.closedness,
            "hand_read_error_m": self.hand_m,
            "hand_read_error_when_seen_m": self.hand_seen_m,
            "starts": self.starts,
        }


@dataclass(kw_only=True)
class AxisCheck:
    """What the energy says was done, against what was done: inferred = matrix @ true, in metres."""

    matrix: Tensor  # [3, 3]
    yaw_error_deg: float
    inferred: Tensor  # [M, 3]
    true: Tensor  # [M, 3]
    residual_m: float
    words: list[str] = field(default_factory=list)


@torch.no_grad()
def encode(model: Any, stretch: Stretch, *, batch: int = 64) -> Encoded:
    parts = [
        model.encode(stretch.frames[i : i + batch], stretch.poses[i : i + batch])
        for i in range(0, len(stretch.frames), batch)
    ]
    return Encoded(stretch=stretch, latents=torch.cat(parts)[None])


def health_of(model: Any, episodes: Sequence[Encoded], *, context: int = 3, ahead: int = 6) -> Health | None:
    """The model's health on these episodes, cut into as many clips of each; None where there are fewer than two clips.

    The first half of the episodes fits the probes and the second judges them.
    """
    length = context + ahead
    pieces = [[(e, t) for t in range(0, len(e.stretch.frames) - length + 1, length)] for e in episodes]
    pieces = [p for p in pieces if p]
    each = min((len(p) for p in pieces), default=0)
    if each * len(pieces) < 2:
        return None
    if len(pieces) > 2 and len(pieces) % 2:
        pieces = pieces[:-1]  # an even number of episodes, equally long: halves do not share one
    chosen = [p[i] for p in pieces for i in np.linspace(0, len(p) - 1, each).astype(int)]

    def clips(of: Callable[[Encoded], Tensor], frames: int = length) -> Tensor:
        return torch.stack([of(e)[t : t + frames] for e, t in chosen])

    names = set.intersection(*(set(e.stretch.objects) for e, _ in chosen))
    return measure(
        model,
        clips(lambda e: e.latents[0]),
        clips(lambda e: e.stretch.poses),
        clips(lambda e: e.stretch.actions, length - 1),
        objects={n: clips(lambda e, n=n: e.stretch.objects[n]) for n in sorted(names)},
        context=context,
    )


def context_at(encoded: Encoded, start: int, frames: int) -> Memory:
    """The memory that an agent would have at step `start` of an episode."""
    first = max(0, start - frames + 1)
    return Memory(
        latents=encoded.latents[:, first : start + 1],
        poses=encoded.stretch.poses[None, first : start + 1],
        actions=encoded.stretch.actions[None, first:start],
    )


def actions_from(model: Any, encoded: Encoded, start: int, horizon: int) -> Tensor:
    """The true actions after `start` as `imagine` takes them: [1, 1, H, 7]."""
    piece = slice(start, start + horizon)
    poses = encoded.stretch.poses[None, start : start + horizon + 1]
    return given_actions(model, encoded.stretch.actions[None, piece], poses)[:, None]


@torch.no_grad()
def imagine_from(
    model: Any, encoded: Encoded, start: int, horizon: int, *, context: int = 3
) -> tuple[Tensor, Tensor]:
    """Imagined latents [H, N, D] and poses [H, 7] under the true actions."""
    imagined = model.imagine(
        context_at(encoded, start, context), actions_from(model, encoded, start, horizon)
    )
    return imagined.latents[0, 0], imagined.poses[0, 0]


@torch.no_grad()
def roll_outs(
    model: Any,
    episodes: Sequence[Encoded],
    *,
    horizon: int = 8,
    every: int = 4,
    context: int = 3,
    body: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
) -> RollOuts:
    """Roll out from every few steps; wrong actions are those of another start.  `body` reads the hand off a latent."""
    starts = [
        (e, t)
        for e, found in enumerate(episodes)
        for t in range(context - 1, len(found.stretch.frames) - horizon, every)
    ]
    if len(starts) < 2:
        longest = max((len(e.stretch.frames) for e in episodes), default=0)
        raise ValueError(
            f"the episodes are too short to imagine {horizon} steps (the longest has {longest}); give horizon=, or more data"
        )
    errors = torch.zeros(7, horizon)
    for index, (e, t) in enumerate(starts):
        other_e, other_t = starts[(index + len(starts) // 2) % len(starts)]
        right = actions_from(model, episodes[e], t, horizon)
        wrong = actions_from(model, episodes[other_e], other_t, horizon)
        imagined = model.imagine(context_at(episodes[e], t, context), torch.cat([right, wrong], 1))
        truth = episodes[e].latents[0, t + 1 : t + 1 + horizon]
        poses = episodes[e].stretch.poses[t + 1 : t + 1 + horizon]
        errors[0] += (imagined.latents[0, 0] - truth).square().mean((-1, -2))
        errors[1] += (episodes[e].latents[0, t] - truth).square().mean((-1, -2))
        errors[2] += (imagined.latents[0, 1] - truth).square().mean((-1, -2))
        errors[3] += (imagined.poses[0, 0, :, :3] - poses[:, :3]).norm(dim=-1)
        errors[4] += (imagined.poses[0, 0, :, CLOSEDNESS] - poses[:, CLOSEDNESS]).abs()
        if body is not None:
            for row, latents in ((5, imagined.latents[0, 0]), (6, truth)):
                errors[row] += (body(latents)[0] - poses[:, :3]).norm(dim=-1)
    latent, copied, wrong_error, position, closed, hand, seen = (errors / len(starts)).tolist()
    return RollOuts(
        latent=latent,
        copy_last=copied,
        wrong_actions=wrong_error,
        position_m=position,
        closedness=closed,
        starts=len(starts),
        hand_m=hand if body is not None else None,
        hand_seen_m=seen if body is not None else None,
    )


def landscapes_at(
    model: Any,
    encoded: Encoded,
    start: int,
    *,
    context: int = 3,
    points: int = 25,
    half_width_m: float = 0.075,
) -> list[Landscape]:
    """The energy of reaching the frame that truly came, around the true action, for each pair of axes, gripper too."""
    actions = actions_from(model, encoded, start, 1)[:, 0]
    energy = TotalCost([Term(name="distance", cost=GoalDistance(goal=encoded.latents[:, start + 1]))])
    memory = context_at(encoded, start, context)
    told = getattr(model, "absolute_gripper", False)
    found = []
    for axes in itertools.combinations(AXES, 2):
        widths = tuple(1.0 if axis == CLOSEDNESS else half_width_m for axis in axes)
        surface = landscape(
            memory, model, energy, actions, axes=axes, half_width=(widths[0], widths[1]), points=points
        )
        if (
            told and axes[1] == CLOSEDNESS
        ):  # told how closed to be, and no gripper can be told more than 0 .. 1
            can_be = (surface.second > -1e-6) & (surface.second < 1 + 1e-6)
            surface.second = surface.second[can_be].clamp(0, 1)
            surface.energies = surface.energies[:, :, can_be]
            surface.terms = {name: term[:, :, can_be] for name, term in surface.terms.items()}
        found.append(surface)
    return found


@dataclass(kw_only=True)
class Misses:
    """How far the energy's minimum lies from the true action, pair of axes by pair, over some moments."""

    metres: dict[str, list[float]]  # "xy" -> one a moment; of the axes that are lengths
    gripper_right: float  # share of moments at which the minimum has the gripper on the right side

    @property
    def words(self) -> list[str]:
        both = [m for pair, found in self.metres.items() if "gripper" not in pair for m in found]
        return [
            f"over {len(next(iter(self.metres.values())))} moments the energy's minimum lies {1000 * median(both):.0f} mm "
            f"(median) from the true action, and has the gripper right in {self.gripper_right:.0%} of them"
        ]


def refined_lowest(surface: Landscape) -> Tensor:
    """Where the first problem's energy is least, [2], between the grid's points: by a parabola along each axis."""
    energies = surface.energies[0]
    row, column = divmod(int(energies.argmin()), energies.shape[1])
    found = []
    for values, line, at in (
        (surface.first, energies[:, column], row),
        (surface.second, energies[row], column),
    ):
        place = values[at]
        if 0 < at < len(values) - 1:
            before, here, after = line[at - 1 : at + 2]
            bend = before - 2 * here + after
            if bend > 0:
                place = place + 0.5 * (before - after) / bend * (values[at + 1] - values[at])
        found.append(place)
    return torch.stack(found)


def landscape_misses(
    model: Any, episodes: Sequence[Encoded], *, moments: int = 12, context: int = 3, points: int = 17
) -> Misses:
    """Does the minimum lie where it should, not only in the picture that is shown?"""
    starts = [(e, t) for e in episodes for t in range(context - 1, len(e.stretch.frames) - 1)]
    moved = sorted(starts, key=lambda s: -float(s[0].stretch.actions[s[1], :3].norm()))
    half = moved[: max(1, len(moved) // 2)]  # where something happened
    chosen = half[:: max(1, len(half) // moments)][:moments]
    metres: dict[str, list[float]] = {}
    right = []
    for encoded, t in chosen:
        true = actions_from(model, encoded, t, 1)[0, 0, 0]
        for surface in landscapes_at(model, encoded, t, context=context, points=points):
            low = refined_lowest(surface)
            gaps = [float(low[i] - true[axis]) for i, axis in enumerate(surface.axes)]
            lengths = [g for g, axis in zip(gaps, surface.axes, strict=True) if axis != CLOSEDNESS]
            metres.setdefault("-".join(AXES[a] for a in surface.axes), []).append(
                float(np.hypot.reduce(lengths))
            )
            if surface.axes[1] == CLOSEDNESS:
                right.append(abs(gaps[1]) < 0.5)
    return Misses(metres=metres, gripper_right=sum(right) / len(right))


@torch.no_grad()
def axis_check(
    model: Any, episodes: Sequence[Encoded], *, context: int = 3, most: int = 60, least_move_m: float = 0.02
) -> AxisCheck:
    """For steps that truly moved: which move does the energy prefer?  A least-squares map from true to preferred.

    The preferred move is the minimum over a cloud of moves in the box, refined once: the same question a planner asks.
    """
    generator = torch.Generator().manual_seed(0)
    true, inferred = [], []
    for encoded in episodes:
        for t in range(context - 1, len(encoded.stretch.frames) - 1, 3):
            move = encoded.stretch.actions[t, :3]
            if float(move.norm()) < least_move_m or len(true) >= most:
                continue
            base = actions_from(model, encoded, t, 1)
            memory, goal = context_at(encoded, t, context), encoded.latents[:, t + 1]
            centre, width = torch.zeros(3), 0.075
            for _ in range(4):
                cloud = centre + width * (2 * torch.rand(256, 3, generator=generator) - 1)
                candidates = base.repeat(1, 256, 1, 1)
                candidates[0, :, 0, :3] = cloud
                imagined = model.imagine(memory, candidates).latents[:, :, -1]
                energy = (imagined - goal[:, None]).square().mean((-1, -2))[0]
                centre, width = cloud[energy.topk(16, largest=False).indices].mean(0), width / 2
            true.append(move)
            inferred.append(centre)
    if len(true) < 6:
        raise ValueError(
            f"only {len(true)} steps move more than {least_move_m} m; the axis check needs 6: give more data"
        )
    a, b = torch.stack(true), torch.stack(inferred)
    matrix = torch.linalg.lstsq(a, b).solution.T
    yaw = torch.rad2deg(torch.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    words = []
    for axis, name in enumerate("xyz"):
        gone = 0.05 * matrix[:, axis]
        side = [
            f"{round(100 * float(gone[k]), 1) + 0.0:+.1f} along {'xyz'[k]}" for k in range(3) if k != axis
        ]
        words.append(
            f"push +{name} 5 cm: the model sees {100 * float(gone[axis]):.1f} cm along {name}, {', '.join(side)}"
        )
    words.append(f"camera yaw error {float(yaw):+.1f} degrees")
    return AxisCheck(
        matrix=matrix, yaw_error_deg=float(yaw), inferred=b, true=a, residual_m=float((b - a @ matrix.T).norm(dim=1).median()),
        words=words,
    )  # fmt: skip
