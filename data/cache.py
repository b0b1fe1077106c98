"""Decoded frames at the model's size, with poses and actions, as a memory-mapped tensordict folder.

A cache folder holds
  rows/          frames uint8 [N, V, H, W, 3], poses [N, 7], actions [N, 7], times [N], one row per model step
  objects/       true poses of simulated objects [N, 7] each, for probes and judges, never in clips
  journal.jsonl  one line per episode that is wholly written, and per episode skipped
  manifest.json  what the cache is of; written last
Built once; built again it only adds what the logs gained.  Killed while building, it goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from data.cache_jobs import CacheSettings, Stretch, column_widths, run_jobs
from data.checks import Finding
from data.index import in_validation
from data.locks import locked
from data.source import Log, open_log

log = logging.getLogger(__name__)
VERSION = 1
_MANIFEST, _JOURNAL = "manifest.json", "journal.jsonl"


@dataclass(slots=True)
class FrameCache:
    """An opened cache.  Episodes are in the order of their uuid, whatever the order they were written in."""

    path: Path
    settings: CacheSettings
    rows: TensorDict  # memory-mapped [N]
    episodes: list[Stretch]
    skipped: list[Finding] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path | str) -> FrameCache:
        """Open a complete cache."""
        path = Path(path)
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
        except FileNotFoundError as error:
            raise ValueError(
                f"{path}: no finished cache here (no {_MANIFEST}): build it with build_cache"
            ) from error
        if manifest["version"] != VERSION:
            raise ValueError(
                f"{path}: cache version {manifest['version']}, this needs {VERSION}: delete and build it"
            )
        return cls(
            path,
            CacheSettings.from_dict(manifest["settings"]),
            TensorDict.load_memmap(path / "rows"),
            [Stretch(**values) for values in manifest["episodes"]],
            [Finding(**values) for values in manifest["skipped"]],
        )

    def __len__(self) -> int:
        return self.rows.shape[0]

    def _column(self, name: str) -> Tensor:
        return self.rows[name].as_subclass(Tensor)  # the memory map without its class: indexing is quicker

    @property
    def frames(self) -> Tensor:
        """uint8 [N, V, H, W, 3], views in the order of `settings.cameras`."""
        return self._column("frames")

    def view(self, camera: str) -> Tensor:
        """The frames of one camera: uint8 [N, H, W, 3], not copied."""
        if camera not in self.settings.cameras:
            raise ValueError(f"camera {camera!r} is not in the cache; it has {list(self.settings.cameras)}")
        return self.frames[:, self.settings.cameras.index(camera)]

    @property
    def poses(self) -> Tensor:
        """float32 [N, 7]."""
        return self._column("poses")

    @property
    def actions(self) -> Tensor:
        """float32 [N, 7], from each row to the next; not-a-number in the last row of an episode."""
        return self._column("actions")

    @property
    def times(self) -> Tensor:
        """float64 [N] seconds since the episode's start."""
        return self._column("times")

    @property
    def episode_offsets(self) -> np.ndarray:
        """First row of each episode, int64 [E]; `episode_lengths` says how many follow."""
        return np.array([e.first for e in self.episodes], np.int64)

    @property
    def episode_lengths(self) -> np.ndarray:
        return np.array([e.rows for e in self.episodes], np.int64)

    def split(self, name: str, *, validation: float = 0.1) -> list[int]:
        """Numbers of the episodes of a split: train, validation or all.  Stable for ever (hash of the uuid)."""
        if name not in ("train", "validation", "all"):
            raise ValueError(f"split {name!r} is not known; choose train, validation or all")
        held = [in_validation(e.uuid, validation) for e in self.episodes]
        return [i for i, out in enumerate(held) if name == "all" or out == (name == "validation")]

    def objects(self) -> dict[str, np.ndarray]:
        """True poses [N, 7] (xyz, xyzw) by object, not-a-number where an episode lacks it.  Never for clips."""
        found: dict[str, np.ndarray] = {}
        for file in sorted((self.path / "objects").glob("*.f32")):
            held = np.fromfile(file, np.float32)
            poses = np.zeros((len(self), 7), np.float32)
            poses.reshape(-1)[: min(held.size, poses.size)] = held[: poses.size]
            poses[~poses[:, 3:].any(1)] = np.nan  # never written: no rotation has a zero quaternion
            found[file.stem] = poses
        return found

    def check(self) -> list[str]:
        """uuids of episodes whose frames are not what was written (a bad disk, a copy cut short)."""
        return [e.uuid for e in self.episodes if _crc(self.frames, e) != e.crc]


