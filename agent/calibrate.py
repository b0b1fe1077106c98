"""From imagined directions to true ones: a small random motion, a fitted map, and an arm that applies it.

A model that has seen one camera placement takes the directions of its pictures for those of the base; with a camera
turned by 30 degrees it moves 30 degrees off.  The map is the turn under which the model foresees best what came; the
axis check beside it shows what its energy prefers against what was done.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.poses import euler_from_rotation, pose_difference, rotation_from_euler
from data.types import Camera, Observation, as_views
from envs.arm import Arm, Limits, Outcome

from .imagining import AxisCheck, Encoded, axis_check, encode
from .recorded import Stretch
from .seen_places import Places, corrected, fit_places
from .turn import Turn, find_turn, turned

RADIUS_M = 0.09  # of the motion, around the middle of the workspace
ABOVE_TABLE_M = 0.2
STEP_M = 0.05
LEAST_EXPLAINED = 0.2  # of what changes from frame to frame; below, the model does not see the moves
WHOLE_TURN_DEG = 8.0  # less than this is within what the fit can tell


@dataclass(kw_only=True)
class Calibration:
    """imagined = pivot + turn by `yaw_deg` about the vertical (true - pivot); `matrix` is what the axis check says."""

    matrix: list[list[float]]
    yaw_deg: float
    pivot: list[float]  # [3] m, a point of the axis
    residual_m: float  # of the axis check
    moves: int
    words: list[str] = field(default_factory=list)
    explained: float = 1.0
    """Share of what changes from frame to frame that the model foresees under this turn."""
    explained_before: float = 1.0
    """And with nothing turned."""
    places: Places = field(default_factory=list)
    """What puts right where the policy sees the hand, in the model's directions (see `seen_places`); empty: nothing."""

    @property
    def rotation(self) -> Tensor:
        """[3, 3], from true to imagined."""
        return rotation_from_euler(torch.tensor([0.0, 0.0, np.deg2rad(self.yaw_deg)], dtype=torch.float64))

    @property
    def trustworthy(self) -> bool:
        return self.explained >= LEAST_EXPLAINED

    def save(self, path: Path) -> Path:
        path.write_text(json.dumps(self.__dict__, indent=1))
        return path

    @classmethod
    def load(cls, path: Path) -> Calibration:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a calibration that `forearm calibrate` wrote: {error}"
            ) from error


def wander(arm: Arm, cameras: tuple[str, ...], *, steps: int = 60, seed: int = 0) -> Stretch:
    """Move about in the middle of the workspace, at least half of `STEP_M` a step, and remember what was seen and done.

    The middle is where pictures tell most: higher up, or at the edge, a model foresees little even with nothing turned.
    """
    random = np.random.default_rng(seed)
    observation, steps_there = arm.observe(), 40
    low, high = np.array(arm.limits.low) + 0.03, np.array(arm.limits.high) - 0.03
    middle = (low + high) / 2
    middle[2] = np.clip(arm.limits.table_z + ABOVE_TABLE_M, low[2], high[2])
    while np.linalg.norm(away := middle - observation.pose[:3]) > RADIUS_M and steps_there > 0:
        arm.act(np.concatenate([away * min(1.0, STEP_M / float(np.linalg.norm(away))), np.zeros(4)]))
        observation, steps_there = arm.observe(), steps_there - 1
    frames, poses = [], []
    while True:
        frames.append(as_views(observation.frames, cameras))
        poses.append(torch.from_numpy(np.asarray(observation.pose, np.float64)))
        if len(poses) > steps:
            break
        here = observation.pose[:3]
        for _ in range(50):
            move = random.normal(size=3)
            move *= random.uniform(0.5, 1.0) * STEP_M / np.linalg.norm(move)
            if np.all(np.abs(here + move - middle) <= RADIUS_M):
                break
        else:
            move = (middle - here) * min(1.0, STEP_M / max(float(np.linalg.norm(middle - here)), 1e-6))
        arm.act(np.concatenate([move, np.zeros(4)]))
        observation = arm.observe()
    stacked = torch.stack(poses)
    return Stretch(
        frames=torch.stack(frames),
        poses=stacked.float(),
        actions=pose_difference(stacked[:-1], stacked[1:]).float(),
        rows=np.arange(len(poses)),
    )


