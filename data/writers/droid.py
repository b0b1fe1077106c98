"""Writes one episode in the layout of raw DROID, all or nothing.

Row t holds what was observed at t and the pose commanded at t, as DROID has it; what a log cannot know (torques,
the operator's controller) is left out.  Beyond DROID: `camera_names` in the metadata, `observation/objects/<name>`
(simulation only) and `robot_timestamp_nanos` to the nanosecond.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid as uuids
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from data.poses import euler_from_rotation, pose_difference
from data.types import Camera, Observation
from data.video import VideoWriter

UNFINISHED = ".unfinished-"  # folders that a killed writer leaves; no reader may count them
_STEP_SIZE = np.array([0.075] * 3 + [0.15] * 3 + [0.25])  # what DROID calls velocity 1.0, per control step


def serials_of(names: Sequence[str]) -> dict[str, str]:
    """Camera name -> the eight digits that stand for its serial; the same for ever, and unique within `names`."""
    serials: dict[str, str] = {}
    for name in names:
        number = zlib.crc32(name.encode()) % 90_000_000
        while str(number + 10_000_000) in serials.values():
            number = (number + 1) % 90_000_000
        serials[name] = str(number + 10_000_000)
    return serials


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _six(base_T_cam: np.ndarray) -> np.ndarray:
    """[..., 4, 4] -> xyz and extrinsic xyz Euler angles [..., 6]."""
    matrix = torch.as_tensor(np.asarray(base_T_cam), dtype=torch.float64)
    return torch.cat([matrix[..., :3, 3], euler_from_rotation(matrix[..., :3, :3])], -1).numpy()


class DroidWriter:
    """Records one episode below `root`; the folder appears complete at `finish`, or never.

    with DroidWriter(root, lab="SIM", task="lift", cameras=cameras, hz=5) as writer:
        writer.add(observation, commanded_pose, objects={"cube": pose_xyzw})
        writer.finish(success=True)
    """

    def __init__(
        self,
        root: Path | str,
        *,
        lab: str,
        task: str,
        cameras: Sequence[Camera],
        hz: float,
        uuid: str | None = None,
        user: str = "forearm",
        robot: str = "panda-simulated",
        tool: str = "tcp",
        scene_id: int = 0,
        start_s: float | None = None,
        codec: str = "h264",
        gop: int = 10,
    ) -> None:
        if not cameras:
            raise ValueError("an episode needs at least one camera, got none")
        if not lab or "/" in lab:
            raise ValueError(f"lab names a folder: it cannot be {lab!r}")
        robot, task = str(robot), str(task)  # a member of an Enum is text to all but HDF5
        self.root, self.lab, self.task, self.hz = Path(root), lab, task, float(hz)
        self.cameras = {camera.name: camera for camera in cameras}
        self.serials = serials_of(list(self.cameras))
        self.start_s = time.time() if start_s is None else start_s
        stamp = time.strftime("%Y-%m-%d-%Hh-%Mm-%Ss", time.localtime(self.start_s))
        self.uuid = uuid or f"{lab}+{uuids.uuid4().hex[:8]}+{stamp}"
        if "/" in self.uuid:
            raise ValueError(f"uuid names a file: it cannot hold a slash, got {self.uuid!r}")
        user_id = self.uuid.split("+")[1] if self.uuid.count("+") == 2 else self.uuid
        self._about = {
            "uuid": self.uuid, "lab": lab, "user": user, "user_id": user_id, "date": stamp[:10],
            "timestamp": stamp, "building": lab, "scene_id": scene_id, "robot_serial": robot,
            "droid_version": "1.3", "current_task": task, "tool": tool, "frame": "base", "nominal_hz": self.hz,
            "camera_names": {serial: name for name, serial in self.serials.items()},
            "writer": "forearm",
        }  # fmt: skip
        self._rows: list[tuple[Observation, np.ndarray]] = []
        self._objects: dict[str, list[np.ndarray]] = {}
        self._moving: dict[str, list[np.ndarray]] = {}
        (self.root / lab).mkdir(parents=True, exist_ok=True)
        self._folder = self.root / lab / f"{UNFINISHED}{stamp}-{os.getpid()}-{uuids.uuid4().hex[:8]}"
        self._folder.mkdir()
        self._videos = {
            name: VideoWriter(
                self._folder / "recordings" / "MP4" / f"{serial}.mp4", self.hz, gop=gop, codec=codec
            )
            for name, serial in self.serials.items()
        }
        self.finished: Path | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        observation: Observation,
        commanded: np.ndarray,
        objects: Mapping[str, np.ndarray] | None = None,
        base_T_cam: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Append one row: what was observed, and the pose [7] commanded from there.

        `objects` are true poses [7] (xyz, xyzw); `base_T_cam` [4, 4] says where the moving cameras were.
        """
        row = len(self._rows)
        commanded = np.asarray(commanded, dtype=np.float64)
        if commanded.shape != (7,) or not np.isfinite(commanded).all():
            raise ValueError(f"row {row}: a commanded pose is 7 finite numbers, got {commanded.tolist()}")
        if not (np.isfinite(observation.pose).all() and np.isfinite(observation.joints).all()):
            raise ValueError(f"row {row}: the measured pose or joints are not finite: {observation.pose}")
        missing = [name for name in self.cameras if name not in observation.frames]
        if missing:
            raise ValueError(
                f"row {row}: no frame of camera {missing[0]!r}; it has {sorted(observation.frames)}"
            )
        for kind, new, kept in (
            ("objects", objects, self._objects),
            ("moving cameras", base_T_cam, self._moving),
        ):
            if row and set(new or ()) != set(kept):
                raise ValueError(
                    f"row {row}: {kind} are {sorted(new or ())}, they were {sorted(kept)} before"
                )
            for name, value in (new or {}).items():
                kept.setdefault(name, []).append(np.array(value, dtype=np.float64))
        for name, video in self._videos.items():
            video.add(observation.frames[name])
        # The arrays may be the driver's own buffers, the frames are encoded already.
        kept = Observation(
            frames={}, pose=np.array(observation.pose, np.float64), commanded=commanded,
            joints=np.array(observation.joints, np.float64), time_s=float(observation.time_s),
            frame_times_s=dict(observation.frame_times_s), gripper_force_n=observation.gripper_force_n,
        )  # fmt: skip
        self._rows.append((kept, commanded.copy()))

    def finish(self, *, success: bool, extra_meta: Mapping[str, Any] | None = None) -> Path:
        """Complete the episode and give it its place; returns its folder."""
        if not self._rows:
            raise ValueError("an episode needs at least one row; none was added")
        taken = sorted(set(extra_meta or ()) & set(self._about))
        if taken:
            raise ValueError(f"extra_meta may not replace {taken}: choose other names")
        for name, video in self._videos.items():
            video.close()
            path = video.path.with_name(f"{self.serials[name]}_timestamps.json")
            path.write_text(json.dumps(self._frame_ms(name).tolist()))
        self._write_trajectory(success)
        local = time.localtime(self.start_s)
        day = Path("success" if success else "failure") / time.strftime("%Y-%m-%d", local)
        (self.root / self.lab / day).mkdir(parents=True, exist_ok=True)
        first = time.asctime(local).replace(" ", "_")
        name, attempt = first, 1
        while True:  # another writer may have started in the same second
            relative = day / name
            metadata = self._metadata(relative, success) | dict(extra_meta or {})
            file = self._folder / f"metadata_{self.uuid}.json"
            with open(file, "w") as stream:
                json.dump(metadata, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            sync_folder(self._folder)
            final = self.root / self.lab / relative
            try:
                if final.exists():
                    raise FileExistsError(errno.EEXIST, "taken", str(final))
                os.rename(self._folder, final)
                break
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                attempt += 1
                name = f"{first}_{attempt}"
        sync_folder(final.parent)
        self.finished = final
        return final

    def abort(self) -> None:
        """Drop what was recorded; harmless after `finish`."""
        if self.finished is None:
            for video in self._videos.values():
                video.abort()
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> DroidWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _frame_ms(self, name: str) -> np.ndarray:
        times = np.array([o.frame_times_s.get(name, o.time_s) for o, _ in self._rows])
        return self._milliseconds(times)

    def _milliseconds(self, times_s: np.ndarray) -> np.ndarray:
        """Times of whatever clock the arm has -> ms since the epoch, the first row at the start."""
        return np.rint((self.start_s + times_s - self._rows[0][0].time_s) * 1e3).astype(np.int64)

    def _metadata(self, relative: Path, success: bool) -> dict[str, Any]:
        def path_of(name: str) -> str:
            return str(relative / "recordings" / "MP4" / f"{self.serials[name]}.mp4")

        def y_of(name: str) -> float:
            transform = self.cameras[name].base_T_cam
            return (1.0 if "left" in name else 0.0) if transform is None else float(transform[1, 3])

        hands = [n for n, c in self.cameras.items() if c.moving]
        outside = sorted((n for n in self.cameras if n not in hands), key=lambda n: self.serials[n])
        about: dict[str, Any] = self._about | {
            "success": bool(success),
            "hdf5_path": str(relative / "trajectory.h5"),
            "trajectory_length": len(self._rows),
        }
        for role, name in [*(("wrist", n) for n in hands[:1]), *zip(("ext1", "ext2"), outside)]:
            about[f"{role}_cam_serial"] = self.serials[name]
            about[f"{role}_mp4_path"] = path_of(name)
            transform = (
                self.cameras[name].base_T_cam if name in outside else self._moving.get(name, [None])[0]
            )
            if transform is not None:
                about[f"{role}_cam_extrinsics"] = _six(transform).tolist()
        by_side = sorted(outside[:2], key=y_of, reverse=True)
        for side, name in zip(("left", "right"), by_side):
            about[f"{side}_mp4_path"] = path_of(name)
        return about

    def _write_trajectory(self, success: bool) -> None:
        count = len(self._rows)
        pose = np.stack([o.pose for o, _ in self._rows])
        joints = np.stack([o.joints for o, _ in self._rows])
        command = np.stack([c for _, c in self._rows])
        times = np.array([o.time_s for o, _ in self._rows])
        now = self._milliseconds(times)
        change = pose_difference(torch.from_numpy(pose), torch.from_numpy(command)).numpy() / _STEP_SIZE
        for part in (slice(0, 3), slice(3, 6)):
            change[:, part] /= np.maximum(1.0, np.linalg.norm(change[:, part], axis=1, keepdims=True))
        speed = np.gradient(joints, times, axis=0) if count > 1 else np.zeros_like(joints)
        yes, no = np.ones(count, bool), np.zeros(count, bool)
        data: dict[str, np.ndarray] = {
            "action/cartesian_position": command[:, :6],
            "action/gripper_position": command[:, 6],
            "action/cartesian_velocity": change[:, :6],
            "action/gripper_velocity": change[:, 6].clip(-1, 1),
            # The joints that the command led to; the last command led to nothing that was recorded.
            "action/joint_position": np.concatenate([joints[1:], joints[-1:]]),
            "action/joint_velocity": (np.diff(joints, axis=0, append=joints[-1:]) / 0.2).clip(-1, 1),
            "observation/robot_state/cartesian_position": pose[:, :6],
            "observation/robot_state/gripper_position": pose[:, 6],
            "observation/robot_state/joint_positions": joints,
            "observation/robot_state/joint_velocities": speed,
            "observation/controller_info/controller_on": yes,
            "observation/controller_info/movement_enabled": yes,
            "observation/controller_info/success": np.arange(count) == (count - 1 if success else count),
            "observation/controller_info/failure": no,
            "observation/timestamp/skip_action": no,
        }
        for key in ("step_start", "policy_start", "sleep_start", "control_start", "step_end"):
            data[f"observation/timestamp/control/{key}"] = now
        # Seconds since the epoch have no room for nanoseconds in a float.
        clock_ns = round(self.start_s * 1e9) + np.rint((times - times[0]) * 1e9).astype(np.int64)
        data["observation/timestamp/robot_state/read_start"] = now
        data["observation/timestamp/robot_state/read_end"] = now
        data["observation/timestamp/robot_state/robot_timestamp_seconds"] = clock_ns // 10**9
        data["observation/timestamp/robot_state/robot_timestamp_nanos"] = clock_ns % 10**9
        forces = [o.gripper_force_n for o, _ in self._rows]
        if any(force is not None for force in forces):
            data["observation/robot_state/gripper_force_n"] = np.array(forces, dtype=np.float64)
        for name, camera in self.cameras.items():
            serial, seen = self.serials[name], self._frame_ms(name)
            data[f"observation/camera_type/{serial}"] = np.full(count, 0 if camera.moving else 1, np.int64)
            for key in ("read_start", "read_end", "frame_received", "estimated_capture"):
                data[f"observation/timestamp/cameras/{serial}_{key}"] = seen
            if name in self._moving:
                data[f"observation/camera_extrinsics/{serial}_left"] = _six(np.stack(self._moving[name]))
            elif camera.base_T_cam is not None and not camera.moving:
                data[f"observation/camera_extrinsics/{serial}_left"] = np.tile(
                    _six(camera.base_T_cam), (count, 1)
                )
            if camera.K is not None:
                data[f"observation/camera_intrinsics/{serial}_left"] = np.tile(camera.K, (count, 1, 1))
        for name, poses in self._objects.items():
            data[f"observation/objects/{name}"] = np.stack(poses)
        attributes = {
            "building": self.lab, "scene_id": self._about["scene_id"], "user": self._about["user"],
            "current_task": self.task, "success": success, "failure": not success,
            "robot_serial_number": self._about["robot_serial"], "version_number": "1.3",
            "time": time.asctime(time.localtime(self.start_s)).replace(" ", "_"),
        }  # fmt: skip
        path = self._folder / "trajectory.h5"
        with h5py.File(path, "w") as file:
            for key, values in data.items():
                file.create_dataset(key, data=values)
            file.attrs.update(attributes)
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
