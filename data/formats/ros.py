"""ROS 2 bags (.mcap and .db3): topics of different rates, brought onto the clock of a camera.

The clock is `header.stamp`: the log time holds the transport's delay.  Positions are interpolated linearly,
orientations by slerp, commands by the sample before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import Damaged
from data.formats.bags import Bag, find_bags, open_bag
from data.formats.cdr import picture
from data.formats.fields import LogOptions, choose_cameras, closedness_of, put_together, tool_of_joints
from data.formats.pictures import upright
from data.formats.ros_topics import COMMANDS, Heard, Topics, away_from, listen, slerp
from data.formats.rotations import euler_of, quaternion_of, rotation_of
from data.index import Entry, stamp_of
from data.types import Camera, Episode, Frames

OPEN_M = 0.08  # width of the Franka Hand, fully open
MAX_AWAY_S = 0.05  # a camera frame further than this from every sample of the robot is not used


class RosReader:
    """Keys are the bags' paths below the folder."""

    name = "ros2"
    by_name = True
    central = False

    def __init__(self, path: Path, options: LogOptions | None = None) -> None:
        self.path = path
        self.options = options or LogOptions()

    @staticmethod
    def recognises(path: Path) -> bool:
        return bool(find_bags(path))

    def list(self) -> list[str]:
        return list(find_bags(self.path))

    def _files(self, key: str) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        place = self.path / key
        return [place] if place.is_file() else sorted([*place.glob("*.mcap"), *place.glob("*.db3")])

    def stamp(self, key: str) -> int:
        return stamp_of(*self._files(key))

    def entry(self, key: str) -> Entry:
        return Entry(key=key, uuid=key)  # bags have no table of contents worth trusting: known when checked

    def topics(self, key: str) -> dict[str, str]:
        """Topic -> type, to fill a key map with."""
        return {topic: kind for file in self._files(key) for topic, kind in open_bag(file).topics().items()}

    def open(self, key: str) -> Episode:
        options = self.options
        bags = [open_bag(file) for file in self._files(key)]
        if not bags:
            raise Damaged("no file", file=self.path / key, remedy="Copy the bag again from the original.")
        kinds: dict[str, str] = {}
        for bag in bags:
            kinds |= bag.topics()
        file = bags[0].file
        topics = Topics(kinds, options, file)
        heard = listen(bags, {topic: kinds[topic] for topic in topics.wanted()}, file)
        lag_ns = heard.lag_ns()
        chosen = choose_cameras(topics.cameras(), options, file)
        if not chosen:
            raise Damaged(
                "no camera", file=file, value=f"topics found: {', '.join(kinds)}",
                remedy="Name the topics with pictures in key_map.camera.NAME.",
            )  # fmt: skip
        clock = heard.times(next(iter(chosen.values())), lag_ns)
        position, quaternion, away, joints = self._robot(topics, heard, clock, lag_ns, file)
        near = np.flatnonzero(away <= MAX_AWAY_S)
        if not len(near) or (away[near[0] : near[-1] + 1] > MAX_AWAY_S).any():
            row = int(np.flatnonzero(away > MAX_AWAY_S)[0])
            raise Damaged(
                "robot not heard", file=file, row=row, value=f"{away[row] * 1e3:.0f} ms to its nearest sample",
                remedy=f"Camera and robot must be recorded together, within {MAX_AWAY_S * 1e3:.0f} ms.",
            )  # fmt: skip
        rows = slice(int(near[0]), int(near[-1]) + 1)
        rotation = rotation_of(quaternion=quaternion)
        closedness, command = self._gripper(topics, heard, clock, lag_ns, file)
        frames: dict[str, Frames] = {}
        cameras: dict[str, Camera] = {}
        for name, topic in chosen.items():
            times = heard.times(topic, lag_ns)
            nearest = np.abs(times[None] - clock[rows, None]).argmin(1)
            kind = kinds[topic]
            places = [heard.places[topic][i] for i in nearest.tolist()]
            frames[name] = source = BagFrames(bags, topic, kind, places, options.flip or "none")
            cameras[name] = _camera(name, topic, topics, heard, source)
        task = next((m.values for t in topics.of("std_msgs/msg/String") for m in heard.messages[t]), None)
        step = np.diff(clock[rows])
        return put_together(
            options,
            file=file,
            frames=frames,
            time_s=clock[rows],
            position=position[rows],
            rotation=rotation[rows],
            closedness=closedness[rows],
            joints=None if joints is None else joints[rows],
            commanded=self._commanded(topics, heard, clock, lag_ns, command)[rows]
            if command is not None
            else None,
            cameras=cameras,
            task=task,
            meta={
                "uuid": key,
                "robot": "franka",
                "frame": "base",
                "tool": options.tool,
                "format": self.name,
                "nominal_hz": float(1 / np.median(step)) if len(step) else None,
                "findings": [bag.finding for bag in bags if bag.finding is not None],
            },
        )

    def _robot(
        self, topics: Topics, heard: Heard, clock: np.ndarray, lag_ns: float, file: Path
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Position, xyzw, distance in time to the nearest sample, and joints, at the times of `clock`."""
        joints = away = None
        joints_topic = topics.joints()
        if joints_topic is not None:
            times = heard.times(joints_topic, lag_ns)
            table = heard.joint_table(joints_topic, finger=False)
            if table is not None and len(times):
                joints = np.stack([np.interp(clock, times, column) for column in table.T], 1)
                joints, away = joints * self.options.angle_scale, away_from(clock, times)
        pose_topic = topics.pose()
        if pose_topic is None or not heard.messages[pose_topic]:
            if joints is None or away is None:
                topics.keys.need("pose", [])
                raise AssertionError("unreachable: need() raises")
            base_T_tool = tool_of_joints(joints, self.options, file)
            return base_T_tool[:, :3, 3], quaternion_of(base_T_tool[:, :3, :3]), away, joints
        times = heard.times(pose_topic, lag_ns)
        poses = np.stack([m.values for m in heard.messages[pose_topic]])
        position = np.stack([np.interp(clock, times, column) for column in poses[:, :3].T], 1)
        position = position * self.options.position_scale
        return position, slerp(clock, times, poses[:, 3:]), away_from(clock, times), joints

    def _gripper(
        self, topics: Topics, heard: Heard, clock: np.ndarray, lag_ns: float, file: Path
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Closedness measured and commanded, at the times of `clock`."""
        measured = command = None
        for topic in topics.grippers():
            times, widths = heard.times(topic, lag_ns), heard.scalars(topic)
            if not len(times):
                continue
            values = widths[(np.searchsorted(times, clock, side="right") - 1).clip(0)]
            is_command = (
                any(word in topic for word in COMMANDS) and topics.keys.map.get("closedness") != topic
            )
            if is_command and command is None:
                command = closedness_of(values, self.options, opened=OPEN_M, closed=0.0, kind="commanded")
            elif measured is None:
                measured = values
        joints_topic = topics.joints()
        if measured is None and joints_topic is not None:
            fingers = heard.joint_table(joints_topic, finger=True)
            if fingers is not None:
                times = heard.times(joints_topic, lag_ns)
                measured = fingers.sum(1)[(np.searchsorted(times, clock, side="right") - 1).clip(0)]
        if measured is None:
            topics.keys.need("closedness", [])
            raise AssertionError("unreachable: need() raises")
        return closedness_of(measured, self.options, opened=OPEN_M, closed=0.0), command

    def _commanded(
        self, topics: Topics, heard: Heard, clock: np.ndarray, lag_ns: float, closedness: np.ndarray
    ) -> np.ndarray:
        """Commanded poses [T, 7]; where only the gripper's commands were recorded the pose is not a number."""
        commanded = np.full((len(clock), 7), np.nan)
        commanded[:, 6] = closedness
        topic = topics.commanded()
        if topic is not None and heard.messages[topic]:
            times = heard.times(topic, lag_ns)
            poses = np.stack([m.values for m in heard.messages[topic]])
            poses = poses[(np.searchsorted(times, clock, side="right") - 1).clip(0)]
            commanded[:, :3] = poses[:, :3] * self.options.position_scale
            commanded[:, 3:6] = euler_of(rotation_of(quaternion=poses[:, 3:]))
        return commanded


@dataclass(slots=True)
class BagFrames:
    """Pictures of one topic, fetched from the bag when asked for."""

    bags: Sequence[Bag]
    topic: str
    kind: str
    places: Sequence[tuple[int, int]]
    flip: str = "none"

    def __len__(self) -> int:
        return len(self.places)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        wanted = [self.places[int(i)] for i in indices]
        found: dict[tuple[int, int], np.ndarray] = {}
        for which in {w for w, _ in wanted}:
            numbers = {number for w, number in wanted if w == which}
            for number, data in self.bags[which].fetch(self.topic, numbers).items():
                found[which, number] = picture(self.kind, data)
        return upright(np.stack([found[place] for place in wanted]), self.flip)


def _camera(name: str, topic: str, topics: Topics, heard: Heard, frames: BagFrames) -> Camera:
    """Size, and what /camera_info beside the pictures and /tf_static say."""
    height, width = frames.read([0]).shape[1:3]
    camera = Camera(name=name, width=width, height=height, moving="wrist" in name or "hand" in name)
    info_topics = topics.of("sensor_msgs/msg/CameraInfo")
    stem = topic.split("/image")[0]
    info = next((m for t in info_topics if t.startswith(stem) for m in heard.messages[t]), None)
    if info is not None:
        camera.K = info.values[2].copy()
    transforms: dict[str, Any] = {}
    for tf_topic in topics.of("tf2_msgs/msg/TFMessage"):
        for message in heard.messages[tf_topic]:
            transforms |= message.values
    optical = heard.messages[topic][0].names[0]
    pose = np.eye(4)
    for _ in range(20):  # up the chain to the base; a loop in it would never end
        if optical not in transforms:
            break
        optical, values = transforms[optical]
        step = np.eye(4)
        step[:3, :3] = rotation_of(quaternion=values[3:])
        step[:3, 3] = values[:3]
        pose = step @ pose
    if not camera.moving and optical.removeprefix("panda_").removeprefix("fr3_") in (
        "link0",
        "base",
        "base_link",
    ):
        camera.base_T_cam = pose
    return camera
