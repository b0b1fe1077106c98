"""Our plain folder, for logs of no known format: a folder per episode with episode.npz and frames (docs/logs.md)."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import Damaged
from data.formats.demos import by_number
from data.formats.fields import Keys, LogOptions, choose_cameras, closedness_of, put_together, tool_of_joints
from data.formats.folders import Folders
from data.formats.pictures import PictureFiles, upright
from data.formats.rotations import rotation_of
from data.formats.videos import open_video
from data.index import Entry, stamp_of
from data.types import ArrayFrames, Camera, Episode, Frames

NUMBERS = "episode.npz"
ABOUT = "about.json"
_VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
_PICTURES = (".png", ".jpg", ".jpeg")


class PlainReader:
    """Keys are the episode folders below the path."""

    name = "folder"
    by_name = True
    central = False

    def __init__(self, path: Path, options: LogOptions | None = None) -> None:
        self.path = path
        self.options = options or LogOptions()
        self.folders = Folders(path, lambda names: NUMBERS in names)

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and Folders(path, lambda names: NUMBERS in names).first() is not None

    def list(self) -> list[str]:
        return self.folders.find()

    def stamp(self, key: str) -> int:
        folder = self.path / key
        return stamp_of(folder, folder / NUMBERS, folder / ABOUT, folder / "frames")

    def entry(self, key: str) -> Entry:
        about = _about(self.path / key)
        time_s = _load(self.path / key / NUMBERS, ("time_s",)).get("time_s", np.empty(0))
        return Entry(
            key=key,
            uuid=str(about.get("uuid") or key),
            rows=len(time_s),
            seconds=float(time_s[-1] - time_s[0]) if len(time_s) else 0.0,
            task=about.get("task"),
            success=about.get("success"),
        )

    def open(self, key: str) -> Episode:
        folder, options = self.path / key, self.options
        file = folder / NUMBERS
        about = _about(folder)
        values = _load(file)
        keys = Keys(list(values), options, file)

        def numbers(name: str, usual: list[str], width: int) -> np.ndarray | None:
            found = keys.get(name, usual)
            if found is None:
                return None
            table = np.asarray(values[found], np.float64).reshape(len(values[found]), -1)
            if table.shape[1] != width:
                raise Damaged(
                    "wrong shape", file=file, value=f"{found} is {list(values[found].shape)}",
                    remedy=f"It must be [T, {width}], see docs/logs.md.",
                )  # fmt: skip
            return table

        joints = numbers("joints", ["joints"], values["joints"].shape[-1] if "joints" in values else 7)
        position = numbers("position", ["position"], 3)
        euler = numbers("euler", ["euler"], 3)
        quaternion = numbers("quaternion", ["quaternion"], 4)
        tool = str(about.get("tool") or options.tool)
        if position is None and joints is not None:
            base_T_tool = tool_of_joints(joints * options.angle_scale, options, file)
            position, rotation = base_T_tool[:, :3, 3], base_T_tool[:, :3, :3]
        else:
            if position is None:
                keys.need("position", ["position"])
                raise AssertionError("unreachable: need() raises")
            position = position * options.position_scale
            if quaternion is not None:
                rotation = rotation_of(quaternion=quaternion)
            else:
                keys.need("quaternion", ["quaternion", "euler"])
                assert euler is not None
                euler = euler * options.angle_scale
                rotation = rotation_of(euler=euler)
        closedness = values[keys.need("closedness", ["closedness"])]
        commanded = numbers("commanded", ["commanded"], 7)
        time_key = keys.get("time", ["time_s"])
        hz = options.rate_hz or about.get("hz")
        if time_key is None and hz is None:
            keys.need("time", ["time_s"])
        time_s = values[time_key] if time_key is not None else np.arange(len(position)) / float(hz or 1.0)
        frames, cameras = self._frames(folder, values, keys)
        return put_together(
            options,
            file=file,
            frames=frames,
            time_s=np.asarray(time_s, np.float64).reshape(-1),
            position=position,
            rotation=rotation,
            euler=euler if quaternion is None else None,
            closedness=closedness_of(np.asarray(closedness).reshape(len(closedness)), options),
            joints=joints,
            commanded=commanded,
            cameras=cameras,
            objects={n.removeprefix("objects/"): v for n, v in values.items() if n.startswith("objects/")},
            task=about.get("task"),
            success=about.get("success"),
            meta={
                "uuid": str(about.get("uuid") or key),
                "robot": about.get("robot"),
                "frame": about.get("frame", "base"),
                "tool": tool,
                "format": self.name,
                "nominal_hz": hz,
            },
        )

    def _frames(
        self, folder: Path, values: dict[str, np.ndarray], keys: Keys
    ) -> tuple[dict[str, Frames], dict[str, Camera]]:
        options = self.options
        found: dict[str, Any] = {
            n.removeprefix("frames/"): values[n] for n in values if n.startswith("frames/")
        }
        place = folder / "frames"
        for item in sorted(place.iterdir()) if place.is_dir() else []:
            if item.is_dir() or item.suffix.lower() in _VIDEOS:
                found.setdefault(item.stem, item)
        names = keys.cameras({name: name for name in found})
        frames: dict[str, Frames] = {}
        cameras: dict[str, Camera] = {}
        for name, source_name in choose_cameras(names, options, folder).items():
            source = found[source_name]
            if isinstance(source, np.ndarray):
                frames[name], size = self._array(source, source_name, folder)
            elif source.is_dir():
                files = sorted(
                    (f for f in source.iterdir() if f.suffix.lower() in _PICTURES),
                    key=lambda f: by_number(f.name),
                )
                frames[name] = pictures = PictureFiles(files, options.flip or "none")
                size = pictures.read([0]).shape[1:3] if files else (0, 0)
            else:
                frames[name] = video = open_video(source, camera=name)
                size = video.size
            camera = Camera(name=name, width=size[1], height=size[0], moving="wrist" in name)
            camera.K = values.get(f"K/{source_name}")
            camera.base_T_cam = values.get(f"base_T_cam/{source_name}")
            cameras[name] = camera
        return frames, cameras

    def _array(self, source: np.ndarray, name: str, folder: Path) -> tuple[Frames, tuple[int, int]]:
        if source.dtype != np.uint8 or source.ndim != 4 or source.shape[3] != 3:
            raise Damaged(
                "wrong shape", file=folder / NUMBERS, value=f"frames/{name} is {source.dtype} {list(source.shape)}",
                remedy="Frames are uint8 [T, H, W, 3].",
            )  # fmt: skip
        return ArrayFrames(upright(source, self.options.flip or "none")), (source.shape[1], source.shape[2])


def _load(file: Path, only: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if only is None or name in only}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise Damaged(
            "truncated npz",
            file=file,
            value=f"{type(error).__name__}: {error}",
            remedy="Write the file again.",
        ) from error


def _about(folder: Path) -> dict[str, Any]:
    file = folder / ABOUT
    if not file.exists():
        return {}
    try:
        about = json.loads(file.read_text())
    except ValueError as error:
        about = error
    if not isinstance(about, dict):
        raise Damaged(
            "broken metadata",
            file=file,
            value=str(about)[:200],
            remedy="It must be a JSON object, or absent.",
        )
    return about
