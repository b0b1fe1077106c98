"""Rewrites a log of any format as raw DROID or LeRobot v3.0, episode by episode."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import Damaged, gripper_only
from data.formats.videos import exactly
from data.report import Report
from data.sampling import measured_poses
from data.source import Log, open_log
from data.types import Camera, Episode, Observation
from data.writers.droid import DroidWriter
from data.writers.lerobot import LeRobotWriter

FORMATS = ("droid", "lerobot")
BLOCK = 32  # frames decoded at a time


def convert(
    log: Log,
    to: Path,
    *,
    format: str = "droid",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write every usable episode of `log` below `to`; what could not be used is in the report.

    Into raw DROID a conversion that was stopped goes on where it was: episodes are known by their identity.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} cannot be written; choose one of {', '.join(FORMATS)}")
    if to.exists() and any(p.name[0] != "." for p in to.iterdir()):
        if format == "lerobot":
            raise ValueError(f"{to} is not empty: give a new folder, or delete it")
        there = {entry.uuid for entry in open_log(to, format="droid").entries.values()}
    else:
        there = set()
    report = log.check()
    keys = log.usable(report)
    writer: LeRobotWriter | None = None
    try:
        for done, key in enumerate(keys, 1):
            try:
                episode = log.open(key)
                if format == "droid":
                    if _identity(episode, key) not in there:
                        write_droid(episode, to, uuid=_identity(episode, key))
                else:
                    writer = writer or LeRobotWriter(to, fps=_rate(episode), robot_type=_robot(episode))
                    writer.add(episode)
            except (Damaged, OSError) as error:  # a frame that the check had not decoded
                if isinstance(error, OSError) and _ours(error, to):
                    raise OSError(
                        f"{to} cannot be written: {error}. {done - 1} of {len(keys)} episodes are done; make room or "
                        "choose another folder"
                        + (", then go on with the same line" if format == "droid" else "")
                    ) from error
                finding = error.finding if isinstance(error, Damaged) else _unreadable(key, error)
                report.accepted.remove(key)
                report.add(key, [finding])
            if progress is not None:
                progress(done, len(keys))
        if writer is not None:
            writer.publish()
    finally:
        if writer is not None:
            writer.abort()  # drops what is not published
    return report


def write_droid(episode: Episode, root: Path, *, uuid: str | None = None, lab: str = "converted") -> Path:
    """Write one episode in the layout of raw DROID; returns its folder."""
    poses = measured_poses(episode).numpy()
    commanded, extra = _commands(episode, poses)
    if episode.joints is None or episode.joints.shape[1] != 7:
        extra["without_joints"] = True  # the layout has seven in every row
        joints = np.zeros((len(episode), 7))
    else:
        joints = episode.joints
    if episode.success is None:
        extra["success_unknown"] = True
    tracks: dict[str, np.ndarray] = episode.meta.get("base_T_cam") or {}
    sources = {name: exactly(source) for name, source in episode.frames.items()}
    with DroidWriter(
        root,
        lab=lab,
        task=episode.task or "",
        cameras=[_camera(episode, name) for name in episode.frames],
        hz=_rate(episode),
        uuid=uuid or _identity(episode, "") or None,
        robot=_robot(episode),
        tool=str(episode.meta.get("tool") or "flange"),
    ) as writer:
        for start in range(0, len(episode), BLOCK):
            rows = range(start, min(start + BLOCK, len(episode)))
            frames = {name: source.read(rows) for name, source in sources.items()}
            for i, row in enumerate(rows):
                writer.add(
                    Observation(
                        frames={name: block[i] for name, block in frames.items()},
                        pose=poses[row],
                        commanded=commanded[row],
                        joints=joints[row],
                        time_s=float(episode.time_s[row]),
                    ),
                    commanded[row],
                    objects={name: track[row] for name, track in episode.objects.items()},
                    base_T_cam={name: track[row] for name, track in tracks.items()},
                )
        frame = episode.meta.get("frame")
        if frame not in (None, "base"):
            extra["frame_of_poses"] = frame
        return writer.finish(success=bool(episode.success), extra_meta=extra)


def _commands(episode: Episode, poses: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Commanded poses for every row, and what is to be told of them: DROID's layout cannot leave them out."""
    following = np.concatenate([poses[1:], poses[-1:]])
    if episode.commanded is None:
        return following, {"without_commands": True}
    if gripper_only(episode.commanded):
        return np.concatenate([following[:, :6], episode.commanded[:, 6:]], 1), {"commands": "gripper"}
    return episode.commanded, {}


def _camera(episode: Episode, name: str) -> Camera:
    camera = episode.cameras.get(name)
    if camera is None:
        height, width = episode.frames[name].read([0]).shape[1:3]
        camera = Camera(name=name, width=width, height=height)
    return camera


def _identity(episode: Episode, key: str) -> str:
    """The episode's uuid, as the name of a file."""
    return str(episode.meta.get("uuid") or key).replace("/", "+")


def _robot(episode: Episode) -> str:
    return str(episode.meta.get("robot") or "panda")


def _rate(episode: Episode) -> float:
    nominal = episode.meta.get("nominal_hz")
    return float(nominal) if nominal else round(1 / float(np.median(np.diff(episode.time_s))), 3)


def _ours(error: OSError, to: Path) -> bool:
    """Whether what failed was writing: no fault of the log's."""
    place = Path(str(error.filename)) if error.filename else None
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return full or (place is not None and to.absolute() in (place.absolute(), *place.absolute().parents))


def _unreadable(key: str, error: OSError) -> Any:
    return Damaged(
        "frame not decodable",
        file=key,
        value=error,
        remedy="The video is damaged there: copy it again from the original.",
    ).finding
