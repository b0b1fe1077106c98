"""How a log is read where that is left open: the options, light enough for `forearm --help`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field


@dataclass(kw_only=True)
class LogOptions:
    """How to read a log where its format leaves a choice, or its lab made one."""

    key_map: dict[str, str] = field(default_factory=dict)
    """Our name to the log's: pose, position, quaternion, closedness, joints, commanded, time, task, success, camera.NAME."""
    cameras: list[str] | None = None
    """Which cameras to read, by our names; None reads all."""
    position_scale: float = 1.0
    """What positions are multiplied by to become metres (0.001 for millimetres)."""
    angle_scale: float = 1.0
    """What angles are multiplied by to become radians (0.0174532925 for degrees)."""
    gripper_open: float | None = None
    """The log's number for an open gripper; None takes what the format says."""
    gripper_closed: float | None = None
    """The log's number for a closed gripper; None takes what the format says."""
    gripper_reverse: str = "none"
    """Turn the gripper's numbers round: none, measured, commanded or both."""
    frame: str = "base"
    """Frame of the poses: base (world is converted where the log says how) or world (left as it is)."""
    arm: str = "right"
    """Which arm of a log with two: left or right."""
    kinematics: str | None = None
    """Arm whose forward kinematics turns joints into poses: panda, viperx_300s; None takes a Panda for 7 joints."""
    tool: str = "tcp"
    """The point whose pose forward kinematics gives: tcp, hand or flange."""
    flip: str | None = None
    """How pictures are turned upright: none, vertical, rotate; None takes what the format says."""
    bgr: bool = False
    """Encoded pictures have red and blue exchanged (their recorder gave RGB to a library that expects BGR)."""
    pauses: str = "keep"
    """Rows in which the operator had let go: keep, or drop (cut out, which leaves time gaps)."""
    incomplete: bool = False
    """Read episodes that their recorder did not finish (no metadata)."""
    rate_hz: float | None = None
    """Rate of the rows where the log has no clock; None takes what the format says."""

    def __post_init__(self) -> None:
        from data.kinematics import CHAINS  # heavy; these options are read by `forearm --help`

        choices = {
            "gripper_reverse": ("none", "measured", "commanded", "both"),
            "frame": ("base", "world"),
            "arm": ("left", "right"),
            "kinematics": (None, *CHAINS),
            "flip": (None, "none", "vertical", "rotate"),
            "pauses": ("keep", "drop"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; choose one of {allowed}")

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
