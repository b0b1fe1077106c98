"""LeRobot datasets, v3.0 (many episodes to a file) and v2.1 (a file each), read with pyarrow alone.

Paths come from the templates in info.json, not from the version: there are v3.0 datasets with v2 templates.  Frames
are addressed by number, never by their float times.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.checks import Damaged
from data.formats.fields import Keys, LogOptions, choose_cameras, put_together
from data.formats.lerobot_columns import Columns
from data.formats.pictures import EncodedFrames
from data.formats.videos import open_video
from data.index import Entry, stamp_of
from data.types import Camera, Episode, Frames

_EPISODE_COLUMNS = ("episode_index", "tasks", "length", "data/chunk_index", "data/file_index")


class LeRobotReader:
    """Keys are `episode_000012`."""

    name = "lerobot"
    by_name = True
    central = True

    def __init__(self, path: Path, options: LogOptions | None = None) -> None:
        self.path = path
        self.options = options or LogOptions()
        self._stamp: int | None = None

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / "meta" / "info.json").is_file()

    @cached_property
    def info(self) -> dict[str, Any]:
        file = self.path / "meta" / "info.json"
        try:
            info = json.loads(file.read_text())
            if not (isinstance(info["features"], dict) and info["fps"] > 0 and "{" in info["data_path"]):
                raise ValueError("features, fps or data_path make no sense")
            return info
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(
                "broken metadata",
                file=file,
                value=f"{type(error).__name__}: {error}",
                remedy="Copy meta/info.json again from the original.",
            ) from error

    @cached_property
    def _table(self) -> dict[int, dict[str, Any]]:
        """Every episode's row of the central list, by number."""
        rows: list[dict[str, Any]] = []
        lines = self.path / "meta" / "episodes.jsonl"
        try:
            if lines.exists():
                rows = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()]
            for file in sorted((self.path / "meta" / "episodes").rglob("*.parquet")):
                there = pq.read_schema(file).names
                wanted = [n for n in there if n in _EPISODE_COLUMNS or n.startswith("videos/")]
                rows += pq.read_table(file, columns=wanted).to_pylist()
            if not rows:
                raise FileNotFoundError("neither meta/episodes.jsonl nor meta/episodes/*.parquet")
            return {int(row["episode_index"]): row for row in sorted(rows, key=lambda r: r["episode_index"])}
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise Damaged(
                "broken metadata",
                file=self.path / "meta",
                value=f"{type(error).__name__}: {error}",
                remedy="Copy the folder meta again from the original.",
            ) from error

    def list(self) -> list[str]:
        return [f"episode_{number:06d}" for number in self._table]

    def stamp(self, key: str) -> int:
        if key == "":  # asked first: look at the files anew
            self.__dict__.pop("info", None)
            self.__dict__.pop("_table", None)
            self._stamp = stamp_of(*_below(self.path / "meta"))
            self._shared = None if self._one_file_each else stamp_of(*_below(self.path / "data"))
            return self._stamp
        if self._one_file_each:
            number = _number(key)
            return stamp_of(self._file("data_path", number), *(self._video(c, number) for c in self._videos))
        return self._shared or 0

    @property
    def _one_file_each(self) -> bool:
        try:
            return "episode_index" in self.info["data_path"]
        except Damaged:  # which `list` tells of
            return False

    @property
    def _videos(self) -> list[str]:
        return [n for n, about in self.info["features"].items() if about.get("dtype") == "video"]

    def entry(self, key: str) -> Entry:
        row = self._table[_number(key)]
        length = int(row.get("length") or 0)
        tasks = row.get("tasks") or [None]
        return Entry(
            key=key,
            uuid=key,
            rows=length,
            seconds=length / float(self.info["fps"]),
            task=tasks[0] if isinstance(tasks, list) else str(tasks),
        )

    def open(self, key: str) -> Episode:
        number = _number(key)
        row, options, fps = self._table[number], self.options, float(self.info["fps"])
        file = self._file("data_path", number)
        table = _read(file, number, tuple(self._columns(file)))
        length = int(row.get("length") or 0)
        if table.num_rows != length:
            raise Damaged(
                "rows disagree",
                file=file,
                value=f"{table.num_rows} rows, the list says {length}",
                remedy="Copy the file and meta/ again from the same original.",
            )
        columns = Columns(table, self.info["features"], options, file)
        found = Keys(table.column_names, options, file).cameras(self._camera_keys())
        frames: dict[str, Frames] = {}
        cameras: dict[str, Camera] = {}
        for name, feature in choose_cameras(found, options, file).items():
            frames[name] = source = self._frames(feature, name, number, length, file)
            shape = self.info["features"][feature].get("shape") or [0, 0, 3]
            height, width = (shape[1], shape[2]) if shape[0] in (1, 3) else (shape[0], shape[1])
            if not isinstance(source, ParquetFrames):
                height, width = source.size  # type: ignore[attr-defined]
            cameras[name] = Camera(name=name, width=int(width), height=int(height), moving="wrist" in name)
        arm = columns.arm()
        time_s = columns.time_s(fps)
        if (
            "observation.time_s" in table.column_names
        ):  # our writer keeps the clock beside the even timestamps
            time_s = columns.numbers("observation.time_s")
        tasks = row.get("tasks") or [None]
        return put_together(
            options,
            file=file,
            frames=frames,
            time_s=time_s,
            position=arm.position,
            rotation=arm.rotation,
            euler=arm.euler,
            closedness=arm.closedness,
            joints=arm.joints,
            commanded=arm.commanded,
            cameras=cameras,
            task=str(tasks[0]) if tasks[0] is not None else None,
            success=columns.success(),
            meta={
                "uuid": columns.text("uuid") or key,
                "robot": self.info.get("robot_type"),
                "frame": "base",
                "tool": columns.text("tool") or arm.tool,
                "format": f"{self.name} {self.info.get('codebase_version')}",
                "nominal_hz": fps,
            },
        )

    def _columns(self, file: Path) -> list[str]:
        """The columns to read: pictures wait until they are asked for."""
        try:
            names = pq.read_schema(file).names
        except FileNotFoundError as error:
            raise Damaged(
                "no data file",
                file=file,
                remedy="The download is partial: fetch the file that the list names.",
            ) from error
        except (OSError, pa.ArrowException) as error:
            raise Damaged(
                "truncated parquet", file=file, value=error, remedy="Copy the file again from the original."
            ) from error
        pictures = {n for n, about in self.info["features"].items() if about.get("dtype") == "image"}
        return [name for name in names if name not in pictures and not name.startswith("language")]

    def _camera_keys(self) -> dict[str, str]:
        found = {}
        for feature, about in self.info["features"].items():
            details = about.get("info") or {}
            depth = details.get("video.is_depth_map") or details.get("is_depth_map")
            if about.get("dtype") in ("image", "video") and not depth:
                found[feature.removeprefix("observation.").removeprefix("images.")] = feature
        return found

    def _frames(self, feature: str, camera: str, number: int, length: int, file: Path) -> Frames:
        flip = self.options.flip or "none"
        if self.info["features"][feature]["dtype"] == "image":
            return ParquetFrames(file=file, column=feature, episode=number, length=length, flip=flip)
        row = self._table[number]
        start = float(row.get(f"videos/{feature}/from_timestamp") or 0.0)
        first = round(start * float(self.info["fps"]))
        return open_video(self._video(feature, number), camera=camera, first_frame=first, length=length)

    def _file(self, template: str, number: int, **more: Any) -> Path:
        row = self._table[number] if not self._one_file_each else {}
        values = {
            "episode_index": number,
            "episode_chunk": number // int(self.info.get("chunks_size") or 1000),
            "chunk_index": int(row.get("data/chunk_index") or 0),
            "file_index": int(row.get("data/file_index") or 0),
        }
        return self.path / str(self.info[template]).format(**(values | more))

    def _video(self, feature: str, number: int) -> Path:
        more: dict[str, Any] = {"video_key": feature}
        if not self._one_file_each:
            row = self._table[number]
            for name in ("chunk_index", "file_index"):
                more[name] = int(row.get(f"videos/{feature}/{name}") or 0)
        return self._file("video_path", number, **more)


