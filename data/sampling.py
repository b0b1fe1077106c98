"""Which rows of a log make model steps, and the actions between them.

Time is physical by default: every step is as near to `period_s` as the rows allow, and a step that the log does not
have (a gap, a pause) is refused rather than bent.  Actions are derived after sampling, from measured poses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.poses import pose_difference, poses_from
from data.types import CLOSEDNESS, Episode

MODES = ("time", "rows", "header_fps")
MAX_STEP_ERROR = 0.25  # of the period


@dataclass(kw_only=True, slots=True)
class Sampling:
    """How a model step is found in a log."""

    mode: str = "time"
    """time: by the log's clock. rows: a fixed number of rows, from the nominal rate.
    header_fps: a fixed number of rows, from the rate that the video claims (Meta's loader; DROID claims 60 for 15)."""
    period_s: float = 0.2
    """Duration of one model step."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"sampling mode {self.mode!r} is not known; choose one of {', '.join(MODES)}")
        if not self.period_s > 0:
            raise ValueError(f"period_s must be above 0, got {self.period_s}")


def next_rows(
    time_s: np.ndarray,
    sampling: Sampling,
    *,
    nominal_hz: float | None = None,
    header_fps: float | None = None,
) -> np.ndarray:
    """For every row the row one model step later, -1 where the log has none: int64 [T]."""
    rows = np.arange(len(time_s))
    if sampling.mode == "time":
        goal = time_s + sampling.period_s
        after = np.searchsorted(time_s, goal).clip(1, len(time_s) - 1) if len(time_s) > 1 else rows
        nearer = np.where(goal - time_s[after - 1] < time_s[after] - goal, after - 1, after)
        wrong = np.abs(time_s[nearer] - goal) > MAX_STEP_ERROR * sampling.period_s
        return np.where(wrong | (nearer <= rows), -1, nearer).astype(np.int64)
    rate = nominal_hz if sampling.mode == "rows" else header_fps
    if not rate:
        source = "nominal_hz" if sampling.mode == "rows" else "a video header with a rate"
        raise ValueError(f"sampling mode {sampling.mode!r} needs {source}, the log has none: use mode 'time'")
    # Meta rounds up; in rows mode the nearest count is meant.
    step = (
        math.ceil(rate * sampling.period_s)
        if sampling.mode == "header_fps"
        else round(rate * sampling.period_s)
    )
    after = rows + max(1, step)
    return np.where(after < len(rows), after, -1).astype(np.int64)


def runs(following: np.ndarray, *, shortest: int = 2) -> list[np.ndarray]:
    """Walk through an episode by model steps: one array of rows per stretch without a gap."""
    found, row = [], 0
    while row < len(following):
        run = [row]
        while following[run[-1]] >= 0:
            run.append(int(following[run[-1]]))
        if len(run) >= shortest:
            found.append(np.array(run, dtype=np.int64))
        row = run[-1] + 1
    return found


def windows(following: np.ndarray, length: int) -> np.ndarray:
    """Every window of `length` rows, one model step apart, that the log has: int64 [W, length]."""
    rows = np.arange(len(following))
    columns = [rows]
    for _ in range(length - 1):
        rows = np.where(rows >= 0, following[rows], -1)
        columns.append(rows)
    table = np.stack(columns, 1) if len(following) else np.empty((0, length), np.int64)
    return table[table[:, -1] >= 0]


def measured_poses(episode: Episode) -> Tensor:
    """All measured poses of an episode, float64 [T, 7]."""
    return poses_from(
        *(
            torch.as_tensor(np.asarray(part), dtype=torch.float64)
            for part in (episode.ee_position, episode.ee_quaternion, episode.closedness)
        )
    )


def model_actions(
    poses: Tensor, rows: np.ndarray, commanded: np.ndarray | None = None, *, gripper: str = "commanded"
) -> Tensor:
    """Actions [n-1, 7] between sampled rows of an episode with measured `poses` [T, 7].

    The gripper's part is the closedness commanded at the end of the step minus the measured one at its start
    (docs/adr/0002): a measured change would tell the outcome of a grasp, which no planner can choose.
    """
    if gripper not in ("commanded", "measured"):
        raise ValueError(f"gripper_action {gripper!r} is not known; choose commanded or measured")
    index = torch.from_numpy(rows)
    actions = pose_difference(poses[index[:-1]], poses[index[1:]])
    if gripper == "commanded" and commanded is not None:
        # Row t holds the command issued at t: the last one within a step is one row before its end.
        wanted = torch.as_tensor(np.asarray(commanded)[rows[1:] - 1, CLOSEDNESS], dtype=poses.dtype)
        change = wanted.clamp(0.0, 1.0) - poses[index[:-1], CLOSEDNESS]
        actions[:, CLOSEDNESS] = torch.where(wanted.isfinite(), change, actions[:, CLOSEDNESS])
    return actions
