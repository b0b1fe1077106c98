"""ALOHA / ACT: one HDF5 file per episode, joints and pictures, no clock and no end-effector pose.

Also what Franka laboratories made of the layout: `puppet/end_effector`, `puppet/joint_position`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.checks import Damaged
from data.formats.demos import by_number, hdf5_files
from data.formats.fields import Keys, LogOptions, choose_cameras, closedness_of, put_together, tool_of_joints
from data.formats.hdf5 import Hdf5
from data.formats.pictures import Hdf5Frames
from data.formats.rotations import euler_of, rotation_of
from data.index import Entry, stamp_of
from data.types import Camera, Episode, Frames

HZ = 50.0
JOINTS = ("observations/qpos", "puppet/joint_position", "observations/joint_position")
POSES = ("puppet/end_effector", "observations/end_effector", "observations/ee_pose")
PICTURES = ("observations/images", "observations/rgb_images", "observations/image")


class AlohaReader:
    """Keys are the files' paths below the folder."""

    name = "aloha"
    by_name = False
    central = False

    def __init__(self, path: Path, options: LogOptions | None = None) -> None:
        self.path = path
        self.options = options or LogOptions()

    @staticmethod
    def recognises(path: Path) -> bool:
        for file in hdf5_files(path)[:5]:
            try:
                with Hdf5.open(file) as h5:
                    return any(name in h5 for name in (*JOINTS, *POSES, *PICTURES))
            except Damaged:
                continue
        return False

    def _file(self, key: str) -> Path:
        return self.path if self.path.is_file() else self.path / key

    def list(self) -> list[str]:
        if self.path.is_file():
            return [self.path.name]
        return sorted((str(f.relative_to(self.path)) for f in hdf5_files(self.path)), key=by_number)

    def stamp(self, key: str) -> int:
        return stamp_of(self._file(key))

    def entry(self, key: str) -> Entry:
        with Hdf5.open(self._file(key)) as h5:
            action = next((d for d in map(h5.dataset, ("action", *JOINTS, *POSES)) if d is not None), None)
            rows = 0 if action is None else len(action)
        return Entry(key=key, uuid=key, rows=rows, seconds=rows / (self.options.rate_hz or HZ))

    def open(self, key: str) -> Episode:
        file, options = self._file(key), self.options
        with Hdf5.open(file) as h5:
            keys = Keys(h5, options, file)
            joints_key = keys.get("joints", JOINTS)
            joints = gripper = None
            if joints_key is not None:
                joints, gripper = _one_arm(_table(h5, joints_key), options)
            pose_key = keys.get("pose", POSES)
            closedness_key = keys.get(
                "closedness", ["puppet/gripper_position", "observations/gripper_position"]
            )
            if closedness_key is not None:
                gripper = h5.numbers(closedness_key)
            euler = None
            if pose_key is not None:
                pose = _table(h5, pose_key)
                pose = (
                    pose[:, : pose.shape[1] // 2] if pose.shape[1] >= 12 and options.arm == "left" else pose
                )
                pose = (
                    pose[:, pose.shape[1] // 2 :] if pose.shape[1] >= 12 and options.arm == "right" else pose
                )
                if pose.shape[1] < 6:
                    raise Damaged(
                        "wrong shape",
                        file=file,
                        value=f"{pose_key} has {pose.shape[1]} numbers a row",
                        remedy="A pose is xyz and Euler angles: name it in key_map.pose.",
                    )
                position, euler = pose[:, :3] * options.position_scale, pose[:, 3:6] * options.angle_scale
                rotation = rotation_of(euler=euler)
            elif joints is not None:
                base_T_tool = tool_of_joints(joints, options, file)
                position, rotation = base_T_tool[:, :3, 3], base_T_tool[:, :3, :3]
            else:
                keys.need("pose", [*POSES, *JOINTS])
                raise AssertionError("unreachable: need() raises")
            if gripper is None:
                keys.need("closedness", [])
                raise AssertionError("unreachable: need() raises")
            commanded = self._commanded(h5, len(position), file) if pose_key is None else None
            group = next((g for g in PICTURES if h5.children(g)), PICTURES[0])
            found = keys.cameras({name: f"{group}/{name}" for name in h5.children(group)})
            frames: dict[str, Frames] = {}
            cameras: dict[str, Camera] = {}
            for name, path in choose_cameras(found, options, file).items():
                pictures = Hdf5Frames.of(file, h5.dataset(path), flip=options.flip or "none", bgr=options.bgr)
                height, width = pictures.size
                frames[name] = pictures
                cameras[name] = Camera(name=name, width=width, height=height, moving="wrist" in name)
            task = h5.attribute("language_instruction") or h5.attribute("task")
        hz = options.rate_hz or HZ
        return put_together(
            options,
            file=file,
            frames=frames,
            time_s=np.arange(len(position)) / hz,
            position=position,
            rotation=rotation,
            euler=euler,
            closedness=closedness_of(gripper, options, opened=1.0, closed=0.0),
            joints=joints,
            commanded=commanded,
            cameras=cameras,
            task=None if task is None else str(task),
            meta={
                "uuid": key,
                "robot": options.kinematics or "aloha",
                "arm": options.arm,
                "frame": "base",
                "tool": options.tool,
                "format": self.name,
                "nominal_hz": hz,
            },
        )

    def _commanded(self, h5: Hdf5, rows: int, file: Path) -> np.ndarray | None:
        """Where the commanded joints would have brought the tool."""
        if h5.dataset("action") is None:
            return None
        joints, gripper = _one_arm(_table(h5, "action"), self.options)
        if len(joints) != rows or gripper is None:
            return None
        base_T_tool = tool_of_joints(joints, self.options, file)
        closedness = closedness_of(gripper, self.options, opened=1.0, closed=0.0, kind="commanded")
        # Commanded grippers overshoot on purpose, to squeeze.
        columns = [base_T_tool[:, :3, 3], euler_of(base_T_tool[:, :3, :3]), closedness.clip(0, 1)[:, None]]
        return np.concatenate(columns, 1)


def _table(h5: Hdf5, name: str) -> np.ndarray:
    values = h5.array(name)
    if values is None or values.ndim != 2:
        raise Damaged(
            "wrong shape",
            file=h5.file,
            value=f"{name} is {None if values is None else list(values.shape)}",
            remedy="It must be [T, numbers]: name the right column in key_map.",
        )
    return values.astype(np.float64)


def _one_arm(values: np.ndarray, options: LogOptions) -> tuple[np.ndarray, np.ndarray | None]:
    """Joints [T, n] and gripper [T] of the arm asked for, out of 14 (two arms), 8, 7 or 6 numbers."""
    if values.shape[1] in (14, 16):
        half = values.shape[1] // 2
        values = values[:, :half] if options.arm == "left" else values[:, half:]
    if values.shape[1] == 8 or (values.shape[1] == 7 and options.kinematics != "panda"):
        return values[:, :-1] * options.angle_scale, values[:, -1]
    return values * options.angle_scale, None
