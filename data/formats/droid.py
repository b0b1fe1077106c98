"""Raw DROID, and what this project records: a folder per episode with trajectory.h5 and an MP4 per camera.

Frame i belongs to row i; time comes from the recorded clocks, never from the MP4 header, which says 60 fps where
about 15 frames a second were kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import Damaged
from data.formats.fields import Keys, LogOptions, choose_cameras, closedness_of, put_together, tool_of_joints
from data.formats.folders import Folders
from data.formats.hdf5 import Hdf5
from data.formats.rotations import matrix_of, rotation_of
from data.formats.videos import open_video
from data.index import Entry, stamp_of
from data.types import Camera, Episode, Frames

UNFINISHED = ".unfinished-"  # folders that a killed writer left
STATE, ACTION, CLOCK = "observation/robot_state", "action", "observation/timestamp"
NOMINAL_HZ = 15.0


def _is_episode(names: set[str]) -> bool:
    metadata = any(n.startswith("metadata_") and n.endswith(".json") for n in names)
    return "trajectory.h5" in names or "recordings" in names or metadata


class DroidReader:
    """Reads a tree of raw DROID episodes; keys are their paths below it."""

    name = "droid"
    by_name = True  # recognised without a file being opened
    central = False

    def __init__(self, path: Path, options: LogOptions | None = None) -> None:
        self.path = path.parent if path.name == "trajectory.h5" else path
        self.options = options or LogOptions()
        self.folders = Folders(self.path, _is_episode, unfinished=UNFINISHED)

    @staticmethod
    def recognises(path: Path) -> bool:
        if path.is_file():
            return path.name == "trajectory.h5"
        return Folders(path, _is_episode, unfinished=UNFINISHED).first() is not None

    def list(self) -> list[str]:
        return self.folders.find()

    def stamp(self, key: str) -> int:
        folder = f"{self.path}/{key}"  # text: of 50,000 episodes, paths would take most of the time
        return stamp_of(folder, f"{folder}/trajectory.h5", f"{folder}/recordings/MP4")

    def entry(self, key: str) -> Entry:
        """Rows, task and success without a picture being looked at."""
        folder = self.path / key
        about = self._metadata(folder)
        with self._trajectory(folder) as h5:
            gripper = h5.dataset(f"{STATE}/gripper_position")
            rows = 0 if gripper is None else len(gripper)
            clock = h5.dataset(f"{CLOCK}/control/step_start")
            ends = None if clock is None or len(clock) < 2 else (clock[0], clock[-1])
        task = about.get("current_task")
        return Entry(
            key=key,
            uuid=str(about.get("uuid") or key),
            rows=rows,
            seconds=rows / _nominal_hz(about) if ends is None else float(ends[1] - ends[0]) / 1e3,
            task=None if task is None else str(task),
            success=_success(about, key),
        )

    def open(self, key: str) -> Episode:
        folder = self.path / key
        options = self.options
        about = self._metadata(folder)
        if not (folder / "recordings" / "MP4").is_dir():
            raise Damaged(
                "no recordings",
                file=folder,
                remedy="The videos were not downloaded or not saved: copy recordings/MP4 beside trajectory.h5.",
            )
        with self._trajectory(folder) as h5:
            keys = Keys(h5, options, h5.file)
            gripper = h5.numbers(keys.need("closedness", [f"{STATE}/gripper_position"]))
            rows = len(gripper)
            joints_key = keys.get("joints", [f"{STATE}/joint_positions", f"{STATE}/joint_position"])
            joints = None if joints_key is None else h5.numbers(joints_key, 7) * options.angle_scale
            pose_key = keys.get("pose", [f"{STATE}/cartesian_position"])
            euler = None
            if pose_key is None and joints is not None:
                base_T_tool = tool_of_joints(joints, options, h5.file)
                position, rotation = base_T_tool[:, :3, 3], base_T_tool[:, :3, :3]
            else:
                pose = h5.numbers(pose_key or keys.need("pose", [f"{STATE}/cartesian_position"]), 6)
                position, euler = pose[:, :3] * options.position_scale, pose[:, 3:] * options.angle_scale
                rotation = rotation_of(euler=euler)
            # What a conversion had to invent, because the layout has no row without it, is left out again.
            joints = None if about.get("without_joints") else joints
            commanded = None if about.get("without_commands") else self._commanded(h5, keys)
            if commanded is not None and about.get("commands") == "gripper":
                commanded[:, :6] = np.nan
            frames, cameras, tracks, serials = self._cameras(h5, keys, about, folder)
            time_s = self._time(h5, about, serials, rows)
            for serial in serials:
                _compare_clocks(h5, folder / "recordings" / "MP4" / f"{serial}_timestamps.json", serial)
            paused = _paused(h5, rows)
            objects = {
                name: h5.numbers(f"observation/objects/{name}", 7)
                for name in h5.children("observation/objects")
            }
        return put_together(
            options,
            file=folder / "trajectory.h5",
            frames=frames,
            time_s=time_s,
            position=position,
            rotation=rotation,
            euler=euler,
            closedness=closedness_of(gripper, options),
            joints=joints,
            commanded=commanded,
            cameras=cameras,
            objects=objects,
            keep=~paused if options.pauses == "drop" else None,
            task=about.get("current_task"),
            success=_success(about, key),
            meta={
                "uuid": str(about.get("uuid") or key),
                "robot": about.get("robot_serial"),
                "frame": about.get("frame_of_poses") or about.get("frame", "base"),
                "tool": about.get("tool") or ("flange" if euler is not None else options.tool),
                "format": self.name,
                "nominal_hz": _nominal_hz(about),
                "paused": paused,
                "base_T_cam": tracks,
                "metadata": about,
            },
        )

    def _metadata(self, folder: Path) -> dict[str, Any]:
        if UNFINISHED in folder.name:
            raise Damaged(
                "unfinished",
                file=folder,
                remedy="Its recorder is still at work, or was killed: delete the folder, or let it finish.",
            )
        found = sorted(folder.glob("metadata_*.json"))
        if not found:
            if self.options.incomplete:
                return {}
            raise Damaged(
                "no metadata",
                file=folder,
                remedy="By DROID's rule the episode is incomplete: delete it, or read it with incomplete=true.",
            )
        try:
            about = json.loads(found[0].read_text())
        except ValueError as error:
            about = error
        if not isinstance(about, dict):
            raise Damaged(
                "broken metadata",
                file=found[0],
                value=str(about)[:200],
                remedy="It must be a JSON object: copy the file again.",
            )
        return about

    def _trajectory(self, folder: Path) -> Hdf5:
        file = folder / "trajectory.h5"
        if not file.exists():
            raise Damaged("no trajectory", file=file, remedy="Copy trajectory.h5 from the original.")
        return Hdf5.open(file)

    def _commanded(self, h5: Hdf5, keys: Keys) -> np.ndarray | None:
        pose_key = keys.get("commanded", [f"{ACTION}/cartesian_position"])
        gripper_key = keys.get("commanded_closedness", [f"{ACTION}/gripper_position"])
        if pose_key is None or gripper_key is None:
            return None
        pose = h5.numbers(pose_key, 6)
        closedness = closedness_of(h5.numbers(gripper_key), self.options, kind="commanded")
        scale = np.repeat([self.options.position_scale, self.options.angle_scale], 3)
        return np.concatenate([pose * scale, closedness[:, None]], 1)

    def _serials(self, h5: Hdf5, keys: Keys, about: dict[str, Any]) -> dict[str, str]:
        """Our camera names -> the serials that name the files."""
        if isinstance(about.get("camera_names"), dict):
            return keys.cameras({str(name): str(serial) for serial, name in about["camera_names"].items()})
        outside = [
            str(about[f"{role}_cam_serial"]) for role in ("ext1", "ext2") if about.get(f"{role}_cam_serial")
        ]
        wrist = about.get("wrist_cam_serial")
        if not outside and wrist is None:
            kinds = {serial: _camera_type(h5, serial) for serial in h5.children("observation/camera_type")}
            outside = sorted(serial for serial, kind in kinds.items() if kind != 0)
            wrist = next((serial for serial, kind in kinds.items() if kind == 0), None)
        left = Path(str(about.get("left_mp4_path") or "")).stem

        def left_first(serial: str) -> tuple[bool, float]:
            row = h5.array(f"observation/camera_extrinsics/{serial}_left", slice(0, 1))
            return serial != left, -float(row[0, 1]) if row is not None and row.shape == (1, 6) else 0.0

        names = dict(zip(("exterior_left", "exterior_right"), sorted(outside, key=left_first)))
        return keys.cameras(names | ({"wrist": str(wrist)} if wrist is not None else {}))

    def _cameras(
        self, h5: Hdf5, keys: Keys, about: dict[str, Any], folder: Path
    ) -> tuple[dict[str, Frames], dict[str, Camera], dict[str, np.ndarray], list[str]]:
        """Frames, cameras, where the moving ones were [T, 4, 4], and the serials."""
        frames: dict[str, Frames] = {}
        cameras: dict[str, Camera] = {}
        tracks: dict[str, np.ndarray] = {}
        chosen = choose_cameras(self._serials(h5, keys, about), self.options, folder)
        for name, serial in chosen.items():
            file = folder / "recordings" / "MP4" / f"{serial}.mp4"
            frames[name] = video = open_video(file, camera=name)
            height, width = video.size
            kind = _camera_type(h5, serial)
            moving = name == "wrist" if kind is None else kind == 0
            cameras[name] = camera = Camera(name=name, width=width, height=height, moving=moving)
            K = h5.array(f"observation/camera_intrinsics/{serial}_left", slice(0, 1))
            if K is not None and K.shape == (1, 3, 3):
                camera.K = K[0].astype(np.float64)
            if f"observation/camera_extrinsics/{serial}_left" in h5:  # absent when uncalibrated
                six = h5.numbers(f"observation/camera_extrinsics/{serial}_left", 6)
                if moving:
                    tracks[name] = np.tile(np.eye(4), (len(six), 1, 1))
                    tracks[name][:, :3, :3] = rotation_of(euler=six[:, 3:6])
                    tracks[name][:, :3, 3] = six[:, :3]
                elif len(six):
                    camera.base_T_cam = matrix_of(six[0])
        return frames, cameras, tracks, list(chosen.values())

    def _time(self, h5: Hdf5, about: dict[str, Any], serials: list[str], rows: int) -> np.ndarray:
        """Seconds of each row: when its frame was received; for our own logs the clock to the nanosecond."""
        seconds = h5.array(f"{CLOCK}/robot_state/robot_timestamp_seconds")
        nanos = h5.array(f"{CLOCK}/robot_state/robot_timestamp_nanos")
        if about.get("writer") == "forearm" and seconds is not None and nanos is not None and rows:
            return (seconds - seconds[0]) + (nanos - nanos[0]) * 1e-9
        for serial in serials:
            received = h5.array(f"{CLOCK}/cameras/{serial}_frame_received")
            if received is not None and len(received) == rows and rows:
                return (received.astype(np.int64) - int(received[0])) * 1e-3
        return np.arange(rows) / (self.options.rate_hz or _nominal_hz(about))


def _compare_clocks(h5: Hdf5, file: Path, serial: str) -> None:
    """The list of frame times beside a video must be the one in the trajectory: else frames were lost."""
    received = h5.array(f"{CLOCK}/cameras/{serial}_frame_received")
    if not file.exists() or received is None:
        return
    try:
        times = np.asarray(json.loads(file.read_text()), np.float64).reshape(-1)
    except (ValueError, TypeError) as error:
        raise Damaged(
            "broken timestamps", file=file, value=error, remedy="Delete the file: it is optional."
        ) from error
    n = min(len(times), len(received))
    apart = np.flatnonzero(~(np.abs(times[:n] - received[:n]) <= 1.0))
    if len(apart):
        row = int(apart[0])
        raise Damaged(
            "frames and rows disagree",
            file=file,
            row=row,
            value=f"{times[row]:.0f} ms here, {received[row]} ms in trajectory.h5",
            remedy="A frame was dropped or added: record the episode again.",
        )


def _nominal_hz(about: dict[str, Any]) -> float:
    value = about.get("nominal_hz")
    return float(value) if isinstance(value, int | float) and value > 0 else NOMINAL_HZ


def _camera_type(h5: Hdf5, serial: str) -> int | None:
    """0 on the hand, 1 or 2 outside."""
    kinds = h5.array(f"observation/camera_type/{serial}", slice(0, 1))
    return None if kinds is None or not kinds.size else int(kinds.reshape(-1)[0])


def _success(about: dict[str, Any], key: str) -> bool | None:
    if about.get("success_unknown"):
        return None
    if isinstance(about.get("success"), bool):
        return about["success"]
    parts = Path(key).parts
    return True if "success" in parts else False if "failure" in parts else None


def _paused(h5: Hdf5, rows: int) -> np.ndarray:
    """Rows in which the operator had let go."""
    paused = np.zeros(rows, bool)
    skipped = h5.array(f"{CLOCK}/skip_action")
    enabled = h5.array("observation/controller_info/movement_enabled")
    if skipped is not None and len(skipped) == rows:
        paused |= skipped.astype(bool).reshape(rows)
    if enabled is not None and len(enabled) == rows:
        paused |= ~enabled.astype(bool).reshape(rows)
    return paused
