"""Clips to train on, and the order in which they come.

A clip is a tensordict: frames uint8 [T, V, H, W, 3], poses [T, 7], actions [T-1, 7], times [T]; a batch has one more
dimension in front.  The order is a function of seed and position alone, so it can be resumed and shared among ranks.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from tensordict import TensorDict

from data.cache import FrameCache
from data.cache_jobs import CacheSettings
from data.checks import Damaged, Finding
from data.cutting import cut, following_rows, missing_camera
from data.sampling import measured_poses, windows
from data.source import Log, open_checked
from data.types import Episode
from data.workers import deaf_to_interrupts, side_by_side

log = logging.getLogger(__name__)
OPEN_EPISODES = 64  # whose numbers a process keeps
_keeping = threading.Lock()  # what datasets keep of their episodes


class Clips(Protocol):
    """Something that clips are drawn from."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, epochs: np.ndarray) -> TensorDict:
        """The clips of these numbers; `epochs` says how often each number has come before."""
        ...


class ClipDataset:
    """Every window of `length` model steps in a cache's episodes; a batch is one gather from the memory map."""

    def __init__(
        self, cache: FrameCache, *, length: int, split: str = "train", validation: float = 0.1, every: int = 1
    ) -> None:
        if length < 2:
            raise ValueError(
                f"a clip needs at least 2 frames for an action between them, got length={length}"
            )
        self.cache, self.length = cache, length
        self.episodes = cache.split(split, validation=validation)
        first, rows = cache.episode_offsets, cache.episode_lengths
        starts = [np.arange(first[e], first[e] + rows[e] - length + 1, every) for e in self.episodes]
        self.starts = (
            torch.from_numpy(np.concatenate(starts)) if starts else torch.empty(0, dtype=torch.int64)
        )
        if not len(self.starts):
            longest = int(rows.max(initial=0))
            raise ValueError(
                f"{cache.path}: no clip of {length} steps in the {split} split "
                f"({len(self.episodes)} of {len(cache.episodes)} episodes, the longest has {longest} steps): "
                "ask for shorter clips, record more episodes, or hold out another share (validation=0.5)"
            )

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> TensorDict:
        return self.batch(np.array([index]))[0]

    def batch(self, indices: np.ndarray, epochs: np.ndarray | None = None) -> TensorDict:
        count, length = len(indices), self.length
        rows = self.starts[torch.as_tensor(indices)][:, None] + torch.arange(length)
        flat, cache = rows.reshape(-1), self.cache

        def gather(column: torch.Tensor) -> torch.Tensor:
            return column.index_select(0, flat).unflatten(0, (count, length))

        return TensorDict(
            {
                "frames": gather(cache.frames),
                "poses": gather(cache.poses),
                "actions": gather(cache.actions)[:, :-1].contiguous(),
                "times": gather(cache.times),
            },
            [count],
        )


