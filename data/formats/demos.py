"""robomimic (robosuite) and LIBERO: many demonstrations in one HDF5 file, recorded in simulation.

They look alike and differ where it hurts: LIBERO's pictures are upside down, its observations are taken after the
action of the same row, and its orientations are rotation vectors.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import Damaged
from data.formats.fields import Keys, LogOptions, choose_cameras, closedness_of, put_together, tool_of_joints
from data.formats.hdf5 import Hdf5
from data.formats.mjcf import object_poses, world_T_base
from data.formats.pictures import Hdf5Frames
from data.formats.rotations import euler_of, quaternion_of, rotation_of
from data.index import ALL, Entry, stamp_of
from data.types import Camera, Episode

OPEN_M = 0.08  # sum of the two fingers' ways, the hand fully open
CONTROL_HZ = 20.0
FILES = ("*.hdf5", "*.h5")


def hdf5_files(path: Path) -> list[Path]:
    """The file itself, or the HDF5 files in a folder and below, as far as logs are nested."""
    if path.is_file():
        return [path]
    found = [f for pattern in FILES for depth in ("", "*/", "*/*/") for f in path.glob(depth + pattern)]
    return sorted(found)


def by_number(name: str) -> tuple[Any, ...]:
    """Sorts demo_2 before demo_10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


