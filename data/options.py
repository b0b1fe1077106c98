"""How a log is read where that is left open: the options, light enough for `forearm --help`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Reversed(StrEnum):
    none = "none"
    measured = "measured"
    commanded = "commanded"
    both = "both"


class Frame(StrEnum):
    base = "base"
    world = "world"


class Side(StrEnum):
    left = "left"
    right = "right"


class Chain(StrEnum):
    """The arms of `data.kinematics`."""

    panda = "panda"
    viperx_300s = "viperx_300s"


class Tool(StrEnum):
    tcp = "tcp"
    hand = "hand"
    flange = "flange"


class Flip(StrEnum):
    none = "none"
    vertical = "vertical"
    rotate = "rotate"


class Pauses(StrEnum):
    keep = "keep"
    drop = "drop"


@dataclass(kw_only=True)
class LogOptions:
    """How to read a log where its format leaves a choice, or its lab made one."""

    key_map: dict[str, Any] = field(default_factory=dict)
    """Our name to the log's: pose, position, quaternion, closedness, joints, commanded, commanded_closedness, time, success,
    camera.NAME."""
    cameras: list[str] | None = None
    """Which cameras to read, by our names; null reads all."""
    position_scale: float = 1.0
    """What positions are multiplied by to become metres (0.001 for millimetres)."""
    angle_scale: float = 1.0
    """What angles are multiplied by to become radians (0.0174532925 for degrees)."""
    gripper_open: float | None = None
    """The log's number for an open gripper; null takes what the format says."""
    gripper_closed: float | None = None
    """The log's number for a closed gripper; null takes what the format says."""
    gripper_reverse: Reversed = Reversed.none
    """Turn the gripper's numbers round: none, measured, commanded or both."""
    frame: Frame = Frame.base
    """Frame of the poses: base (world is converted where the log says how) or world (left as it is)."""
    arm: Side = Side.right
    """Which arm of a log with two: left or right."""
    kinematics: Chain | None = None
    """Arm whose forward kinematics turns joints into poses: panda, viperx_300s; null takes a Panda for 7 joints."""
    tool: Tool = Tool.tcp
    """The point whose pose forward kinematics gives: tcp, hand or flange."""
    flip: Flip | None = None
    """How pictures are turned upright: none, vertical, rotate; null takes what the format says."""
    bgr: bool = False
    """Encoded pictures have red and blue exchanged (their recorder gave RGB to a library that expects BGR)."""
    pauses: Pauses = Pauses.keep
    """Rows in which the operator had let go: keep, or drop (cut out, which leaves time gaps)."""
    incomplete: bool = False
    """Read episodes that their recorder did not finish (no metadata)."""
    rate_hz: float | None = None
    """Rate of the rows where the log has no clock; null takes what the format says."""

    def __post_init__(self) -> None:
        """Callers may give text for a choice, and the command line cameras' names below `camera`."""
        self.key_map = _flat(self.key_map)
        for name, choice in CHOICES.items():
            value = getattr(self, name)
            if value is None and name in ("kinematics", "flip"):
                continue
            if value not in list(choice):
                allowed = ", ".join(choice)
                raise ValueError(f"{name}={value!r} is not known; choose one of {allowed}")
            setattr(self, name, choice(value))

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def digest(self) -> str:
        """A short name for these options; empty for the usual ones."""
        if self == LogOptions():
            return ""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:8]

    @classmethod
    def from_json(cls, text: str) -> LogOptions:
        return cls(**json.loads(text))


def _flat(names: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """{"camera": {"hand": "a"}} -> {"camera.hand": "a"}."""
    found: dict[str, str] = {}
    for name, value in names.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


CHOICES: dict[str, type[StrEnum]] = {
    "gripper_reverse": Reversed,
    "frame": Frame,
    "arm": Side,
    "kinematics": Chain,
    "tool": Tool,
    "flip": Flip,
    "pauses": Pauses,
}
