"""A recorded episode as the model steps of a world model: the longest stretch without a gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.images import fit_frames
from data.sampling import Sampling, measured_poses, model_actions, next_rows, runs
from data.types import Conventions, Episode


@dataclass(kw_only=True, slots=True)
class Stretch:
    """T model steps: frames uint8 [T, V, H, W, 3], poses [T, 7], actions [T-1, 7], the rows they came from."""

    frames: Tensor
    poses: Tensor
    actions: Tensor
    rows: np.ndarray


def longest_stretch(episode: Episode, conventions: Conventions, *, most: int | None = None) -> Stretch:
    """Raises ValueError with the reason where there is none."""
    missing = [name for name in conventions.cameras if name not in episode.frames]
    if missing:
        raise ValueError(
            f"the model looks through {list(conventions.cameras)}; the episode has no {missing[0]!r}, only "
            f"{sorted(episode.frames)}: choose cameras when the log is opened, or another model"
        )
    following = next_rows(
        episode.time_s, Sampling(period_s=conventions.period_s), nominal_hz=episode.meta.get("nominal_hz")
    )
    found = runs(following)
    if not found:
        raise ValueError(
            f"no two frames are {conventions.period_s} s apart in this episode of {len(episode)} rows; "
            "its clock or its rate is not what the model was trained at"
        )
    rows = max(found, key=len)[:most]
    views = [
        fit_frames(
            episode.frames[name].read(rows.tolist()), size=conventions.image_size, crop=conventions.crop
        )
        for name in conventions.cameras
    ]
    poses = measured_poses(episode)
    return Stretch(
        frames=torch.from_numpy(np.stack(views, 1)),
        poses=poses[torch.from_numpy(rows)].float(),
        actions=model_actions(poses, rows, episode.commanded, gripper=conventions.gripper_action).float(),
        rows=rows,
    )