class LazyClipDataset:
    """Clips straight from a log's videos, one random window of each episode per epoch; nothing is decoded twice.

    An episode that turns out to be damaged is named once and its place taken by the next; when none is left it says so.
    """

    def __init__(
        self, source: Log, keys: Sequence[str], *, length: int, settings: CacheSettings, seed: int = 0
    ) -> None:
        if not keys:
            raise ValueError(f"{source.path}: no episode to draw clips from")
        if length < 2:
            raise ValueError(
                f"a clip needs at least 2 frames for an action between them, got length={length}"
            )
        self.reader, self.path, self.keys = source.reader, source.path, list(keys)
        self.length, self.settings, self.seed = length, settings, seed
        self.skipped: dict[str, Finding] = {}
        self._open: OrderedDict[str, tuple[Episode, torch.Tensor, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> TensorDict:
        return self.batch(np.array([index]))[0]

    def batch(self, indices: np.ndarray, epochs: np.ndarray | None = None) -> TensorDict:
        epochs = np.zeros_like(indices) if epochs is None else epochs
        return torch.stack(side_by_side(self._clip, zip(indices.tolist(), epochs.tolist())))  # type: ignore[return-value]

    def _clip(self, drawn: tuple[int, int]) -> TensorDict:
        index, epoch = drawn
        for offset in range(len(self.keys)):
            key = self.keys[(index + offset) % len(self.keys)]
            if key in self.skipped:
                continue
            try:
                return self._cut(key, np.random.default_rng([self.seed, index, epoch]))
            except Damaged as damage:
                finding = damage.finding
            except (OSError, IndexError) as error:
                finding = Finding(
                    reason="unreadable frames", file=str(self.path), value=str(error),
                    remedy="Copy the file again from the original.",
                )  # fmt: skip
            finding.episode = key
            with _keeping:
                known = key in self.skipped
                self.skipped[key] = finding
                self._open.pop(key, None)
            if not known:
                log.warning("skipped: %s", finding)
        reasons = "; ".join(sorted({str(f) for f in self.skipped.values()})[:3])
        raise ValueError(f"{self.path}: none of {len(self.keys)} episodes is usable: {reasons}")

    def _episode(self, key: str) -> tuple[Episode, torch.Tensor, np.ndarray]:
        if key not in self._open:
            episode, _ = open_checked(self.reader, key)
            missing = missing_camera(episode.frames, self.settings.cameras)
            if missing is not None:
                raise Damaged(
                    "no camera", file=self.path, value=f"{missing!r}, it has {sorted(episode.frames)}",
                    remedy="Choose other cameras, or map their names with the key map.",
                )  # fmt: skip
            found = windows(
                following_rows(episode, self.settings.sampling, self.settings.cameras[0]), self.length
            )
            if not len(found):
                raise Damaged(
                    "short", file=self.path, value=f"{len(episode)} rows, {episode.time_s[-1]:.2f} s",
                    remedy=f"A clip needs {self.length} steps of {self.settings.period_s} s without a gap.",
                )  # fmt: skip
            self._open[key] = (episode, measured_poses(episode), found)
            while len(self._open) > OPEN_EPISODES:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]

    def _cut(self, key: str, rng: np.random.Generator) -> TensorDict:
        with _keeping:
            episode, poses, found = self._episode(key)
        rows = found[rng.integers(len(found))]
        steps = cut(episode, rows, self.settings, poses)
        return TensorDict(
            {
                "frames": torch.from_numpy(steps.frames),
                "poses": steps.poses.float(),
                "actions": steps.actions.float(),
                "times": torch.from_numpy(steps.times),
            },
            [],
        )


_in_worker: list[Clips] = []


def _start_worker(datasets: list[Clips]) -> None:
    _in_worker[:] = datasets
    torch.set_num_threads(1)


def _assemble(datasets: list[Clips] | None, plan: list[tuple[int, np.ndarray, np.ndarray]]) -> TensorDict:
    parts = [(datasets or _in_worker)[source].batch(indices, epochs) for source, indices, epochs in plan]
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # type: ignore[return-value]


class ClipLoader:
    """Endless batches from one or several sources, each rank its own share, resumable to the clip.

    `workers` processes assemble batches ahead (for video); 0 with `ahead` uses a thread (for a cache), 0 and 0 neither.
    """

    def __init__(
        self,
        sources: Clips | Sequence[tuple[Clips, float]],
        *,
        batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        workers: int = 0,
        ahead: int = 2,
    ) -> None:
        pairs = list(sources) if isinstance(sources, Sequence) else [(sources, 1.0)]
        weights = np.array([weight for _, weight in pairs], np.float64)
        if not len(pairs) or not (weights > 0).all():
            raise ValueError(f"every source needs a weight above 0, got {weights.tolist()}")
        shared = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = rank if rank is not None else (torch.distributed.get_rank() if shared else 0)
        self.world = world if world is not None else (torch.distributed.get_world_size() if shared else 1)
        if batch_size < 1 or not 0 <= self.rank < self.world:
            raise ValueError(f"batch_size {batch_size}, rank {self.rank} of {self.world} make no sense")
        self.datasets, self.weights = [source for source, _ in pairs], weights / weights.sum()
        self.batch_size, self.seed, self.workers, self.ahead = batch_size, seed, workers, ahead
        self.step = 0
        self.drawn = [0] * len(pairs)  # clips taken from each source by all ranks together
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    @property
    def epoch(self) -> float:
        """How often the first source has been gone through."""
        return self.drawn[0] / len(self.datasets[0])

    def state_dict(self) -> dict[str, Any]:
        """The position: save it with the checkpoint.  The same for every rank."""
        return {
            "seed": self.seed, "step": self.step, "drawn": list(self.drawn),
            "lengths": [len(d) for d in self.datasets],
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved position; refused where the clips are no longer the same."""
        lengths = [len(d) for d in self.datasets]
        if state["lengths"] != lengths:
            raise ValueError(
                f"the saved position is in sources of {state['lengths']} clips, these have {lengths}: "
                "the order cannot be resumed; start a new one, or give the sources of before"
            )
        self.seed, self.step, self.drawn = state["seed"], state["step"], list(state["drawn"])
        self._orders.clear()

    def __iter__(self) -> Iterator[TensorDict]:
        if not self.workers and not self.ahead:
            while True:
                plan, step, drawn = self._plan(self.step, self.drawn)
                batch = _assemble(self.datasets, plan)
                self.step, self.drawn = step, drawn
                yield batch
        with self._executor() as pool:
            waiting: deque[tuple[Future[TensorDict], int, list[int]]] = deque()
            step, drawn = self.step, self.drawn
            datasets = None if self.workers else self.datasets
            try:
                while True:
                    while len(waiting) < max(self.ahead, self.workers):
                        plan, step, drawn = self._plan(step, drawn)
                        with deaf_to_interrupts():  # a process may be started for it
                            waiting.append((pool.submit(_assemble, datasets, plan), step, drawn))
                    future, after, taken = waiting.popleft()
                    batch = future.result()
                    self.step, self.drawn = after, taken  # what was handed out, not what was prepared
                    yield batch
            finally:
                for future, _, _ in waiting:
                    future.cancel()

    def _executor(self) -> Executor:
        if not self.workers:
            return ThreadPoolExecutor(1)
        context = multiprocessing.get_context("spawn")  # FFmpeg does not survive a fork
        return ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_start_worker, initargs=(self.datasets,)
        )

    def _plan(
        self, step: int, drawn: list[int]
    ) -> tuple[list[tuple[int, np.ndarray, np.ndarray]], int, list[int]]:
        """This rank's clips of one step: (source, numbers, epochs) each, and the position after it."""
        total = self.batch_size * self.world
        if len(self.datasets) == 1:
            chosen = np.zeros(total, np.int64)
        else:
            chosen = np.random.default_rng([self.seed, 1, step]).choice(
                len(self.datasets), total, p=self.weights
            )
        mine, plan, after = chosen[self.rank :: self.world], [], list(drawn)
        for source in range(len(self.datasets)):
            places = np.flatnonzero(chosen == source)
            after[source] += len(places)
            own = np.flatnonzero(places % self.world == self.rank)
            if not len(own):
                continue
            position = drawn[source] + own
            length = len(self.datasets[source])
            epochs = position // length
            numbers = np.array([self._order(source, int(e))[p % length] for p, e in zip(position, epochs)])
            plan.append((source, numbers, epochs))
        assert sum(len(numbers) for _, numbers, _ in plan) == len(mine)
        return plan, step + 1, after

    def _order(self, source: int, epoch: int) -> np.ndarray:
        kept = self._orders.get(source)
        if kept is None or kept[0] != epoch:
            order = np.random.default_rng([self.seed, 2, source, epoch]).permutation(
                len(self.datasets[source])
            )
            kept = self._orders[source] = (epoch, order)
        return kept[1]


def in_order(dataset: Clips, batch_size: int) -> Iterator[TensorDict]:
    """Every clip once, in order: for validation."""
    for first in range(0, len(dataset), batch_size):
        numbers = np.arange(first, min(first + batch_size, len(dataset)))
        yield dataset.batch(numbers, np.zeros_like(numbers))
