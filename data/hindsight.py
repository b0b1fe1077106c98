"""Clips with goals: short stretches of an episode, and frames of the same episode that come later.

Every batch is a pure function of (seed, number of the batch), so that its place in the order is one number and
the order is the same whatever the machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from data.cache import FrameCache

HELD_CLOSEDNESS = (0.15, 0.9)  # told to close and stopped on the way: something is between the fingers
_LEAST_HOLD = 3  # rows


def held_positions(poses: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Where the thing is that was held last or will be held next: [T, 3], not-a-number where nothing ever is.

    From the arm's own senses alone (poses [T, 7], commanded closedness told [T]): fingers that were told to close and
    stopped on the way hold something, and until then, and after they let go, it lies where it was held.  So a log
    teaches the eye where things are without anybody having marked them.
    """
    found = np.full((len(poses), 3), np.nan, np.float32)
    closed = poses[:, 6]
    holding = np.zeros(len(poses), bool)
    holding[1:] = (told[:-1] > 0.5) & (closed[1:] > HELD_CLOSEDNESS[0]) & (closed[1:] < HELD_CLOSEDNESS[1])
    rows = np.flatnonzero(holding)
    runs = [r for r in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(r) >= _LEAST_HOLD]
    if not runs:
        return found
    found[: runs[0][0]] = poses[runs[0][0], :3]
    for run in runs:
        found[run] = poses[run, :3]
    for before, after in itertools.pairwise(runs):
        middle = (
            before[-1] + after[0] + 1
        ) // 2  # it may be pushed in between: the nearer in time is right more often
        found[before[-1] + 1 : middle] = poses[before[-1], :3]
        found[middle : after[0]] = poses[after[0], :3]
    found[runs[-1][-1] + 1 :] = poses[runs[-1][-1], :3]
    return found


class HindsightLoader:
    """Endless batches: frames [B, T, V, H, W, 3], poses [B, T, 7], actions [B, T-1, 7] and, of the same episode,
    goals [B, G, V, H, W, 3] with goal_steps [B, G], counted from the clip's last frame, and held [B, T + G, 3]:
    for every frame and goal where the thing is that the hand holds sooner or later (see `held_positions`).

    `weights` (one for each of `episodes`) make the frames of some episodes come more often than others.

    A goal lies anywhere up to the episode's end (short ones alone teach a policy to ignore the object), or, with
    the chance `near`, within `near_steps`.
    """

    def __init__(
        self,
        cache: FrameCache,
        *,
        split: str = "train",
        batch: int = 48,
        length: int = 6,
        goals: int = 1,
        near: float = 0.3,
        near_steps: int = 8,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        episodes: Sequence[int] | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        chosen = np.array(cache.split(split) if episodes is None else episodes)
        lengths = cache.episode_lengths[chosen] if len(chosen) else np.zeros(0, np.int64)
        long_enough = lengths >= length
        if not long_enough.any():
            raise ValueError(
                f"no episode of the {split} split is {length} frames long: {len(chosen)} episodes, "
                f"the longest has {int(lengths.max(initial=0))}; give a shorter length or more data"
            )
        self._cache, self._length, self._goals = cache, length, goals
        self._first, self._rows = cache.episode_offsets[chosen][long_enough], lengths[long_enough]
        drawn = self._rows if weights is None else self._rows * np.asarray(weights)[long_enough]
        self._chance = drawn / drawn.sum()  # without weights every frame equally often
        self._batch, self._near, self._near_steps, self._seed = batch, near, near_steps, seed
        self._rank, self._world = rank, world
        self._count = 0
        poses, actions = cache.poses.numpy(), cache.actions.numpy()
        held = np.full((len(cache), 3), np.nan, np.float32)
        for first, count in zip(self._first, self._rows, strict=True):
            piece = slice(first, first + count)
            told = np.nan_to_num(actions[piece, 6]) + poses[piece, 6]
            held[piece] = held_positions(poses[piece], told)
        self._held = torch.from_numpy(held)

    @property
    def held(self) -> torch.Tensor:
        """[N, 3] for every row of the cache: where the thing in hand is, see `held_positions`."""
        return self._held

    def __iter__(self) -> Iterator[TensorDict]:
        while True:
            clip = self.batch(self._count * self._world + self._rank)
            self._count += 1
            yield clip

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count, "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._count, self._seed = int(state["count"]), int(state["seed"])

    def batch(self, number: int) -> TensorDict:
        """The batch of a number."""
        rng = np.random.default_rng([self._seed, number])
        episode = rng.choice(len(self._rows), self._batch, p=self._chance)
        start = rng.integers(0, self._rows[episode] - self._length + 1)
        last = start + self._length - 1
        left = self._rows[episode] - 1 - last
        reach = np.where(
            rng.uniform(size=(self._goals, self._batch)) < self._near,
            np.minimum(left, self._near_steps),
            left,
        )
        steps = rng.integers(0, reach + 1).T  # [B, G]
        first = self._first[episode]
        rows = torch.from_numpy((first + start)[:, None] + np.arange(self._length))
        goals = torch.from_numpy((first + last)[:, None] + steps)
        rows_of = self._cache.rows
        return TensorDict(
            {
                "frames": rows_of["frames"][rows],
                "poses": rows_of["poses"][rows],
                "actions": rows_of["actions"][rows[:, :-1]],
                "goals": rows_of["frames"][goals],
                "goal_steps": torch.from_numpy(steps),
                "held": torch.cat([self._held[rows], self._held[goals]], 1),
            },
            batch_size=[self._batch],
        )
