"""What lies on the table: shapes, colours, the convex pieces that both engines build, and what is refused.

Some shapes and colours are reserved for evaluation (`HELD_OUT_*`).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from .arm import ArmError, Limits

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.13, 0.12),
    "green": (0.13, 0.60, 0.22),
    "blue": (0.12, 0.28, 0.80),
    "yellow": (0.90, 0.76, 0.10),
    "orange": (0.93, 0.45, 0.08),
    "purple": (0.48, 0.18, 0.62),
    "cyan": (0.10, 0.68, 0.74),
    "pink": (0.92, 0.42, 0.62),
}
HELD_OUT_COLOURS = ("cyan", "pink")
HELD_OUT_HUES = 25 / 360  # on either side of theirs
LEAST_CONTRAST = 0.2  # of a thing to the table, as a distance of colours
# shape -> (least, greatest) of its size numbers in metres: half width, half height
SHAPES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "cube": ((0.018, 0.018), (0.024, 0.024)),
    "cylinder": ((0.018, 0.020), (0.024, 0.030)),
    "hexagon": ((0.019, 0.018), (0.024, 0.026)),
    "cup": ((0.026, 0.028), (0.030, 0.036)),
    "bowl": ((0.030, 0.018), (0.034, 0.022)),
}
HELD_OUT_SHAPES = ("hexagon", "cup", "bowl")
REACH_RADIUS_M = (0.28, 0.80)  # from the base, for objects on the table


class SceneError(ArmError):
    """A scene that cannot be: the message says which object and why."""


@dataclass(kw_only=True, slots=True)
class ObjectSpec:
    """One thing on the table."""

    name: str
    shape: str
    half_width_m: float
    half_height_m: float
    colour: tuple[float, float, float]
    mass_kg: float
    position: tuple[float, float, float]  # of its centre
    yaw_rad: float = 0.0


@dataclass(kw_only=True, slots=True)
class Primitive:
    """A convex piece of an object, in the object's frame; both engines build these."""

    kind: str  # box | cylinder
    size: tuple[float, float, float]  # half extents; for a cylinder: radius, radius, half height
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_rad: float = 0.0


def primitives_of(item: ObjectSpec) -> list[Primitive]:
    """The convex pieces of an object."""
    w, h = item.half_width_m, item.half_height_m
    if item.shape == "cube":
        return [Primitive(kind="box", size=(w, w, h))]
    if item.shape == "cylinder":
        return [Primitive(kind="cylinder", size=(w, w, h))]
    if item.shape == "hexagon":  # three boxes, each giving two of the six faces
        side = w / np.sqrt(3)
        return [
            Primitive(kind="box", size=(w, float(side), h), yaw_rad=float(k * np.pi / 3)) for k in range(3)
        ]
    if item.shape in ("cup", "bowl"):  # a floor and a ring of staves
        wall, floor, staves = 0.003, 0.003, 10
        pieces = [Primitive(kind="cylinder", size=(w - wall, w - wall, floor), position=(0, 0, floor - h))]
        for k in range(staves):
            angle = 2 * np.pi * k / staves
            radius = w - wall
            pieces.append(
                Primitive(
                    kind="box",
                    size=(wall, float(radius * np.tan(np.pi / staves) + wall), h),
                    position=(float(radius * np.cos(angle)), float(radius * np.sin(angle)), 0.0),
                    yaw_rad=float(angle),
                )
            )
        return pieces
    raise SceneError(f"object {item.name!r}: no shape {item.shape!r}; there are {sorted(SHAPES)}")


def recolour(
    items: list[ObjectSpec], share: float, table: tuple[float, float, float], rng: np.random.Generator
) -> None:
    """Give this share of things any colour: pale or dark, vivid or dull, of no hue that is held out, not the table's."""
    if not 0 <= share <= 1:
        raise SceneError(f"a share of {share:g} of the things cannot be in any colour; it goes from 0 to 1")
    reserved = [colorsys.rgb_to_hsv(*COLOURS[name])[0] for name in HELD_OUT_COLOURS]
    for item in items:
        if rng.random() >= share:
            continue
        while True:
            hue, saturation, value = rng.uniform((0, 0.15, 0.25), 1)
            colour = colorsys.hsv_to_rgb(hue, saturation, value)
            apart = min(abs((hue - other + 0.5) % 1 - 0.5) for other in reserved)
            if apart > HELD_OUT_HUES and np.linalg.norm(np.subtract(colour, table)) > LEAST_CONTRAST:
                break
        item.colour = (float(colour[0]), float(colour[1]), float(colour[2]))


def check_object(item: ObjectSpec) -> None:
    if not item.name or item.name.startswith("panda_") or item.name in ("world", "table", "tool", "grip"):
        raise SceneError(
            f"an object cannot be called {item.name!r}: that is a part of the robot or its table"
        )
    if item.shape not in SHAPES:
        raise SceneError(f"object {item.name!r}: no shape {item.shape!r}; there are {sorted(SHAPES)}")
    numbers = (
        *item.position,
        item.yaw_rad,
        item.half_width_m,
        item.half_height_m,
        item.mass_kg,
        *item.colour,
    )
    if not np.isfinite(numbers).all() or min(item.half_width_m, item.half_height_m, item.mass_kg) <= 0:
        raise SceneError(
            f"object {item.name!r}: sizes and mass must be above zero and all numbers finite: {item}"
        )
    if not all(0 <= channel <= 1 for channel in item.colour):
        raise SceneError(f"object {item.name!r}: colours go from 0 to 1, got {item.colour}")
    x, y, z = item.position
    reach, limits = float(np.hypot(x, y)), Limits()
    inside = limits.low[0] <= x <= limits.high[0] and limits.low[1] <= y <= limits.high[1]
    if not (REACH_RADIUS_M[0] <= reach <= REACH_RADIUS_M[1] and inside):
        raise SceneError(
            f"object {item.name!r} at ({x:.2f}, {y:.2f}) is out of reach, {reach:.2f} m from the base: {within()}"
        )
    if z < item.half_height_m - 1e-3:
        raise SceneError(
            f"object {item.name!r} at z = {z:.3f} m is in the table or below it; its centre must be at "
            f"{item.half_height_m:.3f} m or above"
        )


def within() -> str:
    """Where an object may lie, in words."""
    limits = Limits()
    return (
        f"the arm reaches {REACH_RADIUS_M[0]} to {REACH_RADIUS_M[1]} m, x {limits.low[0]} to {limits.high[0]}, "
        f"y {limits.low[1]} to {limits.high[1]}"
    )
