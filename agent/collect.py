"""Record episodes: an arm, a hand, a writer.  Many processes; the same episodes whatever their number."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.types import Observation
from data.workers import deaf_to_interrupts
from envs.keyboard import Finished

from .arms import EnvConfig, open_arm
from .hands import OBJECT, Proportions, draw_hand
from .settings import DrivenConfig

LIFTED_M = 0.05


@dataclass(kw_only=True)
class CollectSettings:
    """What to record; the same settings and seed give the same episodes."""

    steps: int = 40
    """Model steps in an episode."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm and its scenes."""
    proportions: Proportions = field(default_factory=Proportions)
    """How much of what."""
    driven: DrivenConfig | None = None
    """An agent drives instead of the scripted hand."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """What an episode held."""

    seed: int
    kind: str
    contact: bool
    lifted: bool
    placed: bool


def episode_uuid(settings: CollectSettings, seed: int) -> str:
    driven = settings.driven
    hand = "" if driven is None else "corrected-" if driven.correct else f"{driven.mode}-"
    return f"sim-{settings.env.engine}-{settings.env.split}-{hand}{seed:08d}"


def collect(
    out: Path,
    *,
    episodes: int,
    workers: int = 2,
    seed: int = 0,
    settings: CollectSettings | None = None,
    progress: Callable[[int, int, list[Tally]], None] | None = None,
) -> list[Tally]:
    """Record the episodes of seeds `seed` .. `seed + episodes - 1` that are not in `out` yet."""
    settings = settings or CollectSettings()
    out.mkdir(parents=True, exist_ok=True)
    there = recorded(out)
    wanted = [s for s in range(seed, seed + episodes) if episode_uuid(settings, s) not in there]
    tallies: list[Tally] = []
    already = episodes - len(wanted)
    for tally in _record_all(out, wanted, workers, settings):
        tallies.append(tally)
        if progress is not None:
            progress(already + len(tallies), episodes, tallies)
    return tallies


def recorded(out: Path) -> set[str]:
    """The uuids of the complete episodes below a folder: metadata is written last.  Others may be writing there."""
    found: set[str] = set()
    for _, folders, files in os.walk(out):  # passes over what vanishes meanwhile
        folders[:] = [name for name in folders if not name.startswith(".")]
        found |= {f[9:-5] for f in files if f.startswith("metadata_") and f.endswith(".json")}
    return found


def _record_all(out: Path, seeds: list[int], workers: int, settings: CollectSettings) -> Iterator[Tally]:
    if workers <= 1 or len(seeds) <= 1:
        for one in seeds:
            yield record_episode(out, one, settings)
        return
    context = multiprocessing.get_context("spawn")  # OpenGL and video libraries do not survive a fork
    with deaf_to_interrupts():
        started = context.Pool(workers, initializer=_one_thread)
    with started as pool:
        jobs = ((out, one, settings) for one in seeds)
        yield from pool.imap_unordered(_record_job, jobs, chunksize=1)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _record_job(job: tuple[Path, int, CollectSettings]) -> Tally:
    return record_episode(*job)


_worlds: dict[str, object] = {}  # one per process: building the engine costs more than an episode


def record_episode(out: Path, seed: int, settings: CollectSettings) -> Tally:
    """Act one episode and write it in DROID's layout."""
    key = repr(settings.env)
    if key not in _worlds:
        _worlds[key] = open_arm(settings.env)
    arm, driver = _worlds[key]  # type: ignore[misc]
    if settings.driven is not None:
        from .corrections import record_driven

        return record_driven(out, seed, settings, arm, driver)
    return write_episode(out, seed, settings, arm, driver)


def write_episode(
    out: Path,
    seed: int,
    settings: CollectSettings,
    arm: Any,
    driver: Any,
    *,
    kind: str | None = None,
    hand: Any = None,
    observation: Observation | None = None,
) -> Tally:
    """Lay out the scene of `seed`, let `hand` act (one is drawn when there is none), write what happened.

    With an `observation` the scene stays as it is.  A hand that has `see(observation)` is shown every observation;
    one that raises `Finished` ends the episode.
    """
    rng = np.random.default_rng([seed, 4242])
    seen: Observation = arm.reset(seed=seed) if observation is None else observation
    if hand is None:
        kind, hand = draw_hand(settings.proportions, driver.scene, driver.scene_config, rng)
    see = getattr(hand, "see", None)
    with Recording(out, seed, settings, arm, driver, kind=kind or "hand") as recording:
        for step in range(settings.steps):
            if see is not None:
                see(seen)
            commanded, objects = seen.commanded, driver.object_poses()
            last = step + 1 == settings.steps
            if not last:
                try:
                    commanded = arm.act(hand.act(seen.pose, commanded, objects)).commanded
                except Finished:
                    last = True
            recording.add(seen, commanded, objects)
            seen = arm.observe()
            recording.look()
            if last:
                break
    return recording.tally


class Recording:
    """One episode on its way to disk, and what is seen to happen in it; it appears whole at the end, or never."""

    def __init__(
        self, out: Path, seed: int, settings: CollectSettings, arm: Any, driver: Any, *, kind: str
    ) -> None:
        from data.writers.droid import DroidWriter

        self.tally = Tally(seed=seed, kind=kind, contact=False, lifted=False, placed=False)
        self._driver = driver
        self._resting = driver.scene.object(OBJECT).half_height_m
        self._start = driver.object_poses()[OBJECT][:2].copy()
        self._writer = DroidWriter(
            out,
            lab="SIM",
            task=kind,
            cameras=list(arm.cameras.values()),
            hz=1.0 / settings.env.period_s,
            uuid=episode_uuid(settings, seed),
            scene_id=seed,
            start_s=1_700_000_000.0 + seed * 60.0,
        )

    def __enter__(self) -> Recording:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                about = {"tally": asdict(self.tally), "scene": asdict(self._driver.scene)}
                self._writer.finish(success=self.tally.placed, extra_meta=about)
        finally:
            self._writer.__exit__(kind, error, trace)

    def add(self, observation: Observation, commanded: np.ndarray, objects: Mapping[str, np.ndarray]) -> None:
        """Append what was observed, and what was commanded from there."""
        self._writer.add(observation, commanded, objects=objects)

    def look(self) -> None:
        """Note what has come of the last command."""
        tally, touching = self.tally, OBJECT in self._driver.touching()
        position = self._driver.object_poses()[OBJECT]
        height = float(position[2]) - self._resting
        moved = float(np.linalg.norm(position[:2] - self._start)) > 0.05
        tally.contact |= touching
        tally.lifted |= height > LIFTED_M
        tally.placed |= tally.lifted and moved and height < 0.01 and not touching


def summary(tallies: list[Tally], seconds: float) -> str:
    """One sentence for people."""
    count = max(1, len(tallies))
    share = {name: sum(getattr(t, name) for t in tallies) / count for name in ("contact", "lifted", "placed")}
    return (
        f"{len(tallies)} episodes in {seconds:.0f} s ({len(tallies) / max(seconds, 1e-9):.1f}/s): "
        f"{share['contact']:.0%} touch an object, {share['lifted']:.0%} lift it, {share['placed']:.0%} place it"
    )


def default_workers() -> int:
    return max(1, min(16, os.cpu_count() or 1))
