"""What all readers share: the options of a log, names looked up among the keys found, an episode put together."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import GRIPPER_SLACK, MAX_SHORT_FRAMES, Damaged
from data.formats.hdf5 import Hdf5
from data.formats.rotations import quaternion_of
from data.kinematics import CHAINS
from data.options import LogOptions
from data.types import ArrayFrames, Camera, Episode, Frames
from data.video import VideoFrames


class Keys:
    """The names that a log has, looked up by ours: the key map first, then the usual spellings."""

    def __init__(self, found: Collection[str] | Hdf5, options: LogOptions, file: Path | str) -> None:
        self.found = found
        self.map = options.key_map
        self.file = file

    def get(self, name: str, usual: Sequence[str]) -> str | None:
        """The log's key for `name`, or None; a mapped key that is absent is an error."""
        mapped = self.map.get(name)
        if mapped is not None and mapped not in self.found:
            raise self._missing(name, [mapped], f"key_map.{name} is not in the log")
        return mapped or next((key for key in usual if key in self.found), None)

    def need(self, name: str, usual: Sequence[str]) -> str:
        key = self.get(name, usual)
        if key is None:
            raise self._missing(name, usual, f"no key for {name}")
        return key

    def cameras(self, found: dict[str, str]) -> dict[str, str]:
        """Camera names to keys: those of the key map, or all that the format shows."""
        mapped = {n.removeprefix("camera."): key for n, key in self.map.items() if n.startswith("camera.")}
        for name, key in mapped.items():
            if key in found:  # a camera's name will do in place of its key
                mapped[name] = found[key]
            elif key not in found.values() and key not in self.found:
                raise self._missing(f"camera.{name}", [key], f"key_map.camera.{name} is not in the log")
        return mapped or found

    def _missing(self, name: str, usual: Sequence[str], reason: str) -> Damaged:
        found = sorted(self.found)
        nearest: list[str] = []
        for key in (*usual, name):
            nearest += difflib.get_close_matches(key, found, n=2, cutoff=0.4)
        ends = {key.rsplit("/", 1)[-1].rsplit(".", 1)[-1]: key for key in found}
        nearest += [ends[n] for n in difflib.get_close_matches(name, ends, n=2, cutoff=0.4)]
        best = list(dict.fromkeys(nearest))[:3]
        return Damaged(
            reason,
            file=self.file,
            value=f"keys found: {', '.join(found) or 'none'}",
            remedy=f"Set key_map.{name}=KEY"
            + (f"; the nearest {'is' if len(best) == 1 else 'are'} {', '.join(best)}." if best else "."),
        )


@dataclass(slots=True)
class PickedFrames:
    """Some frames of another source, in the order of `rows`."""

    source: Frames
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self.source.read(self.rows[np.asarray(indices, dtype=np.int64)].tolist())


def first_frames(frames: Frames, length: int) -> Frames:
    """The first `length` frames, still lazy."""
    if len(frames) == length:
        return frames
    if isinstance(frames, VideoFrames):
        return VideoFrames(frames.path, frames.first_frame, length)
    if isinstance(frames, ArrayFrames):
        return ArrayFrames(frames.array[:length])
    return PickedFrames(frames, np.arange(length))


def closedness_of(
    values: np.ndarray,
    options: LogOptions,
    *,
    opened: float = 0.0,
    closed: float = 1.0,
    kind: str = "measured",
) -> np.ndarray:
    """The log's gripper numbers [T] -> closedness; small overshoots are clipped, large ones stay to be seen."""
    opened = options.gripper_open if options.gripper_open is not None else opened
    closed = options.gripper_closed if options.gripper_closed is not None else closed
    if opened == closed:
        raise ValueError(f"gripper_open and gripper_closed are both {opened}")
    closedness = (np.asarray(values, np.float64) - opened) / (closed - opened)
    if options.gripper_reverse in (kind, "both"):
        closedness = 1 - closedness
    near = (closedness >= -GRIPPER_SLACK) & (closedness <= 1 + GRIPPER_SLACK)
    return np.where(near, closedness.clip(0, 1), closedness)


def tool_of_joints(joints: np.ndarray, options: LogOptions, file: Path | str) -> np.ndarray:
    """Joints [T, n] -> base_T_tool [T, 4, 4], or a refusal that says why."""
    name = options.kinematics or ("panda" if joints.shape[1] == 7 else None)
    if name is None or joints.shape[1] != len(CHAINS[name].joints):
        raise Damaged(
            "joints only",
            file=file,
            value=f"{joints.shape[1]} joints",
            remedy="The log has joints but no end-effector pose, and only the Panda's forward kinematics (7 "
            f"joints) is applied unasked: set kinematics to one of {sorted(CHAINS)} if this is that arm, or "
            "key_map.pose to a column with the pose.",
        )
    tools = CHAINS[name].tools
    return CHAINS[name].base_T_tool(joints, options.tool if options.tool in tools else "tcp")


