"""Writes LeRobot v3.0 datasets with pyarrow and PyAV alone: many episodes to a file, published a file at a time.

A file and what it is listed in are written under other names first, then moved in the order videos, data, tasks,
list of episodes, info: killed at any moment, every listed episode is whole.  Numbers of episodes are given out under
a lock when a file is published, so several processes may write one dataset.  Not kept: calibration, objects' truth.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid as uuids
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.formats.videos import exactly
from data.locks import locked
from data.sampling import measured_poses
from data.types import Episode
from data.video import VideoWriter
from data.writers.lerobot_stats import NAMES, column_stats, picture_stats, together

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNK = 1000  # files in a chunk
BLOCK = 64  # frames read from an episode at a time
_AXES = ["x", "y", "z", "roll", "pitch", "yaw"]


class LeRobotWriter:
    """Adds episodes to a dataset at `root`, new or existing.

    with LeRobotWriter(root, fps=15) as writer:
        for episode in episodes:
            writer.add(episode)
    """

    def __init__(
        self,
        root: Path | str,
        *,
        fps: float,
        robot_type: str = "franka",
        episodes_per_file: int = 500,
        codec: str = "h264",
        gop: int = 10,
    ) -> None:
        if not fps > 0 or episodes_per_file < 1:
            raise ValueError(f"fps {fps} and episodes_per_file {episodes_per_file} must be above 0")
        self.root = Path(root)
        self.fps, self.robot_type, self.per_file = float(fps), robot_type, episodes_per_file
        self.codec, self.gop = codec, gop
        self.published = 0  # episodes of this writer that are in the dataset
        self._features: dict[str, Any] | None = None
        self._episodes: list[dict[str, Any]] = []
        self._columns: list[dict[str, Any]] = []
        self._videos: dict[str, VideoWriter] = {}
        (self.root / "meta").mkdir(parents=True, exist_ok=True)
        self._folder = self.root / f".unfinished-{os.getpid()}-{uuids.uuid4().hex[:8]}"
        info = self.root / "meta" / "info.json"
        if info.exists():
            there = json.loads(info.read_text())
            if float(there["fps"]) != self.fps:
                raise ValueError(f"{root}: the dataset has {there['fps']} frames a second, asked for {fps}")
            self._features = there["features"]

    def add(self, episode: Episode) -> None:
        """Append one episode; it is in the dataset when its file is published."""
        columns = self._columns_of(episode)
        features = self._features_of(episode, columns)
        if self._features is None:
            self._features = features
        self._same(features, episode)
        self._folder.mkdir(exist_ok=True)
        about: dict[str, Any] = {"task": episode.task or "", "length": len(episode), "stats": {}}
        for name, frames in episode.frames.items():
            key, source = f"observation.images.{name}", exactly(frames)
            if key not in self._videos:
                path = self._folder / f"{key}.mp4"
                self._videos[key] = VideoWriter(path, self.fps, gop=self.gop, codec=self.codec)
            video = self._videos[key]
            about[key] = video.frames
            looked_at = []
            for first in range(0, len(episode), BLOCK):
                block = source.read(range(first, min(first + BLOCK, len(episode))))
                looked_at.append(block[::16])
                for frame in block:
                    video.add(frame)
            about["stats"][key] = picture_stats(np.concatenate(looked_at), len(episode))
        self._columns.append(columns)
        self._episodes.append(about)
        if len(self._episodes) >= self.per_file:
            self.publish()

    def publish(self) -> None:
        """Make what was added part of the dataset."""
        if not self._episodes:
            return
        assert self._features is not None
        for video in self._videos.values():
            video.close()
        with locked(self.root / "meta"):
            listed = self._listed()
            info = self.root / "meta" / "info.json"
            if info.exists():  # another writer may have begun the dataset meanwhile
                self._same(json.loads(info.read_text())["features"], None)
            number = len(listed)
            start = max((row["dataset_to_index"] for row in listed), default=0)
            file = 1 + max((r["data/chunk_index"] * CHUNK + r["data/file_index"] for r in listed), default=-1)
            place = {"chunk_index": file // CHUNK, "file_index": file % CHUNK}
            tasks = self._tasks([about["task"] for about in self._episodes])
            rows, tables = [], []
            for about, columns in zip(self._episodes, self._columns):
                length = about["length"]
                full = columns | {
                    "timestamp": (np.arange(length) / self.fps).astype(np.float32),
                    "frame_index": np.arange(length),
                    "episode_index": np.full(length, number),
                    "index": np.arange(start, start + length),
                    "task_index": np.full(length, tasks[about["task"]]),
                }
                tables.append(_table(full))
                rows.append(self._row(about, full, number, start, place))
                number, start = number + 1, start + length
            for key, video in self._videos.items():
                self._move(video.path, VIDEO_PATH.format(video_key=key, **place))
            pq.write_table(pa.concat_tables(tables), self._folder / "data.parquet")
            self._move(self._folder / "data.parquet", DATA_PATH.format(**place))
            self._write_tasks(tasks)
            if (
                not info.exists()
            ):  # comes before the list: what is listed can be opened, whenever this is killed
                self._write_totals(rows, len(tasks))
            pq.write_table(pa.Table.from_pylist(rows), self._folder / "episodes.parquet")
            self._move(self._folder / "episodes.parquet", EPISODES_PATH.format(**place))
            self._write_totals(listed + rows, len(tasks))
        self.published += len(self._episodes)
        self._episodes, self._columns, self._videos = [], [], {}

    def abort(self) -> None:
        """Drop what was not published."""
        for video in self._videos.values():
            video.abort()
        self._episodes, self._columns, self._videos = [], [], {}
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            self.abort()

    def _columns_of(self, episode: Episode) -> dict[str, Any]:
        pose = measured_poses(episode).numpy()
        state = np.concatenate(
            [episode.joints if episode.joints is not None else pose[:, :6], pose[:, 6:]], 1
        )
        columns: dict[str, Any] = {
            "observation.state": state,
            "observation.state.cartesian_position": pose[:, :6],
            "observation.state.gripper_position": pose[:, 6],
        }
        if episode.joints is not None:
            columns["observation.state.joint_position"] = episode.joints
        if episode.commanded is not None:
            columns["action.gripper_position"] = episode.commanded[:, 6]
            if np.isfinite(episode.commanded).all():  # some logs know the gripper's command alone
                columns["action"] = episode.commanded
                columns["action.cartesian_position"] = episode.commanded[:, :6]
        columns = {name: np.asarray(values, np.float32) for name, values in columns.items()}
        # LeRobot wants timestamps of even spacing; this is when the rows really were.
        columns["observation.time_s"] = np.asarray(episode.time_s, np.float64)
        if episode.success is not None:
            columns["is_episode_successful"] = np.full(len(episode), episode.success)
        columns["uuid"] = [str(episode.meta.get("uuid") or "")] * len(episode)
        columns["tool"] = [str(episode.meta.get("tool") or "")] * len(episode)
        return columns

    def _features_of(self, episode: Episode, columns: dict[str, Any]) -> dict[str, Any]:
        pose = [*_AXES, "gripper"]
        joints = [f"joint_{i}" for i in range(7)]
        names = {
            "observation.state": [*joints, "gripper"] if episode.joints is not None else pose,
            "observation.state.cartesian_position": _AXES,
            "observation.state.joint_position": joints,
            "action": pose,
            "action.cartesian_position": _AXES,
        }
        features: dict[str, Any] = {}
        for name, values in columns.items():
            kind = "string" if isinstance(values, list) else str(values.dtype)
            shape = [1] if isinstance(values, list) or values.ndim == 1 else [values.shape[1]]
            features[name] = {"dtype": kind, "shape": shape, "names": names.get(name)}
        for camera, source in episode.frames.items():
            height, width = source.read([0]).shape[1:3]
            features[f"observation.images.{camera}"] = {
                "dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height, "video.width": width, "video.codec": self.codec,
                    "video.pix_fmt": "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p",
                    "video.is_depth_map": False, "video.fps": _plain(self.fps), "video.channels": 3,
                    "has_audio": False,
                },
            }  # fmt: skip
        for name, kind in (("timestamp", "float32"), *((n, "int64") for n in _INDICES)):
            features[name] = {"dtype": kind, "shape": [1], "names": None}
        return features

    def _same(self, features: dict[str, Any], episode: Episode | None) -> None:
        """One dataset has one set of features."""
        assert self._features is not None
        for name in sorted(set(features) | set(self._features)):
            there, here = (f.get(name) for f in (self._features, features))
            if (there and (there["dtype"], there["shape"])) != (here and (here["dtype"], here["shape"])):
                who = "this writer" if episode is None else f"episode {episode.meta.get('uuid')!r}"
                raise ValueError(
                    f"{self.root}: {name} is {here and here['shape']} in {who}, {there and there['shape']} in the "
                    "dataset: a dataset's episodes must have the same cameras, sizes and columns; write two"
                )

    def _row(
        self, about: dict[str, Any], columns: dict[str, Any], number: int, start: int, place: dict[str, int]
    ) -> dict[str, Any]:
        """The episode's row in the list of episodes."""
        row: dict[str, Any] = {
            "episode_index": number, "tasks": [about["task"]], "length": about["length"],
            "data/chunk_index": place["chunk_index"], "data/file_index": place["file_index"],
            "dataset_from_index": start, "dataset_to_index": start + about["length"],
        }  # fmt: skip
        for key in self._videos:
            row |= {f"videos/{key}/{name}": index for name, index in place.items()}
            row[f"videos/{key}/from_timestamp"] = about[key] / self.fps
            row[f"videos/{key}/to_timestamp"] = (about[key] + about["length"]) / self.fps
        stats = {n: column_stats(v) for n, v in columns.items() if not isinstance(v, list)} | about["stats"]
        row |= {f"stats/{name}/{n}": values[n] for name, values in stats.items() for n in NAMES}
        return row | {f"meta/episodes/{name}": index for name, index in place.items()}

    def _listed(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for file in sorted((self.root / "meta" / "episodes").glob("*/*.parquet")):
            rows += pq.read_table(file).to_pylist()
        return sorted(rows, key=lambda row: row["episode_index"])

    def _tasks(self, more: list[str]) -> dict[str, int]:
        """Task -> number, those of the dataset first."""
        file = self.root / "meta" / "tasks.parquet"
        known: list[str] = []
        if file.exists():
            table = pq.read_table(file).to_pydict()
            known = [t for _, t in sorted(zip(table["task_index"], table["__index_level_0__"]))]
        return {task: i for i, task in enumerate(dict.fromkeys([*known, *more]))}

    def _write_tasks(self, tasks: dict[str, int]) -> None:
        table = pa.table({"task_index": list(tasks.values()), "__index_level_0__": list(tasks)})
        column = {"field_name": "task_index", "name": "task_index", "metadata": None}
        # Readers find the task as the index of a pandas table.
        index = {"field_name": "__index_level_0__", "name": None, "metadata": None}
        about = {
            "index_columns": ["__index_level_0__"],
            "column_indexes": [],
            "columns": [
                column | {"pandas_type": "int64", "numpy_type": "int64"},
                index | {"pandas_type": "unicode", "numpy_type": "object"},
            ],
            "pandas_version": "2.2.0",
        }
        pq.write_table(
            table.replace_schema_metadata({b"pandas": json.dumps(about).encode()}),
            self._folder / "tasks.parquet",
        )
        self._move(self._folder / "tasks.parquet", "meta/tasks.parquet")

    def _write_totals(self, rows: list[dict[str, Any]], tasks: int) -> None:
        names = {key.split("/")[1] for key in rows[0] if key.startswith("stats/")}
        stats = {n: together([{s: r[f"stats/{n}/{s}"] for s in NAMES} for r in rows]) for n in sorted(names)}
        info = {
            "codebase_version": "v3.0", "robot_type": self.robot_type, "total_episodes": len(rows),
            "total_frames": sum(r["length"] for r in rows), "total_tasks": tasks, "chunks_size": CHUNK,
            "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": _plain(self.fps),
            "splits": {"train": f"0:{len(rows)}"}, "data_path": DATA_PATH, "video_path": VIDEO_PATH,
            "features": self._features,
        }  # fmt: skip
        for name, content in (("stats", stats), ("info", info)):
            file = self._folder / f"{name}.json"
            file.write_text(json.dumps(content, indent=4))
            self._move(file, f"meta/{name}.json")

    def _move(self, file: Path, place: str) -> None:
        target = self.root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(file, target)


_INDICES = ("frame_index", "episode_index", "index", "task_index")


def _plain(fps: float) -> float | int:
    return int(fps) if fps == int(fps) else fps


def _table(columns: dict[str, Any]) -> pa.Table:
    def array(values: Any) -> pa.Array:
        if isinstance(values, list) or values.ndim == 1:
            return pa.array(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])

    return pa.table({name: array(values) for name, values in columns.items()})
