"""How the gripper looks to the cameras: what a model that was trained on one arm sees on another."""

from __future__ import annotations

from typing import NamedTuple

RGB = tuple[float, float, float]


class GripperLook(NamedTuple):
    """Colours of the hand, the fingers and their pads."""

    hand: RGB
    finger: RGB
    pad: RGB


GRIPPERS: dict[str, GripperLook] = {
    "dark": GripperLook((0.30, 0.31, 0.33), (0.18, 0.19, 0.21), (0.12, 0.12, 0.13)),
    "white": GripperLook((0.90, 0.90, 0.91), (0.78, 0.79, 0.80), (0.35, 0.35, 0.36)),
    "orange": GripperLook((0.30, 0.31, 0.33), (0.90, 0.42, 0.10), (0.16, 0.16, 0.17)),
}
