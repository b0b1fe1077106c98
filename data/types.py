"""The words that every room of the house uses: cameras, observations, episodes, memories, imaginations.

Conventions (docs/conventions.md is the whole page):
  frame   uint8 RGB [H, W, 3], upright
  pose    7 numbers in the robot's base frame: x y z [m], roll pitch yaw [rad] (scipy lowercase "xyz",
          extrinsic, R = Rz Ry Rx), closedness (0 open .. 1 closed)
  action  7 numbers: change of pose over one model step; rotation as Euler angles of R_next R_prev^T
Letters for shapes: B batch, K candidates, H horizon, T time, V views, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:  # the words are light: who only names them does not wait for torch
    from torch import Tensor

POSE_SIZE = 7
ACTION_SIZE = 7
CLOSEDNESS = 6  # index of the gripper in a pose and in an action


@dataclass(kw_only=True, slots=True)
class Camera:
    """What is known of a camera: `K` and `base_T_cam` are None for an uncalibrated one."""

    name: str
    width: int
    height: int
    K: np.ndarray | None = None  # [3, 3] pixels
    base_T_cam: np.ndarray | None = None  # [4, 4] optical frame: x right, y down, z forward
    moving: bool = False  # mounted on the hand


@dataclass(kw_only=True, slots=True)
class Observation:
    """What an arm perceives at one moment."""

    frames: dict[str, np.ndarray]  # camera name -> uint8 [H, W, 3]
    pose: np.ndarray  # [7] measured
    commanded: np.ndarray  # [7] last commanded pose
    joints: np.ndarray  # [7] rad
    time_s: float  # when the state was read
    frame_times_s: dict[str, float] = field(default_factory=dict)
    gripper_force_n: float | None = None


class Frames(Protocol):
    """The frames of one camera: an array or a lazy video."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Return uint8 [len(indices), H, W, 3]."""
        ...


@dataclass(slots=True)
class ArrayFrames:
    """Frames held in memory (or in a memory map): uint8 [T, H, W, 3]."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return np.ascontiguousarray(self.array[np.asarray(indices, dtype=np.int64)])


@dataclass(kw_only=True, slots=True)
class Episode:
    """One recording, whatever wrote it.  `time_s` is physical time from the start, strictly increasing."""

    frames: dict[str, Frames]
    time_s: np.ndarray  # [T]
    ee_position: np.ndarray  # [T, 3] m
    ee_quaternion: np.ndarray  # [T, 4] xyzw
    closedness: np.ndarray  # [T] 0 open .. 1 closed
    joints: np.ndarray | None = None  # [T, 7] rad
    commanded: np.ndarray | None = None  # [T, 7] commanded pose, where the log has it
    cameras: dict[str, Camera] = field(default_factory=dict)
    task: str | None = None
    success: bool | None = None
    objects: dict[str, np.ndarray] = field(default_factory=dict)  # simulation only: name -> [T, 7] xyz + xyzw
    meta: dict[str, Any] = field(default_factory=dict)  # uuid, robot, frame, tool, source, format, nominal_hz

    def __len__(self) -> int:
        return len(self.time_s)


class EpisodeReader(Protocol):
    """Reads one format.  `list` is cheap (no episode file is opened where an index exists)."""

    name: str

    @staticmethod
    def recognises(path: Path) -> bool: ...

    def list(self) -> list[str]:
        """Stable keys of the episodes found, damaged ones included."""
        ...

    def open(self, key: str) -> Episode:
        """Open one episode lazily, or raise `data.checks.Damaged` with a reason and a remedy."""
        ...


@dataclass(kw_only=True, slots=True)
class Conventions:
    """What a checkpoint, a log or an arm takes for granted; compared field by field when they meet."""

    cameras: tuple[str, ...] = ("exterior_left", "wrist")
    image_size: int = 128  # px, square, after the crop
    crop: str = "square"  # data.images crop by name: square | droid_train | none
    period_s: float = 0.2  # one model step
    gripper_action: str = "commanded"  # commanded | measured, see docs/adr/0002
    frame: str = "base"
    tool: str = "tcp"

    def differences(self, other: Conventions) -> list[str]:
        """One sentence per field that differs."""
        return [
            f"{name}: {getattr(self, name)!r} here, {getattr(other, name)!r} there"
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(other, name)
        ]


@dataclass(kw_only=True, slots=True)
class Memory:
    """The context a world model imagines from: the last frames' latents and poses and what was done between."""

    latents: Tensor  # [B, T, N, D], the last is now
    poses: Tensor  # [B, T, 7]
    actions: Tensor  # [B, T-1, 7] executed (measured) changes


@dataclass(kw_only=True, slots=True)
class Imagined:
    """What would follow: step h holds the state after action h."""

    latents: Tensor  # [B, K, H, N, D]
    poses: Tensor  # [B, K, H, 7]
    extras: dict[str, Tensor] = field(default_factory=dict)  # e.g. "disagreement" [B, K, H]


class WorldModel(Protocol):
    """Perceives and imagines.  Everything above knows a world model by these two verbs and its conventions."""

    conventions: Conventions

    def encode(self, frames: Tensor, poses: Tensor | None = None) -> Tensor:
        """uint8 [B, V, H, W, 3] (views in the order of `conventions.cameras`) -> latents [B, N, D]."""
        ...

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        """actions [B, K, H, 7]; gradients flow to them.  `z` None is the mean future."""
        ...


def as_views(frames: Mapping[str, np.ndarray], cameras: Sequence[str]) -> Tensor:
    """Stack an observation's frames in the model's order: uint8 [V, H, W, 3]."""
    missing = [c for c in cameras if c not in frames]
    if missing:
        raise ValueError(f"camera {missing[0]!r} is not in the observation; it has {sorted(frames)}")
    import torch

    return torch.from_numpy(np.stack([frames[c] for c in cameras]))
