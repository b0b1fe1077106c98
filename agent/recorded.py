"""A recorded episode as the model steps of a world model: the longest stretch without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from data.cutting import cut, following_rows, missing_camera
from data.sampling import Sampling, runs
from data.types import Conventions, Episode


@dataclass(kw_only=True, slots=True)
class Stretch:
    """T model steps: frames uint8 [T, V, H, W, 3], poses [T, 7], actions [T-1, 7], the rows they came from, and, of a
    simulation, the objects' true poses [T, 7] (xyz, xyzw), for probes alone."""

    frames: Tensor
    poses: Tensor
    actions: Tensor
    rows: np.ndarray
    objects: dict[str, Tensor] = field(default_factory=dict)


def longest_stretch(episode: Episode, conventions: Conventions, *, most: int | None = None) -> Stretch:
    """Raises ValueError with the reason where there is none."""
    missing = missing_camera(episode.frames, conventions.cameras)
    if missing is not None:
        raise ValueError(
            f"the model looks through {list(conventions.cameras)}; the episode has no {missing!r}, only "
            f"{sorted(episode.frames)}: choose cameras when the log is opened, or another model"
        )
    sampling = Sampling(period_s=conventions.period_s)
    found = runs(following_rows(episode, sampling, conventions.cameras[0]))
    if not found:
        raise ValueError(
            f"no two frames are {conventions.period_s} s apart in this episode of {len(episode)} rows; "
            "its clock or its rate is not what the model was trained at"
        )
    rows = max(found, key=len)[:most]
    steps = cut(episode, rows, conventions)
    return Stretch(
        frames=torch.from_numpy(steps.frames),
        poses=steps.poses.float(),
        actions=steps.actions.float(),
        rows=rows,
        objects={name: torch.from_numpy(poses[rows]).float() for name, poses in episode.objects.items()},
    )
