"""Hands that collect: the scripted expert made imperfect, and play.

Proportions decide what a model can learn (peers with 10 % lifts lifted nothing): most episodes touch an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from envs.expert import STEP_M, ScriptedHand, Waypoint, grasp, lift, place
from envs.scenes import Scene, SceneConfig

from .settings import Proportions

OBJECT = "object"


class Hand(Protocol):
    def act(
        self, pose: np.ndarray, commanded: np.ndarray, objects: Mapping[str, np.ndarray]
    ) -> np.ndarray: ...


def draw_hand(
    proportions: Proportions, scene: Scene, config: SceneConfig, rng: np.random.Generator
) -> tuple[str, Hand]:
    """A kind of episode and the hand that acts it."""
    kinds = ["pick_place", "lift", "near_play", "free_play", "drill"]
    weights = np.array([float(getattr(proportions, kind)) for kind in kinds])
    if weights.min() < 0 or weights.sum() <= 0:
        told = ", ".join(f"{kind} {weight:g}" for kind, weight in zip(kinds, weights, strict=True))
        raise ValueError(f"proportions are {told}; each must be 0 or more, and one of them more than 0")
    kind = str(rng.choice(kinds, p=weights / weights.sum()))
    height = scene.objects[0].half_height_m
    if kind in ("pick_place", "lift"):
        waypoints = (
            _pick_place(scene, config, height, rng) if kind == "pick_place" else _lift(config, height, rng)
        )
        noise = float(rng.choice(np.array(proportions.noise_m)))
        return kind, ImperfectHand(waypoints, rng, noise_m=noise, interruptions=proportions.interruptions)
    return kind, PlayHand(kind, config, rng)


def _spot(config: SceneConfig, rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(*config.object_x_m)), float(rng.uniform(*config.object_y_m))


def _pick_place(scene: Scene, config: SceneConfig, height: float, rng: np.random.Generator) -> list[Waypoint]:
    first = grasp(OBJECT) + lift(OBJECT) + place(scene.target_xy, height)
    if rng.uniform() < 0.35:  # and once more, elsewhere
        return first + grasp(OBJECT) + lift(OBJECT) + place(_spot(config, rng), height)
    away = (*_spot(config, rng), float(rng.uniform(0.10, 0.30)))
    return first + ([Waypoint(name="leave", offset=away, closedness=0.0)] if rng.uniform() < 0.4 else [])


def _lift(config: SceneConfig, height: float, rng: np.random.Generator) -> list[Waypoint]:
    waypoints = grasp(OBJECT) + lift(OBJECT, float(rng.uniform(0.08, 0.22)))
    for _ in range(int(rng.integers(0, 3))):
        waypoints.append(
            Waypoint(
                name="carry", offset=(*_spot(config, rng), float(rng.uniform(0.08, 0.24))), closedness=1.0
            )
        )
    end = rng.uniform()
    if end < 0.35:
        waypoints += place(_spot(config, rng), height)
    elif end < 0.5:  # dropped
        waypoints.append(Waypoint(name="drop", offset=(*_spot(config, rng), 0.10), closedness=0.0))
    return waypoints


class ImperfectHand:
    """The scripted hand with noise, taken elsewhere now and then; it notices a lost object and begins again."""

    def __init__(
        self, waypoints: list[Waypoint], rng: np.random.Generator, *, noise_m: float, interruptions: float
    ) -> None:
        self._all, self._rng = waypoints, rng
        self._hand = ScriptedHand(waypoints)
        self._noise_m, self._interruptions = noise_m, interruptions
        self._away: list[np.ndarray] = []

    @property
    def done(self) -> bool:
        return self._hand.done and not self._away

    def act(self, pose: np.ndarray, commanded: np.ndarray, objects: Mapping[str, np.ndarray]) -> np.ndarray:
        if self._away:
            return self._away.pop()
        carried = self._hand.phase in ("carry", "lower")
        if carried and np.linalg.norm(objects[OBJECT][:3] - pose[:3]) > 0.06:
            self._hand = ScriptedHand(self._all)
        if self._rng.uniform() < self._interruptions:
            self._away = _detour(self._rng, commanded)
            return self._away.pop()
        action = self._hand.act(pose, commanded, objects)
        action[:3] += self._rng.normal(size=3) * self._noise_m
        return action


def _detour(rng: np.random.Generator, commanded: np.ndarray) -> list[np.ndarray]:
    """One to three steps somewhere, sometimes with the gripper switched."""
    direction = rng.normal(size=3)
    direction *= rng.uniform(0.01, STEP_M) / np.linalg.norm(direction)
    steps = [np.array([*direction, 0, 0, 0, 0.0]) for _ in range(int(rng.integers(1, 4)))]
    if rng.uniform() < 0.35:
        steps[-1][6] = -1.0 if commanded[6] > 0.5 else 1.0
    return steps


class PlayHand:
    """Wanders from point to point: anywhere, or around the object down to the table; switches the gripper at times."""

    def __init__(self, kind: str, config: SceneConfig, rng: np.random.Generator) -> None:
        self._kind, self._config, self._rng = kind, config, rng
        self._goal: np.ndarray | None = None
        self._steps_left = 0

    def act(self, pose: np.ndarray, commanded: np.ndarray, objects: Mapping[str, np.ndarray]) -> np.ndarray:
        rng = self._rng
        if self._goal is None or self._steps_left <= 0 or np.linalg.norm(self._goal - pose[:3]) < 0.01:
            self._goal = self._draw(pose, objects)
            self._steps_left = int(rng.integers(2, 9))
        self._steps_left -= 1
        step = self._goal - commanded[:3]
        length = np.linalg.norm(step)
        step *= min(1.0, rng.uniform(0.3, 1.0) * STEP_M / max(float(length), 1e-9))
        action = np.zeros(7)
        action[:3] = step + rng.normal(size=3) * 0.004
        if rng.uniform() < (0.30 if self._kind == "drill" else 0.12):
            action[6] = -1.0 if commanded[6] > 0.5 else 1.0
        return action

    def _draw(self, pose: np.ndarray, objects: Mapping[str, np.ndarray]) -> np.ndarray:
        rng = self._rng
        if self._kind == "drill":
            return pose[:3] + rng.normal(size=3) * 0.01
        if self._kind == "near_play":
            spread = np.array([0.05, 0.05, 0.0]) * rng.choice([0.2, 1.0])
            around = objects[OBJECT][:3] + rng.normal(size=3) * spread
            around[2] = rng.choice([0.02, 0.03, rng.uniform(0.02, 0.18)])
            return around
        return np.array([*_spot(self._config, rng), rng.uniform(0.02, 0.32)])
