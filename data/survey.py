"""Looks at one episode for the whole: what is wrong with it, and the numbers that `inspect` adds up."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import Damaged, Finding, check_frames, check_numbers
from data.formats import READERS
from data.formats.demos import hdf5_files
from data.formats.fields import LogOptions
from data.formats.hdf5 import Hdf5
from data.index import Entry, IndexedReader
from data.types import Episode

AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
SPANS = (0.1, 0.1, 0.1, 0.4, 0.4, 0.4, 1.0)  # m, rad, closedness: histograms reach from -span to span
BINS = 21
PERIOD_S = 0.2  # over which steps are measured


def open_checked(reader: IndexedReader, key: str) -> tuple[Episode, list[Finding]]:
    """Open an episode and check its numbers: the episode and what is to be told of it, or `Damaged`."""
    try:
        episode = reader.open(key)
        findings = list(episode.meta.pop("findings", ()))
        findings += list(check_numbers(episode, file=episode.meta.get("source", key)))
    except Damaged:
        raise
    except Exception as error:  # files are not to be trusted: whatever a library makes of one must be named
        raise _unreadable(reader.path, key, error) from error
    for finding in findings:
        if finding.skips:
            raise Damaged.of(finding)
    episode.meta.pop("euler", None)
    return episode, findings


def examine(
    reader: IndexedReader, key: str, *, thorough: bool = False
) -> tuple[list[Finding], dict[str, Any] | None]:
    """All findings of an episode, frames included, and its summary (None if it cannot be used)."""
    try:
        episode, findings = open_checked(reader, key)
        try:
            findings += check_frames(episode, file=episode.meta.get("source", key), thorough=thorough)
        except Damaged:
            raise
        except Exception as error:
            raise Damaged(
                "frame not decodable",
                file=episode.meta.get("source", key),
                value=f"{type(error).__name__}: {error}",
                remedy="The video is damaged there: copy it again, or leave the camera out with cameras=[...].",
            ) from error
        return findings, summarise(episode)
    except Damaged as damage:
        return [damage.finding], None


@lru_cache(maxsize=4)
def _reader(path: str, format_name: str, options: str) -> IndexedReader:
    return READERS[format_name](Path(path), LogOptions.from_json(options))


def answer(question: str, path: str, format_name: str = "", options: str = "", *rest: Any) -> Any:
    """What `data.sandbox` may be asked: recognise a path, list its episodes, know or examine one."""
    reader: IndexedReader | None = None
    try:
        if question == "recognise":
            return _recognise(Path(path))
        reader = _reader(path, format_name, options)
        if question == "entries":  # of a central list: files may have changed since the reader was made
            _reader.cache_clear()
            reader = _reader(path, format_name, options)
            return [reader.entry(key) for key in reader.list()]
        if question == "entry":
            return [_entry(reader, key) for key in rest[0]]
        if question == "examine":
            return examine(reader, rest[0], thorough=rest[1])
    except Damaged:
        raise
    except Exception as error:  # as in open_checked
        raise _unreadable(Path(path), str(rest[0]) if rest else "", error) from error
    raise ValueError(f"question {question!r} is not known")


def _entry(reader: IndexedReader, key: str) -> Entry | Finding:
    try:
        return reader.entry(key)
    except Damaged as damage:
        return damage.finding
    except Exception as error:  # as in open_checked
        return _unreadable(reader.path, key, error).finding


def _recognise(path: Path) -> str | None:
    found = None
    problem: Damaged | None = None
    for name, reader in READERS.items():
        try:
            found = name if reader.recognises(path) else None
        except Exception as error:  # as in open_checked
            problem = _unreadable(path, "", error)
        if found is not None:
            return found
    for file in hdf5_files(path)[:1]:
        with file.open("rb") as opened:
            claims = file.match("*.h*5") or opened.read(4) == b"\x89HDF"
        if claims:
            Hdf5.open(file).close()  # says so, if that is why
    if problem is not None:
        raise problem
    return None


def _unreadable(path: Path, key: str, error: Exception) -> Damaged:
    return Damaged(
        "unreadable",
        file=path,
        value=f"{key}{': ' if key else ''}{type(error).__name__}: {error}",
        remedy="Copy the file again from the original; if other software reads it, report this message.",
    )


def contact(episode: Episode) -> np.ndarray:
    """Rows [T] in which the hand seems to touch something: its fingers are held apart, or an object moves."""
    closedness = episode.closedness
    still = np.abs(np.gradient(closedness)) < 0.01 if len(closedness) > 1 else np.ones(len(closedness), bool)
    held = still & (closedness > 0.05) & (closedness < 0.95)
    if episode.commanded is not None:
        held &= episode.commanded[:, 6] > closedness + 0.05
    for poses in episode.objects.values():
        held[1:] |= np.linalg.norm(np.diff(poses[:, :3], axis=0), axis=1) > 1e-3
    return held


def steps(episode: Episode, period_s: float = PERIOD_S) -> np.ndarray:
    """Measured changes of pose over about `period_s`: [N, 7]."""
    import torch  # not needed to list a log

    from data.poses import pose_difference, poses_from

    usual = float(np.median(np.diff(episode.time_s))) if len(episode) > 1 else period_s
    every = max(1, round(period_s / max(usual, 1e-6)))
    poses = poses_from(
        torch.from_numpy(episode.ee_position),
        torch.from_numpy(episode.ee_quaternion),
        torch.from_numpy(episode.closedness),
    )[::every]
    return pose_difference(poses[:-1], poses[1:]).numpy()


def summarise(episode: Episode) -> dict[str, Any]:
    """Numbers of one episode that add up over a folder."""
    change = steps(episode)
    histograms = [
        np.histogram(values.clip(-span, span), bins=BINS, range=(-span, span))[0]
        for values, span in zip(change.T, SPANS)
    ]
    return {
        "uuid": episode.meta.get("uuid"),
        "rows": len(episode),
        "seconds": float(episode.time_s[-1]),
        "task": episode.task,
        "success": episode.success,
        "objects": sorted(episode.objects),
        "cameras": sorted(episode.frames),
        "contact": float(contact(episode).mean()),
        "steps": np.asarray(histograms, np.uint16).tobytes().hex(),  # [7, BINS], as text: there may be 50,000
        "step_mean_abs": np.abs(change).mean(0).tolist() if len(change) else [0.0] * 7,
        "step_count": len(change),
    }
