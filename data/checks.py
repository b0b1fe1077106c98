"""Damage named: what may be wrong with a recording, where, and what to do about it.

A finding either skips the episode (its numbers cannot be trusted) or flags it (it can be used, look at it).
Every threshold is here, with its unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
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
GRIPPER_MOVES = 0.2  # closedness: a gripper that changes by less stands still
GRIPPER_LAG_S = 0.6  # by then fingers follow their command
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
    if len(episode) < min_rows:
        checks = [_found("short", f"At least {min_rows} rows are needed.", value=f"{len(episode)} rows")]
    else:
        checks = chain.from_iterable(
            check(episode) for check in (_not_finite, _time, _lengths, _angles, _gripper, _motion)
        )
    for finding in checks:
        finding.file = str(file)
        yield finding


def _found(
    reason: str, remedy: str, *, value: str, row: int | None = None, skips: bool = True, file: str = ""
) -> Finding:
    return Finding(reason=reason, file=file, row=row, value=value, remedy=remedy, skips=skips)


def _text(values: np.ndarray | float) -> str:
    return np.array2string(np.atleast_1d(values), precision=4)


def _whole_commands(episode: Episode) -> np.ndarray | None:
    """Commanded poses; a log with commands for the gripper alone has none."""
    return None if gripper_only(episode.commanded) else episode.commanded


def _not_finite(episode: Episode) -> Iterator[Finding]:
    fields = {
        "time": episode.time_s,
        "end-effector position": episode.ee_position,
        "end-effector orientation": episode.ee_quaternion,
        "gripper": episode.closedness,
        "joints": episode.joints,
        "commands": _whole_commands(episode),
    }
    for what, values in fields.items():
        if values is None:
            continue
        if len(values) != len(episode):
            yield _found(
                "rows disagree",
                "Record again, or cut the file to its shortest column.",
                value=f"{what} has {len(values)} rows, time has {len(episode)}",
            )
        row = first_row(~np.isfinite(values))
        if row is not None:
            remedy = "Cut the episode before this row, or record it again."
            yield _found("not a number", remedy, row=row, value=f"{what} = {_text(values[row])}")


def _time(episode: Episode) -> Iterator[Finding]:
    time, steps = episode.time_s, np.diff(episode.time_s)
    row = first_row(steps <= 0)
    if row is not None:
        yield _found(
            "time goes back" if steps[row] < 0 else "time stands still",
            "The clock was set, or rows were shuffled; cut the episode at this row.",
            row=row + 1,
            value=f"{time[row]:.4f} s then {time[row + 1]:.4f} s",
        )
        return
    usual = float(np.median(steps)) if len(steps) else 0.0
    row = first_row(steps > MAX_GAP_ROWS * usual + 1e-9)
    if row is not None:
        yield _found(
            "time gap",
            "Windows across the gap are left out when sampling in time.",
            row=row + 1,
            value=f"{steps[row]:.3f} s where a step takes {usual:.3f} s",
            skips=False,
        )


def _lengths(episode: Episode) -> Iterator[Finding]:
    reach = MAX_REACH_WORLD_M if episode.meta.get("frame") == "world" else MAX_REACH_M
    commanded = _whole_commands(episode)
    positions = {
        "end-effector position": episode.ee_position,
        "commanded position": None if commanded is None else commanded[:, :3],
    }
    for what, xyz in positions.items():
        if xyz is None:
            continue
        distance = np.linalg.norm(xyz, axis=1)
        row = first_row(distance > reach)
        if row is None:
            continue
        if np.median(distance) > 10 * reach:
            reason, remedy = "millimetres", "Positions are metres: set position_scale=0.001."
        else:
            reason = "out of reach"
            remedy = f"An arm reaches {reach} m: cut the episode at this row, or set frame=world."
        yield _found(reason, remedy, row=row, value=f"{what} = {_text(xyz[row])}")
        return


def _angles(episode: Episode) -> Iterator[Finding]:
    commanded = _whole_commands(episode)
    angles = {
        "orientation": (episode.meta.get("euler"), MAX_EULER_RAD),  # as logged, before it became a quaternion
        "commanded orientation": (None if commanded is None else commanded[:, 3:6], MAX_EULER_RAD),
        "joints": (episode.joints, MAX_JOINT_RAD),
    }
    for what, (values, most) in angles.items():
        row = None if values is None else first_row(np.abs(values) > most)
        if values is not None and row is not None:
            remedy = "Angles are radians: set angle_scale=0.017453292519943295."
            yield _found("degrees", remedy, row=row, value=f"{what} = {_text(values[row])}")
            break
    norm = np.linalg.norm(episode.ee_quaternion, axis=1)
    row = first_row(np.abs(norm - 1) > 1e-3)
    if row is not None:
        remedy = "Name the right column in key_map.quaternion (order xyzw)."
        yield _found("no rotation", remedy, row=row, value=f"quaternion of length {norm[row]:.4f}")


def _agreement(episode: Episode) -> tuple[float, float]:
    """Least and greatest correlation of the gripper with its command, over the times by which it may lag behind."""
    commanded, closedness = episode.commanded, episode.closedness
    found = [0.0]
    if commanded is not None and np.ptp(closedness) > GRIPPER_MOVES:
        rows = min(len(commanded), len(closedness))
        usual = float(np.median(np.diff(episode.time_s)))
        most = GRIPPER_LAG_S / usual if usual > 0 else 0.0
        for lag in range(min(round(min(most, rows)), rows - 3) + 1):
            told, seen = commanded[: rows - lag, 6], closedness[lag:rows]
            if np.ptp(told) > GRIPPER_MOVES and np.ptp(seen) > GRIPPER_MOVES:
                found.append(float(np.corrcoef(told, seen)[0, 1]))
    return min(found), max(found)


def _gripper(episode: Episode) -> Iterator[Finding]:
    closedness = episode.closedness
    row = first_row((closedness < -GRIPPER_SLACK) | (closedness > 1 + GRIPPER_SLACK))
    if row is not None:
        remedy = "Closedness is 0 open to 1 closed: set gripper_open and gripper_closed to the log's values."
        yield _found("gripper out of range", remedy, row=row, value=f"{closedness[row]:.4f}")
        return
    least, greatest = _agreement(episode)
    # Fingers that follow their command run with it at some lag, however short the episode; reversed ones at none.
    if least < -0.7 and greatest <= 0:
        yield _found(
            "gripper polarity",
            "One of them is reversed: set gripper_reverse=measured or gripper_reverse=commanded.",
            value=f"command and measurement run against each other (correlation {least:.2f})",
        )
    elif closedness[0] > max(0.5, closedness.min() + GRIPPER_MOVES):
        yield _found(
            "gripper may be reversed",
            "If the hand is open in the first picture, set gripper_reverse=both.",
            row=0,
            value=f"starts closed ({closedness[0]:.2f}) and opens later",
            skips=False,
        )


def _motion(episode: Episode) -> Iterator[Finding]:
    step = np.linalg.norm(np.diff(episode.ee_position, axis=0), axis=1)
    row = first_row(step > MAX_JUMP_M)
    if row is not None:
        yield _found(
            "jump",
            "Tracking was lost or rows are missing; cut the episode at this row.",
            row=row + 1,
            value=f"{step[row] * 100:.1f} cm in one row",
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
        where = str(getattr(frames, "path", file))
        if length == len(rows):
            yield _found(
                "frozen frames",
                "The camera had stalled; leave it out with cameras=[...] or record again.",
                row=0,
                value=f"camera {camera}: all {n} frames are the same while the arm moves",
                file=where,
            )
        elif thorough and length > max(5, n // 4):
            yield _found(
                "stalled camera",
                "Check the camera's cable and rate; the rest of the episode is used.",
                row=int(rows[first]),
                value=f"camera {camera}: {length} equal frames in a row while the arm moves",
                file=where,
                skips=False,
            )