def fit(model: Any, stretches: list[Stretch], *, context: int | None = None, body: Any = None) -> Calibration:
    """The turn that explains best what came of moves that were made; and where `body` saw the hand meanwhile."""
    frames = context or getattr(model, "context", 3)
    encoded: list[Encoded] = [encode(model, stretch) for stretch in stretches]
    check: AxisCheck = axis_check(model, encoded, context=frames, most=200)
    turn: Turn = find_turn(model, encoded, context=frames)
    height = float(torch.cat([stretch.poses[:, 2] for stretch in stretches]).mean())
    before = 1.0 - turn.plain / max(turn.copied, 1e-12)
    words = [
        *check.words,
        f"turned by {np.rad2deg(turn.yaw_rad):+.0f} degrees about ({turn.pivot[0]:.2f}, {turn.pivot[1]:.2f}) m the model "
        f"foresees {turn.explained:.0%} of what changes in the pictures, as it is {before:.0%}",
    ]
    places: Places = []
    if body is not None:
        with torch.no_grad():
            seen = torch.cat([body(e.latents[0])[0] for e in encoded])
        true = turned(torch.cat([s.poses for s in stretches]), turn.yaw_rad, turn.pivot)[:, :3]
        places = fit_places(seen, true)
        off = [1000 * float((p - true).norm(dim=-1).mean()) for p in (seen, corrected(places, seen))]
        words.append(f"so turned, the hand is seen {off[0]:.0f} mm off, with that put right {off[1]:.0f} mm")
    return Calibration(
        matrix=check.matrix.tolist(),
        yaw_deg=float(np.rad2deg(turn.yaw_rad)),
        pivot=[*turn.pivot, height],
        residual_m=float(check.residual_m),
        moves=sum(len(stretch.actions) for stretch in stretches),
        words=words,
        explained=turn.explained,
        explained_before=before,
        places=places,
    )


def calibrate(arm: Arm, model: Any, *, steps: int = 60, seed: int = 0, body: Any = None) -> Calibration:
    """Wander and fit; the arm goes to the middle of its workspace and stays within 9 cm of it on every axis."""
    return fit(model, [wander(arm, tuple(model.conventions.cameras), steps=steps, seed=seed)], body=body)


class CalibratedArm:
    """An arm as a model with turned directions sees it: poses turned into its directions, actions turned back.

    The envelope beneath still sees true poses only.  `poses=False` turns the actions alone.
    """

    def __init__(self, arm: Arm, calibration: Calibration, *, poses: bool = True) -> None:
        self._arm, self._poses = arm, poses
        self._turn = calibration.rotation
        self._pivot = torch.tensor(calibration.pivot, dtype=torch.float64)
        self.period_s: float = arm.period_s
        self.limits: Limits = self._box(arm.limits)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._arm.cameras

    def observe(self) -> Observation:
        return self._turned(self._arm.observe())

    def act(self, action: np.ndarray, *, blocking: bool = True) -> Outcome:
        action = np.asarray(action, dtype=np.float64)
        if action.shape == (7,) and np.isfinite(action).all():
            wanted = torch.from_numpy(action)
            back = self._turn.T
            spin = back @ rotation_from_euler(wanted[3:6]) @ back.T
            action = torch.cat([back @ wanted[:3], euler_from_rotation(spin), wanted[6:]]).numpy()
        outcome = self._arm.act(action, blocking=blocking)
        return Outcome(
            commanded=self._imagined(outcome.commanded), clipped=outcome.clipped, notes=outcome.notes
        )

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        return self._turned(self._arm.reset(seed=seed, options=options))

    def stop(self) -> None:
        self._arm.stop()

    def close(self) -> None:
        self._arm.close()

    def _turned(self, observation: Observation) -> Observation:
        observation.pose = self._imagined(observation.pose)
        observation.commanded = self._imagined(observation.commanded)
        return observation

    def _box(self, limits: Limits) -> Limits:
        """The smallest box in the model's directions that holds the true workspace."""
        corners = [
            self._imagined(np.array([x, y, limits.low[2], np.pi, 0, 0, 0]))[:2]
            for x in (limits.low[0], limits.high[0])
            for y in (limits.low[1], limits.high[1])
        ]
        low, high = np.min(corners, 0), np.max(corners, 0)
        return dataclasses.replace(
            limits,
            low=(float(low[0]), float(low[1]), limits.low[2]),
            high=(float(high[0]), float(high[1]), limits.high[2]),
        )

    def _imagined(self, pose: np.ndarray) -> np.ndarray:
        if not self._poses:
            return pose
        true = torch.from_numpy(np.asarray(pose, dtype=np.float64))
        position = self._pivot + self._turn @ (true[:3] - self._pivot)
        rotation = self._turn @ rotation_from_euler(true[3:6])
        return torch.cat([position, euler_from_rotation(rotation), true[6:]]).numpy()


def verdict(calibration: Calibration) -> str:
    """What to do about it, in one sentence."""
    if not calibration.trustworthy:
        return (
            f"however it is turned, the model foresees only {calibration.explained:.0%} of what changes here "
            "(light, view or robot unlike its training); do not apply this map"
        )
    if abs(calibration.yaw_deg) < WHOLE_TURN_DEG:
        return "the directions agree; nothing to apply"
    return (
        f"the world looks turned by {calibration.yaw_deg:+.0f} degrees, as when the camera stands {-calibration.yaw_deg:+.0f} "
        "degrees from where it stood in training; plan with this map applied"
    )
