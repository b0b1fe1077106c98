"""What the processes that fill a cache do: open an episode, sample it, decode it, write its rows."""

from __future__ import annotations

import multiprocessing
import os
import zlib
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.checks import Damaged, Finding
from data.cutting import cut, following_rows, missing_camera
from data.images import CROPS
from data.index import IndexedReader
from data.sampling import Sampling, measured_poses, runs
from data.source import open_checked
from data.types import ACTION_SIZE, POSE_SIZE
from data.workers import deaf_to_interrupts


@dataclass(kw_only=True, slots=True)
class CacheSettings:
    """What was done to the logs; a cache of other settings is another cache."""

    cameras: tuple[str, ...]
    image_size: int
    crop: str
    period_s: float
    mode: str = "time"
    gripper_action: str = "commanded"

    def __post_init__(self) -> None:
        self.cameras = tuple(self.cameras)
        if not self.cameras:
            raise ValueError("cameras is empty: name at least one")
        if self.crop not in CROPS:
            raise ValueError(f"crop {self.crop!r} is not known; choose one of {', '.join(CROPS)}")
        if self.gripper_action not in ("commanded", "measured"):
            raise ValueError(
                f"gripper_action {self.gripper_action!r} is not known; choose commanded or measured"
            )
        _ = self.sampling  # which refuses what makes no sense

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CacheSettings:
        return cls(**values)

    @property
    def sampling(self) -> Sampling:
        return Sampling(mode=self.mode, period_s=self.period_s)

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        return len(self.cameras), self.image_size, self.image_size, 3


@dataclass(kw_only=True, slots=True)
class Stretch:
    """An episode in the cache, or a part of one between gaps: `rows` rows from `first`."""

    first: int
    rows: int
    crc: int  # of the frames
    uuid: str
    run: int  # which part of the episode
    source: str
    key: str
    task: str | None = None
    success: bool | None = None


Job = tuple[str, str, int]  # source, key, stamp
Readers = Mapping[str, IndexedReader]


def column_widths(settings: CacheSettings) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The cache's columns: dtype and shape of a row."""
    return {
        "frames": ("uint8", settings.frame_shape),
        "poses": ("float32", (POSE_SIZE,)),
        "actions": ("float32", (ACTION_SIZE,)),
        "times": ("float64", ()),
    }


def _write(file: Path, values: np.ndarray, first: int) -> None:
    """Put rows at their place; pwrite, because two processes growing one file must not share an offset."""
    data = np.ascontiguousarray(values)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        view, offset = data.data.cast("B"), first * (data.nbytes // len(data))
        while view:
            count = os.pwrite(handle, view, offset)
            view, offset = view[count:], offset + count
    finally:
        os.close(handle)


def cache_episode(
    job: Job, readers: Readers, out: Path, settings: CacheSettings, take: Callable[[int], int]
) -> list[Stretch] | Finding:
    """Decode one episode to the rows that `take(count)` assigns; a `Finding` where it cannot be used."""
    source, key, _ = job
    try:
        episode, _ = open_checked(readers[source], key)
        missing = missing_camera(episode.frames, settings.cameras)
        if missing is not None:
            return Finding(
                reason="no camera", file=source, episode=key, value=f"{missing!r}, it has {sorted(episode.frames)}",
                remedy="Choose other cameras, or map their names with the key map.",
            )  # fmt: skip
        parts = runs(following_rows(episode, settings.sampling, settings.cameras[0]))
        if not parts:
            gap = float(np.median(np.diff(episode.time_s))) if len(episode) > 1 else float("nan")
            return Finding(
                reason="no model step", file=source, episode=key,
                value=f"{len(episode)} rows, one every {gap:.3f} s, for steps of {settings.period_s} s",
                remedy="Choose a period_s that the log has rows for.",
            )  # fmt: skip
        poses = measured_poses(episode)
        stretches = []
        for run, rows in enumerate(parts):
            steps = cut(episode, rows, settings, poses)
            nothing = np.full((1, ACTION_SIZE), np.nan)  # follows the last row
            table = {
                "frames": steps.frames,
                "poses": steps.poses.numpy().astype(np.float32),
                "actions": np.concatenate([steps.actions.numpy(), nothing]).astype(np.float32),
                "times": steps.times,
            }
            first = take(len(rows))
            for name, values in table.items():
                _write(out / "rows" / f"{name}.memmap", values, first)
            for name, truth in episode.objects.items():
                _write(
                    out / "objects" / f"{name.replace('/', '_')}.f32", truth[rows].astype(np.float32), first
                )
            stretches.append(
                Stretch(
                    first=first,
                    rows=len(rows),
                    crc=zlib.crc32(steps.frames.data.cast("B")),
                    run=run,
                    uuid=str(episode.meta.get("uuid") or key),
                    source=source,
                    key=key,
                    task=episode.task,
                    success=episode.success,
                )
            )
        return stretches
    except Damaged as damage:
        finding = damage.finding
    except (OSError, ValueError, IndexError) as error:  # a video that opens and then cannot be decoded
        finding = Finding(
            reason="unreadable frames", file=source, value=f"{type(error).__name__}: {error}",
            remedy="Copy the file again from the original.",
        )  # fmt: skip
    finding.episode = finding.episode or key
    return finding


_counter: Any = None  # the next free row, in the pool's processes
_work: Any = None


def _start(counter: Any, readers: Readers, out: Path, settings: CacheSettings) -> None:
    global _counter, _work
    _counter, _work = counter, (readers, out, settings)
    torch.set_num_threads(1)


def _take(count: int) -> int:
    with _counter.get_lock():
        first = _counter.value
        _counter.value += count
    return first


def _job(job: Job) -> list[Stretch] | Finding:
    readers, out, settings = _work
    return cache_episode(job, readers, out, settings, _take)


Results = Generator[tuple[Job, list[Stretch] | Finding], None, Any]


def run_jobs(
    jobs: list[Job], readers: Readers, out: Path, settings: CacheSettings, end: int, workers: int
) -> Results:
    """Cache every episode from row `end` on, `workers` at a time (0: in this process), yielding as they are done."""
    if workers <= 0:
        free = end

        def take(count: int) -> int:
            nonlocal free
            free += count
            return free - count

        for job in jobs:
            yield job, cache_episode(job, readers, out, settings, take)
        return
    context = multiprocessing.get_context("spawn")  # FFmpeg does not survive a fork
    shared = (context.Value("q", end), readers, out, settings)
    while jobs:
        suspects, jobs = yield from _pool(jobs, shared, workers)
        for job in suspects:  # one of them killed its process: alone, each answers for itself
            if (yield from _pool([job], shared, 1))[0]:
                yield job, Finding(
                    reason="kills the reader", file=job[0], episode=job[1],
                    value="the process that opened it died",
                    remedy="The file is damaged: copy it again, or delete it.",
                )  # fmt: skip


def _pool(jobs: list[Job], shared: tuple[Any, ...], workers: int) -> Results:
    """Run jobs in a pool; returns those that were at work when it died, and those that had not begun."""
    waiting = list(reversed(jobs))
    running: dict[Future[Any], Job] = {}
    count = min(workers, len(jobs))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=shared) as pool:
        while waiting or running:
            try:
                while waiting and len(running) <= count:
                    with deaf_to_interrupts():  # a process may be started for it
                        running[pool.submit(_job, waiting[-1])] = waiting[-1]
                    waiting.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future), result
            except BrokenProcessPool:
                return list(running.values()), list(reversed(waiting))
    return [], []
