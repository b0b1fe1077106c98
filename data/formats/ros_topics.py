"""What a bag's topics are, what was heard on them, and how to bring it onto one clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.checks import Damaged
from data.formats.bags import Bag
from data.formats.cdr import MESSAGES, Message, parse
from data.formats.fields import Keys, LogOptions

PICTURES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
COMMANDS = ("command", "target", "desired", "equilibrium", "setpoint", "goal")


class Topics:
    """Which topic is what: by the key map, else by type and name."""

    def __init__(self, kinds: dict[str, str], options: LogOptions, file: Path) -> None:
        self.kinds = kinds
        self.keys = Keys(list(kinds), options, file)

    def of(self, *kinds: str) -> list[str]:
        return [topic for topic, kind in self.kinds.items() if kind in kinds]

    def _poses(self, commanded: bool) -> list[str]:
        found = self.of("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/Pose")
        return [t for t in found if any(word in t for word in COMMANDS) == commanded]

    def pose(self) -> str | None:
        return self.keys.get("pose", self._poses(commanded=False))

    def commanded(self) -> str | None:
        return self.keys.get("commanded", self._poses(commanded=True))

    def joints(self) -> str | None:
        return self.keys.get("joints", self.of("sensor_msgs/msg/JointState"))

    def grippers(self) -> list[str]:
        scalars = [t for t in self.of("std_msgs/msg/Float32", "std_msgs/msg/Float64") if "gripper" in t]
        mapped = [
            k for n in ("closedness", "commanded_closedness") if (k := self.keys.get(n, [])) is not None
        ]
        return list(dict.fromkeys([*mapped, *scalars]))

    def cameras(self) -> dict[str, str]:
        """Camera names, out of topics such as /camera/wrist/image_raw/compressed."""
        found: dict[str, str] = {}
        for topic in self.of(*PICTURES):
            if "depth" in topic:
                continue
            parts = [
                p for p in topic.split("/") if p and p not in ("compressed", "camera", "cameras", "color")
            ]
            name = "_".join(p for p in parts if not p.startswith("image")) or parts[-1]
            found.setdefault(name, topic)
        return self.keys.cameras(found)

    def wanted(self) -> list[str]:
        mapped = [topic for topic in self.keys.map.values() if topic in self.kinds]
        return list(dict.fromkeys([*mapped, *(t for t, kind in self.kinds.items() if kind in MESSAGES)]))


class Heard:
    """What was recorded on each topic, in the order of time."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Message]] = defaultdict(list)
        self.log_ns: dict[str, list[int]] = defaultdict(list)
        self.places: dict[str, list[tuple[int, int]]] = defaultdict(list)  # which bag, and the number in it
        self.start_ns = 0

    def lag_ns(self) -> float:
        """How much later than its stamp a message is logged, usually."""
        apart = [
            log - m.stamp_ns
            for topic, messages in self.messages.items()
            for m, log in zip(messages, self.log_ns[topic])
            if m.stamp_ns
        ]
        lag = float(np.median(apart)) if apart else 0.0
        return lag if 0 <= lag < 1e9 else 0.0

    def times(self, topic: str, lag_ns: float) -> np.ndarray:
        """Seconds since the bag began: by the stamps, or by the log less the usual delay."""
        ns = [m.stamp_ns or log - lag_ns for m, log in zip(self.messages[topic], self.log_ns[topic])]
        return (np.array(ns, np.float64) - self.start_ns) * 1e-9

    def scalars(self, topic: str) -> np.ndarray:
        return np.array([float(np.sum(m.values)) for m in self.messages[topic]])

    def joint_table(self, topic: str, *, finger: bool) -> np.ndarray | None:
        """Joints by their names, in the order of their numbers: [N, 7], or the fingers [N, 2]."""
        messages = self.messages[topic]
        if not messages:
            return None
        names = sorted(n for n in messages[0].names if ("finger" in n or "gripper" in n) == finger)
        try:
            rows = [[m.values[m.names.index(n)] for n in names] for m in messages]
        except (ValueError, IndexError):
            return None
        return np.array(rows, np.float64) if names else None


def listen(bags: Sequence[Bag], kinds: dict[str, str], file: Path) -> Heard:
    heard = Heard()
    for which, bag in enumerate(bags):
        for topic, log_ns, number, data in bag.messages(list(kinds)):
            try:
                message = parse(kinds[topic], data)
            except ValueError as error:
                raise Damaged(
                    "damaged message", file=bag.file, value=f"{topic}: {error}", remedy="Copy the bag again."
                ) from error
            if not heard.start_ns:
                heard.start_ns = log_ns
            heard.messages[topic].append(message)
            heard.log_ns[topic].append(log_ns)
            heard.places[topic].append((which, number))
    return heard


def away_from(clock: np.ndarray, times: np.ndarray) -> np.ndarray:
    """How far the nearest sample is from each time."""
    after = np.searchsorted(times, clock).clip(1, max(1, len(times) - 1))
    before = np.abs(clock - times[after - 1])
    return np.minimum(before, np.abs(clock - times[after.clip(0, len(times) - 1)]))


def slerp(clock: np.ndarray, times: np.ndarray, quaternions: np.ndarray) -> np.ndarray:
    """Orientations xyzw [N, 4] at `times`, interpolated at `clock`; outside them the nearest."""
    if len(times) == 1:
        return np.repeat(quaternions, len(clock), 0)
    after = np.searchsorted(times, clock).clip(1, len(times) - 1)
    a, b = quaternions[after - 1], quaternions[after]
    span = np.maximum(times[after] - times[after - 1], 1e-12)
    share = ((clock - times[after - 1]) / span).clip(0, 1)[:, None]
    dot = np.sum(a * b, 1, keepdims=True)
    b, dot = np.where(dot < 0, -b, b), np.abs(dot).clip(0, 1)
    angle = np.arccos(dot)
    sine = np.where(angle < 1e-6, 1.0, np.sin(angle))
    near = angle < 1e-6
    weight_a = np.where(near, 1 - share, np.sin((1 - share) * angle) / sine)
    weight_b = np.where(near, share, np.sin(share * angle) / sine)
    mixed = weight_a * a + weight_b * b
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