@dataclass(slots=True, kw_only=True)
class ParquetFrames:
    """Pictures in a parquet column, read when first asked for."""

    file: Path
    column: str
    episode: int
    length: int
    flip: str = "none"
    _pictures: EncodedFrames | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.length

    def read(self, indices: Sequence[int]) -> np.ndarray:
        if self._pictures is None:
            table = _read(self.file, self.episode, (self.column, "frame_index"))
            contents = [picture["bytes"] for picture in table.column(self.column).to_pylist()]
            self._pictures = EncodedFrames(contents, self.flip)
        return self._pictures.read(indices)


def _number(key: str) -> int:
    return int(key.rsplit("_", 1)[1])


def _below(folder: Path) -> list[str]:
    return sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)


@lru_cache(maxsize=2)
def _whole(file: Path, columns: tuple[str, ...], changed: int) -> pa.Table:
    return pq.read_table(file, columns=list(columns))


def _read(file: Path, episode: int, columns: tuple[str, ...]) -> pa.Table:
    """Some columns of one episode, in the order of its frames."""
    try:
        wanted = [*dict.fromkeys([*columns, "episode_index", "frame_index"])]
        if file.stat().st_size < 64 << 20 and not any("image" in c for c in columns):
            # Reading the next episode of the same file is the usual case.
            table = _whole(file, tuple(wanted), file.stat().st_mtime_ns)
            table = table.filter(pc.field("episode_index") == episode)
        else:
            table = pq.read_table(file, columns=wanted, filters=[("episode_index", "=", episode)])
        return table.sort_by("frame_index")
    except (OSError, KeyError, pa.ArrowException) as error:
        raise Damaged(
            "damaged parquet",
            file=file,
            value=f"{type(error).__name__}: {error}",
            remedy="Copy the file again from the original.",
        ) from error
