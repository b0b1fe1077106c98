"""The ROS 2 messages that a log of an arm is made of, out of their CDR bytes.

Only these few are needed and their definitions have not changed since ROS 2 began, so no generated code is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.formats.pictures import decode


class Cdr:
    """Reads values one after the other; every value is aligned to its own size."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 4 or data[1] not in (0, 1):
            raise ValueError("not a CDR message")
        self.order = "<" if data[1] == 1 else ">"
        self.data = memoryview(data)[4:]
        self.at = 0

    def take(self, code: str, count: int = 1) -> np.ndarray:
        kind = np.dtype(self.order + code)
        self.at += -self.at % kind.itemsize
        end = self.at + kind.itemsize * count
        if count < 0 or end > len(self.data):
            raise ValueError(f"the message ends at byte {len(self.data)}, {end} are claimed")
        values = np.frombuffer(self.data[self.at : end], kind)
        self.at = end
        return values

    def one(self, code: str) -> Any:
        return self.take(code)[0].item()

    def sequence(self, code: str) -> np.ndarray:
        return self.take(code, self.one("u4"))

    def text(self) -> str:
        return bytes(self.sequence("u1")).split(b"\0")[0].decode("utf-8", "replace")

    def header(self) -> tuple[int, str]:
        """Stamp in nanoseconds, and the frame's name."""
        seconds, nanos = self.one("i4"), self.one("u4")
        return seconds * 1_000_000_000 + nanos, self.text()


@dataclass(slots=True)
class Message:
    stamp_ns: int | None  # None where the type has no header
    values: Any
    names: list[str] = field(default_factory=list)


def _pose_stamped(cdr: Cdr) -> Message:
    stamp, _ = cdr.header()
    return Message(stamp, cdr.take("f8", 7))  # x y z, then xyzw


def _pose(cdr: Cdr) -> Message:
    return Message(None, cdr.take("f8", 7))


def _joint_state(cdr: Cdr) -> Message:
    stamp, _ = cdr.header()
    names = [cdr.text() for _ in range(cdr.one("u4"))]
    return Message(stamp, cdr.sequence("f8"), names)


def _camera_info(cdr: Cdr) -> Message:
    stamp, frame = cdr.header()
    height, width = cdr.one("u4"), cdr.one("u4")
    cdr.text()
    cdr.sequence("f8")
    return Message(stamp, (height, width, cdr.take("f8", 9).reshape(3, 3)), [frame])


def _transforms(cdr: Cdr) -> Message:
    found = {}
    for _ in range(cdr.one("u4")):
        _, parent = cdr.header()
        child = cdr.text()
        found[child] = (parent, cdr.take("f8", 7))
    return Message(None, found)


def _picture_header(cdr: Cdr) -> Message:
    """The stamp alone: pictures are decoded when they are asked for."""
    stamp, frame = cdr.header()
    return Message(stamp, None, [frame])


MESSAGES: dict[str, Callable[[Cdr], Message]] = {
    "geometry_msgs/msg/PoseStamped": _pose_stamped,
    "geometry_msgs/msg/Pose": _pose,
    "sensor_msgs/msg/JointState": _joint_state,
    "sensor_msgs/msg/CameraInfo": _camera_info,
    "tf2_msgs/msg/TFMessage": _transforms,
    "sensor_msgs/msg/Image": _picture_header,
    "sensor_msgs/msg/CompressedImage": _picture_header,
    "std_msgs/msg/Float32": lambda cdr: Message(None, cdr.take("f4")),
    "std_msgs/msg/Float64": lambda cdr: Message(None, cdr.take("f8")),
    "std_msgs/msg/String": lambda cdr: Message(None, cdr.text()),
}


def parse(kind: str, data: bytes) -> Message:
    """A message of one of the types in `MESSAGES`; ValueError if its bytes make no sense."""
    try:
        return MESSAGES[kind](Cdr(data))
    except (struct.error, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(str(error)) from error


def picture(kind: str, data: bytes) -> np.ndarray:
    """An Image or CompressedImage -> uint8 RGB [H, W, 3]."""
    cdr = Cdr(data)
    cdr.header()
    if kind.endswith("CompressedImage"):
        cdr.text()  # the format says how it was encoded, the bytes say what they are
        return decode(bytes(cdr.sequence("u1")))
    height, width = cdr.one("u4"), cdr.one("u4")
    encoding = cdr.text()
    cdr.one("u1")
    step = cdr.one("u4")
    rows = cdr.sequence("u1")
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}.get(encoding)
    if channels is None:
        raise ValueError(f"encoding {encoding!r} is no colour picture")
    if step < width * channels or len(rows) < step * height:
        raise ValueError(f"{height}x{width} {encoding} claimed, {len(rows)} bytes in rows of {step}")
    pixels = rows[: step * height].reshape(height, step)[:, : width * channels]
    pixels = pixels.reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, -1)
    pixels = pixels[..., :3]
    return np.ascontiguousarray(pixels[..., ::-1] if encoding.startswith("bgr") else pixels)