def build_cache(
    sources: Sequence[Log | Path | str],
    out: Path | str,
    *,
    cameras: Sequence[str] = ("exterior_left", "wrist"),
    image_size: int = 128,
    crop: str = "square",
    period_s: float = 0.2,
    mode: str = "time",
    gripper_action: str = "commanded",
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FrameCache:
    """Decode logs into a cache, or bring one up to date, and open it.

    A second process waits until the first has finished, then finds it done.  Damaged episodes are in `skipped`.
    """
    settings = CacheSettings(
        cameras=tuple(cameras), image_size=image_size, crop=crop, period_s=period_s, mode=mode,
        gripper_action=gripper_action,
    )  # fmt: skip
    out = Path(out)
    (out / "rows").mkdir(parents=True, exist_ok=True)
    (out / "objects").mkdir(exist_ok=True)
    logs = [source if isinstance(source, Log) else open_log(source) for source in sources]
    with locked(out):
        wanted = {(str(s.path.resolve()), e.key): e for s in logs for e in s.refresh().entries.values()}
        if not wanted:
            raise ValueError(
                f"no episode in {', '.join(str(s.path) for s in logs)}: nothing to build a cache of"
            )
        listing = sorted((*identity, entry.stamp) for identity, entry in wanted.items())
        fingerprint = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
        known = _known(out, settings)
        if known and known["fingerprint"] == fingerprint:
            return FrameCache.open(out)
        done, skipped = _journal(out, settings, trusted=known["written"] if known else 0)
        fresh = {
            identity: entry
            for identity, entry in wanted.items()
            if (*identity, entry.stamp) not in done and (*identity, entry.stamp) not in skipped
        }
        for (source, key), entry in list(fresh.items()):  # what a check has found unfit is not opened again
            unfit = next((f for f in entry.findings or () if f.skips), None)
            if unfit is not None:
                skipped[(source, key, entry.stamp)] = unfit
                del fresh[(source, key)]
        readers = {str(s.path.resolve()): s.reader for s in logs}
        jobs = [(source, key, entry.stamp) for (source, key), entry in sorted(fresh.items())]
        end = max((s.first + s.rows for part in done.values() for s in part), default=0)
        (out / _MANIFEST).unlink(missing_ok=True)
        with open(out / _JOURNAL, "a") as journal:
            for count, (identity, result) in enumerate(run_jobs(jobs, readers, out, settings, end, workers)):
                source, key, stamp = identity
                line: dict[str, Any] = {"source": source, "key": key, "stamp": stamp}
                if isinstance(result, Finding):
                    line["skipped"] = asdict(result)
                    skipped[identity] = result
                else:
                    line["stretches"] = [asdict(s) for s in result]
                    done[identity] = result
                journal.write(json.dumps(line) + "\n")
                journal.flush()
                if progress is not None:
                    progress(count + 1, len(jobs))
            os.fsync(journal.fileno())
        live = set(listing)
        stretches = [s for identity, part in done.items() if identity in live for s in part]
        findings = [finding for identity, finding in skipped.items() if identity in live]
        if not stretches:
            reasons = "; ".join(sorted({str(f) for f in findings})[:3])
            raise ValueError(f"{out}: none of {len(wanted)} episodes is usable: {reasons}")
        _finish(out, settings, fingerprint, stretches, findings)
    cache = FrameCache.open(out)
    log.info(
        "cache %s: %d rows of %d episodes, %d skipped", out, len(cache), len(cache.episodes), len(findings)
    )
    return cache


def _known(out: Path, settings: CacheSettings) -> dict[str, Any] | None:
    """The manifest, if the cache was finished; refuses one that was built otherwise."""
    if (out / "settings.json").exists():
        before = CacheSettings.from_dict(json.loads((out / "settings.json").read_text()))
        if before != settings:
            old, new = asdict(before), asdict(settings)
            change = ", ".join(f"{k} {old[k]!r} there, {new[k]!r} asked for" for k in old if old[k] != new[k])
            raise ValueError(
                f"{out}: this cache was built otherwise ({change}): name another folder or delete it"
            )
    else:
        _replace(out / "settings.json", json.dumps(asdict(settings)))
    try:
        manifest = json.loads((out / _MANIFEST).read_text())
    except FileNotFoundError:
        return None
    return manifest if manifest["version"] == VERSION else None


Done = dict[tuple[str, str, int], list[Stretch]]
Skipped = dict[tuple[str, str, int], Finding]


def _journal(out: Path, settings: CacheSettings, trusted: int) -> tuple[Done, Skipped]:
    """What earlier builds wrote.  Lines after the `trusted` first were never synced: their frames are compared."""
    done: Done = {}
    skipped: Skipped = {}
    lines = (out / _JOURNAL).read_text().splitlines(keepends=True) if (out / _JOURNAL).exists() else []
    if lines and not lines[-1].endswith("\n"):  # torn by a kill
        lines.pop()
        _replace(out / _JOURNAL, "".join(lines))
    frames = None
    for number, line in enumerate(lines):
        entry = json.loads(line)
        identity = (entry["source"], entry["key"], entry["stamp"])
        if "skipped" in entry:
            skipped[identity] = Finding(**entry["skipped"])
            continue
        stretches = [Stretch(**s) for s in entry["stretches"]]
        if number >= trusted:
            frames = _raw_frames(out, settings) if frames is None else frames
            if any(s.first + s.rows > len(frames) or _crc(frames, s) != s.crc for s in stretches):
                log.warning(
                    "%s: frames of %s were lost when it was killed, decoding them again", out, entry["key"]
                )
                continue
        done[identity] = stretches
    return done, skipped


def _raw_frames(out: Path, settings: CacheSettings) -> np.ndarray:
    file, shape = out / "rows" / "frames.memmap", settings.frame_shape
    count = file.stat().st_size // int(np.prod(shape)) if file.exists() else 0
    return np.memmap(file, np.uint8, "r", shape=(count, *shape)) if count else np.empty((0, *shape), np.uint8)


def _crc(frames: Tensor | np.ndarray, stretch: Stretch) -> int:
    part = frames[stretch.first : stretch.first + stretch.rows]
    return zlib.crc32((part.numpy() if isinstance(part, Tensor) else part).data.cast("B"))


def _finish(
    out: Path, settings: CacheSettings, fingerprint: str, stretches: list[Stretch], findings: list[Finding]
) -> None:
    """Sync, describe the columns as tensordict does, and say that the cache is whole."""
    count = max(s.first + s.rows for s in stretches)
    columns: dict[str, Any] = {}
    for name, (dtype, shape) in column_widths(settings).items():
        file = out / "rows" / f"{name}.memmap"
        with open(file, "r+b") as handle:
            handle.truncate(count * int(np.prod(shape)) * np.dtype(dtype).itemsize)
            os.fsync(handle.fileno())
        kind = str(getattr(torch, dtype))
        columns[name] = {"device": "cpu", "shape": [count, *shape], "dtype": kind, "is_nested": False}
    empty = TensorDict({}, [count])
    empty.memmap(out / "rows")
    meta = json.loads((out / "rows" / "meta.json").read_text())
    _replace(out / "rows" / "meta.json", json.dumps(columns | meta))
    with open(out / _JOURNAL) as journal:
        written = sum(1 for _ in journal)
    manifest = {
        "version": VERSION, "settings": asdict(settings), "fingerprint": fingerprint, "written": written,
        "episodes": [asdict(s) for s in sorted(stretches, key=lambda s: (s.uuid, s.run, s.source, s.key))],
        "skipped": [asdict(f) for f in findings],
    }  # fmt: skip
    _replace(out / _MANIFEST, json.dumps(manifest))


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with open(temporary, "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, file)
