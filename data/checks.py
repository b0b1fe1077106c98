"""Damage named: what may be wrong with a recording, where, and what to do about it.

A finding either skips the episode (its numbers cannot be trusted) or flags it (it can be used, look at it).
Every threshold is here, with its unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data.types import Episode

MAX_REACH_M = 1.5  # no arm of this kind reaches further from its base: beyond it the numbers are millimetres
MAX_REACH_WORLD_M = 5.0  # the same in a world frame, whose origin may be anywhere in the room
MAX_EULER_RAD = np.pi + 0.1
MAX_JOINT_RAD = 2 * np.pi  # no joint of these arms makes a whole turn
MAX_JUMP_M = 0.1  # between two rows
MAX_GAP_ROWS = 3.0  # a pause longer than this many usual steps is told
MAX_SHORT_FRAMES = 2  # a video may lack this many frames at its end (a recorder stops its camera first)
MOVES_M = 0.02  # an arm that moves so far must change the picture
CODEC_NOISE = 8  # grey levels by which a codec changes a picture that stands still
GRIPPER_SLACK = 0.02  # sensors overshoot their ends a little; values are clipped to 0..1


@dataclass(kw_only=True, slots=True)
class Finding:
    """One thing that is wrong: in which file, at which row, with what value, and the remedy."""

    reason: str  # short, and the same for every episode that fails so: it is what the report counts
    file: str
    remedy: str
    row: int | None = None
    value: str | None = None
    episode: str = ""
    skips: bool = True

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        value = "" if self.value is None else f": {self.value}"
        return f"{self.reason} in {where}{value}. {self.remedy}"


class Damaged(Exception):
    """An episode that cannot be used: reason, file, row, value and remedy."""

    def __init__(
        self, reason: str, *, file: Path | str, remedy: str, row: int | None = None, value: Any = None
    ) -> None:
        text = None if value is None else str(value)
        self.finding = Finding(reason=reason, file=str(file), remedy=remedy, row=row, value=text)
        super().__init__(str(self.finding))

    @classmethod
    def of(cls, finding: Finding) -> Damaged:
        return cls(
            finding.reason, file=finding.file, remedy=finding.remedy, row=finding.row, value=finding.value
        )

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process borders
        return (Damaged.of, (self.finding,))

    reason = property(lambda self: self.finding.reason)
    file = property(lambda self: self.finding.file)
    row = property(lambda self: self.finding.row)
    value = property(lambda self: self.finding.value)
    remedy = property(lambda self: self.finding.remedy)


def gripper_only(commanded: np.ndarray | None) -> bool:
    """Whether a log has commands for the gripper and none for the pose (not a number throughout)."""
    return commanded is not None and bool(
        np.isnan(commanded[:, :6]).all() & np.isfinite(commanded[:, 6]).all()
    )


def first_row(bad: np.ndarray) -> int | None:
    """The first row in which anything is true, or None."""
    rows = np.flatnonzero(bad.reshape(len(bad), -1).any(1))
    return int(rows[0]) if len(rows) else None


def check_numbers(episode: Episode, *, file: Path | str, min_rows: int = 2) -> Iterator[Finding]:
    """Yield what is wrong with the numbers of an episode, the worst first (those that skip it)."""
    name = str(file)
    rows = len(episode)
    if rows < min_rows:
        yield Finding(
            reason="short", file=name, value=f"{rows} rows", remedy=f"At least {min_rows} rows are needed."
        )
        return
    yield from _not_finite(episode, name)
    yield from _time(episode, name)
    yield from _units(episode, name)
    yield from _gripper(episode, name)
    yield from _motion(episode, name)


def _not_finite(episode: Episode, file: str) -> Iterator[Finding]:
    fields = {
        "time": episode.time_s,
        "end-effector position": episode.ee_position,
        "end-effector orientation": episode.ee_quaternion,
        "gripper": episode.closedness,
        "joints": episode.joints,
        # A log with commands for the gripper alone has no commanded pose.
        "commands": None if gripper_only(episode.commanded) else episode.commanded,
    }
    for what, values in fields.items():
        if values is None:
            continue
        if len(values) != len(episode):
            yield Finding(
                reason="rows disagree",
                file=file,
                value=f"{what} has {len(values)} rows, time has {len(episode)}",
                remedy="Record again, or cut the file to its shortest column.",
            )
        row = first_row(~np.isfinite(values))
        if row is not None:
            yield Finding(
                reason="not a number",
                file=file,
                row=row,
                value=f"{what} = {np.array2string(np.atleast_1d(values[row]), precision=4)}",
                remedy="Cut the episode before this row, or record it again.",
            )


def _time(episode: Episode, file: str) -> Iterator[Finding]:
    steps = np.diff(episode.time_s)
    row = first_row(steps <= 0)
    if row is not None:
        kind = "goes back" if steps[row] < 0 else "stands still"
        yield Finding(
            reason=f"time {kind}",
            file=file,
            row=row + 1,
            value=f"{episode.time_s[row]:.4f} s then {episode.time_s[row + 1]:.4f} s",
            remedy="The clock was set, or rows were shuffled; cut the episode at this row.",
        )
        return
    usual = float(np.median(steps)) if len(steps) else 0.0
    row = first_row(steps > MAX_GAP_ROWS * usual + 1e-9)
    if row is not None:
        yield Finding(
            reason="time gap",
            file=file,
            row=row + 1,
            value=f"{steps[row]:.3f} s where a step takes {usual:.3f} s",
            remedy="Windows across the gap are left out when sampling in time.",
            skips=False,
        )


def _units(episode: Episode, file: str) -> Iterator[Finding]:
    reach = MAX_REACH_WORLD_M if episode.meta.get("frame") == "world" else MAX_REACH_M
    positions = {"end-effector position": episode.ee_position}
    whole = None if gripper_only(episode.commanded) else episode.commanded
    if whole is not None:
        positions["commanded position"] = whole[:, :3]
    for what, xyz in positions.items():
        distance = np.linalg.norm(xyz, axis=1)
        row = first_row(distance > reach)
        if row is not None:
            millimetres = bool(np.median(distance) > 10 * reach)
            yield Finding(
                reason="millimetres" if millimetres else "out of reach",
                file=file,
                row=row,
                value=f"{what} = {np.array2string(xyz[row], precision=4)}",
                remedy="Positions are metres: set position_scale=0.001."
                if millimetres
                else f"An arm reaches {reach} m: cut the episode at this row, or set frame=world.",
            )
            break
    commanded = None if whole is None else whole[:, 3:6]
    angles = {
        "orientation": (episode.meta.get("euler"), MAX_EULER_RAD),  # as logged, before it became a quaternion
        "commanded orientation": (commanded, MAX_EULER_RAD),
        "joints": (episode.joints, MAX_JOINT_RAD),
    }
    for what, (values, most) in angles.items():
        if values is None:
            continue
        row = first_row(np.abs(values) > most)
        if row is not None:
            yield Finding(
                reason="degrees",
                file=file,
                row=row,
                value=f"{what} = {np.array2string(np.atleast_1d(values[row]), precision=4)}",
                remedy="Angles are radians: set angle_scale=0.017453292519943295.",
            )
            break
    norm = np.linalg.norm(episode.ee_quaternion, axis=1)
    row = first_row(np.abs(norm - 1) > 1e-3)
    if row is not None:
        yield Finding(
            reason="no rotation",
            file=file,
            row=row,
            value=f"quaternion of length {norm[row]:.4f}",
            remedy="Name the right column in key_map.quaternion (order xyzw).",
        )


def _gripper(episode: Episode, file: str) -> Iterator[Finding]:
    closedness = episode.closedness
    row = first_row((closedness < -GRIPPER_SLACK) | (closedness > 1 + GRIPPER_SLACK))
    if row is not None:
        yield Finding(
            reason="gripper out of range",
            file=file,
            row=row,
            value=f"{closedness[row]:.4f}",
            remedy="Closedness is 0 open to 1 closed: set gripper_open and gripper_closed to the log's values.",
        )
        return
    moves = float(np.ptp(closedness)) > 0.2
    if moves and episode.commanded is not None and np.ptp(episode.commanded[:, 6]) > 0.2:
        lag = min(5, len(closedness) - 1)  # fingers follow their command a few rows later
        together = np.corrcoef(
            episode.commanded[: len(closedness) - lag, 6] if lag else episode.commanded[:, 6],
            closedness[lag:],
        )[0, 1]
        if together < -0.5:
            yield Finding(
                reason="gripper polarity",
                file=file,
                value=f"command and measurement run against each other (correlation {together:.2f})",
                remedy="One of them is reversed: set gripper_reverse=measured or gripper_reverse=commanded.",
            )
            return
    if moves and closedness[0] > 0.5:
        yield Finding(
            reason="gripper may be reversed",
            file=file,
            row=0,
            value=f"starts closed ({closedness[0]:.2f}) and opens later",
            remedy="If the hand is open in the first picture, set gripper_reverse=both.",
            skips=False,
        )


def _motion(episode: Episode, file: str) -> Iterator[Finding]:
    step = np.linalg.norm(np.diff(episode.ee_position, axis=0), axis=1)
    row = first_row(step > MAX_JUMP_M)
    if row is not None:
        yield Finding(
            reason="jump",
            file=file,
            row=row + 1,
            value=f"{step[row] * 100:.1f} cm in one row",
            remedy="Tracking was lost or rows are missing; cut the episode at this row.",
            skips=False,
        )


def frozen_run(frames: np.ndarray) -> tuple[int, int]:
    """First and length of the longest run of equal pictures among frames [N, H, W, 3]; a codec may stir them a little."""
    best, start = (0, 1), 0
    for i, (a, b) in enumerate(pairwise(frames), 1):
        if int(np.abs(a.astype(np.int16) - b).max()) > CODEC_NOISE:
            start = i
        if i + 1 - start > best[1]:
            best = (start, i + 1 - start)
    return best


def check_frames(
    episode: Episode, *, file: Path | str, thorough: bool = False, samples: int = 5, block: int = 32
) -> Iterator[Finding]:
    """Decode some frames of each camera (all of them if `thorough`) and yield what is wrong with them.

    A frame that cannot be decoded raises what the decoder raises.
    """
    for camera, frames in episode.frames.items():
        n = min(len(frames), len(episode))
        if n == 0:
            continue
        rows = np.arange(n) if thorough else np.unique(np.linspace(0, n - 1, samples).astype(int))
        seen: list[np.ndarray] = []
        for start in range(0, len(rows), block):
            seen.extend(frames.read(rows[start : start + block].tolist())[:, ::2, ::2])
        first, length = frozen_run(np.stack(seen))
        during = episode.ee_position[rows[first] : rows[first + length - 1] + 1]
        if np.ptp(during, axis=0).max() < MOVES_M or length < 3:
            continue
        if length == len(rows):
            yield Finding(
                reason="frozen frames",
                file=str(getattr(frames, "path", file)),
                row=0,
                value=f"camera {camera}: all {n} frames are the same while the arm moves",
                remedy="The camera had stalled; leave it out with cameras=[...] or record again.",
            )
        elif thorough and length > max(5, n // 4):
            yield Finding(
                reason="stalled camera",
                file=str(getattr(frames, "path", file)),
                row=int(rows[first]),
                value=f"camera {camera}: {length} equal frames in a row while the arm moves",
                remedy="Check the camera's cable and rate; the rest of the episode is used.",
                skips=False,
            )
