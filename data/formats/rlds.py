"""RLDS (TensorFlow datasets) as DROID and Open X-Embodiment publish them, read without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import Damaged
from data.formats.fields import Keys, LogOptions, choose_cameras, closedness_of, put_together, tool_of_joints
from data.formats.pictures import EncodedFrames
from data.formats.rotations import rotation_of
from data.formats.tfrecord import Value, offsets, parse_example, read_record
from data.index import Entry, stamp_of
from data.types import Camera, Episode, Frames

HZ = 15.0
_OBSERVATION, _ACTION = "steps/observation/", "steps/action_dict/"


class RldsReader:
    """Keys are `<file>:<number of the record>`."""

    name = "rlds"
    by_name = True
    central = True

    def __init__(self, path: Path, options: LogOptions | None = None) -> None:
        self.path = path
        self.options = options or LogOptions()

    @staticmethod
    def recognises(path: Path) -> bool:
        return bool(_files(path))

    def list(self) -> list[str]:
        return [
            f"{_name(self.path, file)}:{i}" for file in _files(self.path) for i in range(len(offsets(file)))
        ]

    def stamp(self, key: str) -> int:
        return stamp_of(*(_files(self.path) if key == "" else [self._place(key)[0]]))

    def _place(self, key: str) -> tuple[Path, int]:
        name, _, number = key.rpartition(":")
        return (self.path if self.path.is_file() else self.path / name), int(number)

    def entry(self, key: str) -> Entry:
        return Entry(key=key, uuid=key)  # rows are known when it is checked: records are read whole

    def _example(self, key: str) -> tuple[dict[str, Value], Path]:
        file, number = self._place(key)
        return _parsed(file, number, stamp_of(file)), file

    def open(self, key: str) -> Episode:
        options = self.options
        example, file = self._example(key)
        rows = next((len(example[k]) for k in ("steps/is_first", "steps/is_last") if k in example), 0)
        if not rows:
            raise Damaged(
                "no steps", file=file, value=f"keys found: {', '.join(sorted(example))[:400]}",
                remedy="The file is no RLDS data set of episodes.",
            )  # fmt: skip
        steps = _Steps(example, rows, options, file)
        joints_key = steps.keys.get(
            "joints", [_OBSERVATION + n for n in ("joint_position", "joint_positions")]
        )
        joints = None if joints_key is None else steps.numbers(joints_key, 7) * options.angle_scale
        position, rotation, euler = steps.pose(joints)
        gripper = steps.keys.need("closedness", [_OBSERVATION + "gripper_position"])
        found = steps.keys.cameras(
            {k.removeprefix(_OBSERVATION): k for k, v in example.items() if _is_pictures(k, v, rows)}
        )
        frames: dict[str, Frames] = {}
        cameras: dict[str, Camera] = {}
        for name, feature in choose_cameras(found, options, file).items():
            frames[name] = source = RecordFrames(reader=self, key=key, feature=feature, length=rows)
            size = _picture_size(example[feature])
            cameras[name] = Camera(name=name, width=size[0], height=size[1], moving="wrist" in name)
            source.flip = options.flip or "none"
        hz = options.rate_hz or HZ
        origin = steps.text("episode_metadata/file_path")
        task = next(
            (t for n in ("", "_2", "_3") if (t := steps.text(f"steps/language_instruction{n}"))), None
        )
        return put_together(
            options,
            file=file,
            frames=frames,
            time_s=np.arange(rows) / hz,
            position=position,
            rotation=rotation,
            euler=euler,
            closedness=closedness_of(steps.numbers(gripper, 1)[:, 0], options),
            joints=joints,
            commanded=steps.commanded(),
            cameras=cameras,
            task=task,
            success=_success(origin),
            meta={
                "uuid": origin or key,
                "robot": "franka",
                "frame": "base",
                "tool": options.tool if euler is None else "flange",
                "format": self.name,
                "nominal_hz": hz,
            },
        )


class _Steps:
    """The lists of an episode as tables of one row a step."""

    def __init__(self, example: dict[str, Value], rows: int, options: LogOptions, file: Path) -> None:
        self.example, self.rows, self.options, self.file = example, rows, options, file
        self.keys = Keys(list(example), options, file)

    def numbers(self, key: str, width: int) -> np.ndarray:
        values = self.example[key]
        if isinstance(values, list) or len(values) != self.rows * width:
            raise Damaged(
                "wrong shape",
                file=self.file,
                value=f"{key} has {len(values)} values for {self.rows} steps of {width}",
                remedy="Name the right feature in key_map.",
            )
        return values.astype(np.float64).reshape(self.rows, width)

    def pose(self, joints: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        options = self.options
        usual = [_OBSERVATION + n for n in ("cartesian_position", "ee_pose", "eef_pose")]
        key = self.keys.get("pose", usual)
        if key is None and joints is not None:
            base_T_tool = tool_of_joints(joints, options, self.file)
            return base_T_tool[:, :3, 3], base_T_tool[:, :3, :3], None
        key = key or self.keys.need("pose", usual)
        if len(self.example[key]) == 7 * self.rows:
            pose = self.numbers(key, 7)
            rotation = rotation_of(quaternion=pose[:, 3:])
            return pose[:, :3] * options.position_scale, rotation, None
        pose = self.numbers(key, 6)
        euler = pose[:, 3:] * options.angle_scale
        return pose[:, :3] * options.position_scale, rotation_of(euler=euler), euler

    def commanded(self) -> np.ndarray | None:
        pose_key = self.keys.get("commanded", [_ACTION + "cartesian_position"])
        gripper_key = self.keys.get("commanded_closedness", [_ACTION + "gripper_position"])
        if pose_key is None or gripper_key is None:
            return None
        scale = np.repeat([self.options.position_scale, self.options.angle_scale], 3)
        closedness = closedness_of(self.numbers(gripper_key, 1), self.options, kind="commanded")
        return np.concatenate([self.numbers(pose_key, 6) * scale, closedness], 1)

    def text(self, key: str) -> str | None:
        values = self.example.get(key)
        if not isinstance(values, list) or not values:
            return None
        return values[0].decode("utf-8", "replace") or None


@dataclass(slots=True, kw_only=True)
class RecordFrames:
    """The JPEGs of one camera in a record, fetched when first asked for."""

    reader: RldsReader
    key: str
    feature: str
    length: int
    flip: str = "none"
    _pictures: EncodedFrames | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.length

    def read(self, indices: Sequence[int]) -> np.ndarray:
        if self._pictures is None:
            contents = self.reader._example(self.key)[0][self.feature]
            assert isinstance(contents, list)
            self._pictures = EncodedFrames(contents, self.flip)
        return self._pictures.read(indices)


@lru_cache(maxsize=64)
def _offsets(file: Path, stamp: int) -> list[int]:
    return offsets(file)


@lru_cache(maxsize=2)
def _parsed(file: Path, number: int, stamp: int) -> dict[str, Value]:
    """A record's lists; kept for its cameras, which are read one after the other."""
    starts = _offsets(file, stamp)
    if number >= len(starts):
        raise Damaged("no record", file=file, value=number, remedy="The file was changed: open it again.")
    content = read_record(file, starts[number])
    try:
        return parse_example(content)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise Damaged(
            "damaged tfrecord", file=file, value=f"record {number}: {error}", remedy="Copy the file again."
        ) from error


def _files(path: Path) -> list[Path]:
    """The record files of a data set, of one version of it, or of a folder of data sets."""
    if path.is_file():
        return [path] if ".tfrecord" in path.name else []
    found: set[Path] = set()
    for depth in ("", "*/", "*/*/"):
        found.update(f for f in path.glob(f"{depth}*.tfrecord*") if (f.parent / "features.json").exists())
    return sorted(found)


def _name(path: Path, file: Path) -> str:
    return file.name if path.is_file() else str(file.relative_to(path))


def _is_pictures(name: str, value: Any, rows: int) -> bool:
    """One encoded picture a step: JPEG or PNG."""
    if not isinstance(value, list) or len(value) != rows or not name.startswith(_OBSERVATION):
        return False
    return value[0][:2] == b"\xff\xd8" or value[0][:4] == b"\x89PNG"


def _picture_size(contents: Value) -> tuple[int, int]:
    """Width and height."""
    import io

    from PIL import Image

    assert isinstance(contents, list)
    with Image.open(io.BytesIO(contents[0])) as picture:
        return picture.size


def _success(origin: str | None) -> bool | None:
    parts = Path(origin or "").parts
    return True if "success" in parts else False if "failure" in parts else None