def even_lengths(frames: dict[str, Frames], rows: int, file: Path | str) -> tuple[dict[str, Frames], int]:
    """Cut frames and rows to one length; a difference of more than a frame or two is damage."""
    if not frames:
        raise Damaged(
            "no camera", file=file, remedy="Name the pictures in key_map.camera.NAME, or in cameras=[...]."
        )
    for camera, source in frames.items():
        if abs(len(source) - rows) > MAX_SHORT_FRAMES:
            raise Damaged(
                "frames and rows disagree",
                file=getattr(source, "path", file),
                value=f"camera {camera} has {len(source)} frames, the log {rows} rows",
                remedy="Record again: which frame belongs to which row cannot be known.",
            )
    length = min(rows, *(len(source) for source in frames.values()))
    return {camera: first_frames(source, length) for camera, source in frames.items()}, length


_ALSO_CALLED = {
    "exterior_left": (
        "exterior_1_left",
        "exterior_image_1_left",
        "agentview",
        "exterior",
        "front",
        "top",
        "image",
    ),
    "exterior_right": ("exterior_2_left", "exterior_image_2_left", "sideview"),
    "wrist": ("wrist_left", "wrist_image_left", "robot0_eye_in_hand", "eye_in_hand", "wrist_image", "hand"),
}


def choose_cameras(found: dict[str, Any], options: LogOptions, file: Path | str) -> dict[str, Any]:
    """The cameras that the options ask for, in that order; ours also by the names that other formats use."""
    if options.cameras is None:
        return found
    found = dict(found)
    for camera in options.cameras:
        if camera not in found:
            other = next((name for name in _ALSO_CALLED.get(camera, ()) if name in found), None)
            if other is not None:
                found[camera] = found[other]
                continue
            raise Damaged(
                "camera missing",
                file=file,
                value=f"{camera} asked for, found {', '.join(sorted(found)) or 'none'}",
                remedy="Change cameras=[...], or map the name with key_map.camera.NAME.",
            )
    return {camera: found[camera] for camera in options.cameras}


def put_together(
    options: LogOptions,
    *,
    file: Path | str,
    frames: dict[str, Frames],
    time_s: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    closedness: np.ndarray,
    euler: np.ndarray | None = None,
    joints: np.ndarray | None = None,
    commanded: np.ndarray | None = None,
    cameras: dict[str, Camera] | None = None,
    objects: dict[str, np.ndarray] | None = None,
    keep: np.ndarray | None = None,
    task: str | None = None,
    success: bool | None = None,
    meta: dict[str, Any] | None = None,
) -> Episode:
    """An episode from columns of equal meaning: lengths evened, time from zero, quaternions made.

    `rotation` is [T, 3, 3]; `euler` is what the log had, kept for the check on degrees; `keep` are the rows to keep.
    """
    frames, length = even_lengths(frames, len(time_s), file)
    rows = np.arange(length) if keep is None else np.flatnonzero(keep[:length])
    if keep is not None and len(rows) < length:
        frames = {camera: PickedFrames(source, rows) for camera, source in frames.items()}

    def cut(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.asarray(values, np.float64)[rows]

    time = np.asarray(time_s, np.float64)[rows]
    finite = np.isfinite(rotation[rows]).all((1, 2))
    quaternion = np.full((len(rows), 4), np.nan)
    if finite.any():
        quaternion[finite] = quaternion_of(rotation[rows][finite])
    about = dict(meta or {}) | {"source": str(file), "rows_in_log": len(time_s)}
    for key in ("paused", "base_T_cam"):
        if isinstance(about.get(key), np.ndarray):
            about[key] = about[key][rows]
        elif about.get(key):
            about[key] = {name: track[rows] for name, track in about[key].items() if len(track) >= length}
    if euler is not None:
        about["euler"] = np.asarray(euler, np.float64)[rows]
    return Episode(
        frames=frames,
        time_s=time - (time[0] if len(time) else 0.0),
        ee_position=np.asarray(position, np.float64)[rows],
        ee_quaternion=quaternion,
        closedness=np.asarray(closedness, np.float64)[rows],
        joints=cut(joints),
        commanded=cut(commanded),
        cameras=cameras or {},
        task=task,
        success=success,
        objects={name: np.asarray(values, np.float64)[rows] for name, values in (objects or {}).items()},
        meta=about,
    )
