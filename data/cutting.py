"""From rows of an episode to model steps: the one cut that the cache, the clips and the agent share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data.images import fit_frames
from data.sampling import Sampling, measured_poses, model_actions, next_rows
from data.types import Episode, Frames
from data.video import VideoFrames


class Cut(Protocol):
    """What is cut out, as the settings of a cache and the conventions of a model both say it."""

    @property
    def cameras(self) -> tuple[str, ...]: ...
    @property
    def image_size(self) -> int: ...
    @property
    def crop(self) -> str: ...
    @property
    def gripper_action(self) -> str: ...


@dataclass(kw_only=True, slots=True)
class Steps:
    """T model steps."""

    frames: np.ndarray  # uint8 [T, V, H, W, 3], views in the order of the cameras asked for
    poses: Tensor  # float64 [T, 7]
    actions: Tensor  # float64 [T-1, 7]
    times: np.ndarray  # float64 [T] seconds since the episode's start


def missing_camera(held: Collection[str], cameras: tuple[str, ...]) -> str | None:
    """The first camera that is not among those of an episode, or of a goal."""
    return next((camera for camera in cameras if camera not in held), None)


def following_rows(episode: Episode, sampling: Sampling, camera: str) -> np.ndarray:
    """For every row of an episode the row one model step later, -1 where there is none; `camera` may claim a rate."""
    claims = sampling.mode == "header_fps"
    return next_rows(
        episode.time_s,
        sampling,
        nominal_hz=episode.meta.get("nominal_hz"),
        header_fps=getattr(episode.frames[camera], "header_fps", None) if claims else None,
    )


def fitted(frames: Frames, rows: Sequence[int], *, size: int, crop: str) -> np.ndarray:
    """Frames of a camera as a model sees them: uint8 [len(rows), size, size, 3]."""
    if isinstance(frames, VideoFrames):
        return frames.read_fitted(rows, size=size, crop=crop)
    return fit_frames(frames.read(rows), size=size, crop=crop)


def cut(episode: Episode, rows: np.ndarray, how: Cut, poses: Tensor | None = None) -> Steps:
    """Decode and measure some rows, one model step apart; `poses` are all of the episode's, if they are known."""
    poses = measured_poses(episode) if poses is None else poses
    views = [
        fitted(episode.frames[camera], rows.tolist(), size=how.image_size, crop=how.crop)
        for camera in how.cameras
    ]
    return Steps(
        frames=np.stack(views, 1),
        poses=poses[torch.from_numpy(rows)],
        actions=model_actions(poses, rows, episode.commanded, gripper=how.gripper_action),
        times=episode.time_s[rows].astype(np.float64),
    )