class _DemoReader:
    """Keys are demo names, behind the name of their file where `path` is a folder."""

    name: str
    by_name = False
    central = True
    after_action = False  # whether row j was seen after action j

    def __init__(self, path: Path, options: LogOptions | None = None) -> None:
        self.path = path
        self.options = options or LogOptions()

    def _file(self, key: str) -> tuple[Path, str]:
        if self.path.is_file():
            return self.path, key
        file, _, demo = key.rpartition("/")
        return self.path / file, demo

    def list(self) -> list[str]:
        keys: list[str] = []
        for file in hdf5_files(self.path):
            prefix = "" if self.path.is_file() else f"{file.relative_to(self.path)}/"
            try:
                with Hdf5.open(file) as h5:
                    keys += [prefix + demo for demo in sorted(h5.children("data"), key=by_number)]
            except Damaged:
                keys.append(prefix + ALL)  # all that the file held; `open` says what is wrong with it
        return keys

    def stamp(self, key: str) -> int:
        return stamp_of(*([self._file(key)[0]] if key else hdf5_files(self.path)))

    def entry(self, key: str) -> Entry:
        file, demo = self._file(key)
        try:
            with Hdf5.open(file) as h5:
                data = h5.below("data")
                actions = data.below(demo).dataset("actions")
                rows = 0 if actions is None else len(actions)
                args = _json(data.attribute("env_args"))
                return Entry(
                    key=key, uuid=key, rows=rows, seconds=rows / _control_hz(args), task=_task(data, args)
                )
        except Damaged as damage:
            return Entry(key=key, uuid=key, findings=[damage.finding])

    def open(self, key: str) -> Episode:
        file, name = self._file(key)
        options = self.options
        with Hdf5.open(file) as h5:
            data = h5.below("data")
            demo = data.below(name)
            args = _json(data.attribute("env_args"))
            if not demo.children("obs"):
                raise Damaged(
                    "no observations",
                    file=file,
                    value=f"{name} holds {', '.join(demo.children('/')) or 'nothing'}",
                    remedy="States must be rendered first: robomimic's dataset_states_to_obs does it.",
                )
            obs = demo.below("obs")
            keys = Keys(obs, options, file)
            position, rotation, joints = self._pose(obs, keys)
            fingers = obs.numbers(keys.need("closedness", ["robot0_gripper_qpos", "gripper_states"]), 2)
            opening = fingers[:, 0] - fingers[:, 1]
            actions = demo.array("actions")
            rewards = demo.array("rewards")
            states = demo.array("states")
            model = demo.attribute("model_file")
            objects = (
                {} if states is None or states.ndim != 2 else object_poses(model, states.astype(np.float64))
            )
            pictures = {
                camera: Hdf5Frames.of(file, obs.dataset(key_), flip=self._flip(data), bgr=options.bgr)
                for camera, key_ in choose_cameras(self._cameras(obs, keys), options, file).items()
            }
            about_cameras = _json(demo.attribute("camera_info"))
            task = _task(data, args)
        base = world_T_base(model) if options.frame == "base" else None
        cameras = {
            camera: _camera(camera, frames, about_cameras, base) for camera, frames in pictures.items()
        }
        if base is not None:
            base_T_world = np.linalg.inv(base)
            position = position @ base_T_world[:3, :3].T + base_T_world[:3, 3]
            rotation = base_T_world[:3, :3] @ rotation
            objects = {name: _moved(poses, base_T_world) for name, poses in objects.items()}
        hz = options.rate_hz or _control_hz(args)
        return put_together(
            options,
            file=file,
            frames=dict(pictures),
            time_s=np.arange(len(position)) / hz,
            position=position,
            rotation=rotation,
            closedness=closedness_of(opening, options, opened=OPEN_M, closed=0.0),
            joints=joints,
            commanded=self._commanded(actions, position, rotation, args),
            cameras=cameras,
            objects=objects,
            task=task,
            success=None if rewards is None else bool((rewards > 0).any()),
            meta={
                "uuid": key,
                "robot": str((args.get("env_kwargs") or {}).get("robots", "Panda")),
                "frame": "base" if base is not None else "world",
                "frame_asked": options.frame,
                "tool": "tcp",
                "format": self.name,
                "nominal_hz": hz,
                "env": args.get("env_name"),
            },
        )

    def _flip(self, data: Hdf5) -> str:
        return self.options.flip or "none"

    def _pose(self, obs: Hdf5, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        raise NotImplementedError

    def _cameras(self, obs: Hdf5, keys: Keys) -> dict[str, str]:
        ends = ("_image", "_rgb")
        found = {n.removesuffix(e): n for n in obs.children("/") for e in ends if n.endswith(e)}
        return keys.cameras(found)

    def _commanded(
        self, actions: np.ndarray | None, position: np.ndarray, rotation: np.ndarray, args: dict[str, Any]
    ) -> np.ndarray | None:
        """Commanded poses: the changes that the operational-space controller was asked for, added to the pose."""
        if actions is None or actions.ndim != 2 or actions.shape[1] != 7 or len(actions) != len(position):
            return None
        actions = np.asarray(actions, np.float64)
        if self.after_action:  # what was asked for from row j on is the action of the next row
            actions = np.concatenate([actions[1:], actions[-1:] * [0, 0, 0, 0, 0, 0, 1]])
        largest = _largest_step(args)
        turn = rotation_of(vector=actions[:, 3:6] * largest[3:])
        closedness = closedness_of(actions[:, 6], LogOptions(gripper_reverse=self.options.gripper_reverse),
                                   opened=-1.0, closed=1.0, kind="commanded")  # fmt: skip
        target = position + actions[:, :3] * largest[:3]
        return np.concatenate([target, euler_of(turn @ rotation), closedness[:, None]], 1)


class RobomimicReader(_DemoReader):
    """robomimic files made from robosuite demonstrations, with pictures."""

    name = "robomimic"

    @staticmethod
    def recognises(path: Path) -> bool:
        return _first_observations(path, lambda names: any(n.startswith("robot0_") for n in names))

    def _pose(self, obs: Hdf5, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        joints_key = keys.get("joints", ["robot0_joint_pos"])
        joints = None if joints_key is None else obs.numbers(joints_key, 7)
        position = keys.get("position", ["robot0_eef_pos"])
        # `robot0_eef_quat` is the hand's body, `..._site` the grip site: turned, and absent from older files.
        quaternion = keys.get("quaternion", ["robot0_eef_quat", "robot0_eef_quat_site"])
        if joints is not None and (position is None or quaternion is None):
            base_T_tool = tool_of_joints(joints, self.options, obs.file)
            return base_T_tool[:, :3, 3], base_T_tool[:, :3, :3], joints
        xyzw = obs.numbers(quaternion or keys.need("quaternion", ["robot0_eef_quat"]), 4)
        rotation = rotation_of(quaternion=xyzw)
        xyz = obs.numbers(position or keys.need("position", ["robot0_eef_pos"]), 3)
        return xyz * self.options.position_scale, rotation, joints


class LiberoReader(_DemoReader):
    """LIBERO's files."""

    name = "libero"
    after_action = True

    @staticmethod
    def recognises(path: Path) -> bool:
        return _first_observations(path, lambda names: bool({"ee_pos", "ee_states"} & names))

    def _flip(self, data: Hdf5) -> str:
        # OpenGL's convention, which is what LIBERO's files have, puts the first row at the bottom.
        convention = data.attribute("macros_image_convention") or "opengl"
        return self.options.flip or ("vertical" if convention == "opengl" else "none")

    def _pose(self, obs: Hdf5, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        joints_key = keys.get("joints", ["joint_states"])
        joints = None if joints_key is None else obs.numbers(joints_key, 7)
        pose = obs.numbers(keys.need("pose", ["ee_states"]), 6)
        turn = rotation_of(vector=pose[:, 3:6] * self.options.angle_scale)
        return pose[:, :3] * self.options.position_scale, turn, joints


def _first_observations(path: Path, like: Any) -> bool:
    """Whether the first demonstration that can be read has observations of this kind."""
    for file in hdf5_files(path)[:5]:
        try:
            with Hdf5.open(file) as h5:
                for demo in h5.children("data")[:3]:
                    names = set(h5.children(f"data/{demo}/obs"))
                    if names:
                        return bool(like(names))
        except Damaged:
            continue
    return False


@lru_cache(maxsize=64)
def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _json(text: Any) -> dict[str, Any]:
    """A JSON object out of an attribute; what is absent or broken is empty."""
    return _parsed(text) if isinstance(text, str) else {}


def _control_hz(args: dict[str, Any]) -> float:
    value = (args.get("env_kwargs") or {}).get("control_freq")
    return float(value) if isinstance(value, int | float) and value > 0 else CONTROL_HZ


def _task(data: Hdf5, args: dict[str, Any]) -> str | None:
    instruction = _json(data.attribute("problem_info")).get("language_instruction")
    task = instruction or args.get("env_name") or data.attribute("env_name")
    return None if task is None else str(task)


def _largest_step(args: dict[str, Any]) -> np.ndarray:
    """What an action of 1 stands for: metres three times, radians three times."""
    config = (args.get("env_kwargs") or {}).get("controller_configs") or {}
    config = (config.get("body_parts") or {}).get("right") or config if isinstance(config, dict) else {}
    largest = config.get("output_max")
    if isinstance(largest, list) and len(largest) == 6:
        return np.asarray(largest, np.float64)
    return np.array([0.05] * 3 + [0.5] * 3)


def _camera(name: str, frames: Hdf5Frames, about: dict[str, Any], base: np.ndarray | None) -> Camera:
    height, width = frames.size
    camera = Camera(name=name, width=width, height=height, moving="hand" in name or "wrist" in name)
    known = about.get(name) or {}
    try:
        if "intrinsics" in known:
            camera.K = np.asarray(known["intrinsics"], np.float64).reshape(3, 3)
        if "extrinsics" in known and not camera.moving:
            world_T_cam = np.asarray(known["extrinsics"], np.float64).reshape(4, 4)
            camera.base_T_cam = world_T_cam if base is None else np.linalg.inv(base) @ world_T_cam
    except (ValueError, TypeError):
        camera.K = camera.base_T_cam = None
    return camera


def _moved(poses: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Poses xyz and xyzw [T, 7] seen from another frame."""
    rotation = transform[:3, :3] @ rotation_of(quaternion=poses[:, 3:])
    xyz = poses[:, :3] @ transform[:3, :3].T + transform[:3, 3]
    return np.concatenate([xyz, quaternion_of(rotation)], 1)
