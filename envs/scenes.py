"""A scene is data: table, light, cameras, objects, where the arm starts.  Drawn from a config and a seed.

Some shapes, colours and camera angles are reserved for evaluation: `split="train"` can never draw them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from .arm import Limits
from .looks import GRIPPERS
from .objects import (
    COLOURS,
    HELD_OUT_COLOURS,
    HELD_OUT_SHAPES,
    REACH_RADIUS_M,
    SHAPES,
    ObjectSpec,
    Primitive,
    SceneError,
    check_object,
    primitives_of,
    recolour,
    within,
)

__all__ = [
    "COLOURS",
    "HELD_OUT_COLOURS",
    "HELD_OUT_SHAPES",
    "SHAPES",
    "CameraSpec",
    "ObjectSpec",
    "Primitive",
    "Scene",
    "SceneConfig",
    "SceneError",
    "check_scene",
    "draw_scene",
    "primitives_of",
]

HELD_OUT_CAMERA_DEG = (1.0, 4.0)  # a ring of camera angles that training never draws from
TABLES = ("plain", "checker", "stripes", "speckle")
HELD_OUT_TABLES = ("stripes",)
TABLE_COLOUR = (0.58, 0.50, 0.42)
_CAMERA_ELEVATION_DEG = (10.0, 80.0)


@dataclass(kw_only=True, slots=True)
class CameraSpec:
    """A camera that looks at a point; `on_hand` ones are placed in the hand's frame."""

    name: str
    position: tuple[float, float, float]
    look_at: tuple[float, float, float]
    fovy_deg: float
    on_hand: bool = False


@dataclass(kw_only=True, slots=True)
class Scene:
    """Everything an engine needs to build the world."""

    seed: int
    split: str
    objects: list[ObjectSpec]
    cameras: list[CameraSpec]
    start_position: tuple[float, float, float]
    start_closedness: float
    target_xy: tuple[float, float]  # where a task wants the first object
    table_colour: tuple[float, float, float] = TABLE_COLOUR
    table: str = "plain"
    light_direction: tuple[float, float, float] = (-0.3, 0.2, -1.0)
    light_diffuse: float = 0.6
    light_ambient: float = 0.45
    gripper: str = "dark"

    def object(self, name: str) -> ObjectSpec:
        for item in self.objects:
            if item.name == name:
                return item
        raise SceneError(f"no object {name!r} in the scene; it has {[o.name for o in self.objects]}")

    def camera(self, name: str) -> CameraSpec:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise SceneError(f"no camera {name!r} in the scene; it has {[c.name for c in self.cameras]}")


CAMERAS: dict[str, CameraSpec] = {
    "exterior_left": CameraSpec(
        name="exterior_left", position=(0.20, 0.66, 0.58), look_at=(0.50, 0.0, 0.09), fovy_deg=42.0
    ),
    "exterior_right": CameraSpec(
        name="exterior_right", position=(0.20, -0.66, 0.58), look_at=(0.50, 0.0, 0.09), fovy_deg=42.0
    ),
    "wrist": CameraSpec(
        name="wrist", position=(0.085, 0.0, 0.055), look_at=(0.03, 0.0, 0.18), fovy_deg=88.0, on_hand=True
    ),
}


@dataclass(kw_only=True)
class SceneConfig:
    """Which factors vary, and how far."""

    shapes: list[str] = field(default_factory=lambda: ["cube", "cylinder"])
    """Shapes of the main object in the training split."""
    colours: list[str] = field(default_factory=lambda: ["red", "green", "blue", "yellow", "orange", "purple"])
    """Colours of the training split."""
    any_colour: float = 0.0
    """Share of things in any colour but those held out: pale or dark, vivid or dull."""
    mass_kg: tuple[float, float] = (0.05, 0.15)
    """Least and greatest mass of an object."""
    object_x_m: tuple[float, float] = (0.38, 0.62)
    """Where objects lie, along x."""
    object_y_m: tuple[float, float] = (-0.19, 0.19)
    """Where objects lie, along y."""
    distractors: tuple[int, int] = (0, 0)
    """Least and greatest number of further objects that no task moves."""
    start_x_m: tuple[float, float] = (0.38, 0.62)
    """Where the tool point starts, along x."""
    start_y_m: tuple[float, float] = (-0.20, 0.20)
    """Where the tool point starts, along y."""
    start_z_m: tuple[float, float] = (0.10, 0.30)
    """Where the tool point starts, along z."""
    least_move_m: float = 0.08
    """Least distance from the object to its target."""
    camera_jitter_deg: float = 1.0
    """Greatest turn of an exterior camera about its look-at point; 1 to 4 degrees are held out."""
    camera_turn_deg: tuple[float, float] = (0.0, 0.0)
    """Where exterior cameras stand in this lab: turned about the look-at point, around it and upwards."""
    camera_distance: float = 1.0
    """And so many times as far away from it."""
    tables: list[str] = field(default_factory=lambda: ["plain"])
    """Surfaces of the table: plain, checker, speckle; stripes are held out."""
    light_jitter: float = 0.15
    """Relative change of brightness."""
    table_jitter: float = 0.05
    """Change of each channel of the table's colour."""
    table_colour: tuple[float, float, float] = TABLE_COLOUR
    """The table's colour, each channel from 0 to 1."""
    gripper: str = "dark"
    """How the hand looks: dark, white or orange."""


def draw_scene(config: SceneConfig, seed: int, split: str = "train") -> Scene:
    """The scene of a seed: the same on every machine."""
    if split not in ("train", "held_out"):
        raise SceneError(f"no split {split!r}; there are 'train' and 'held_out'")
    if seed < 0:
        raise SceneError(f"no scene of seed {seed}; seeds are 0 or more")
    rng = np.random.default_rng([seed, 0 if split == "train" else 1])
    shapes = _allowed("shape", config.shapes, SHAPES, HELD_OUT_SHAPES, split)
    colours = _allowed("colour", config.colours, COLOURS, HELD_OUT_COLOURS, split)
    tables = _allowed("table", config.tables, TABLES, HELD_OUT_TABLES, split)
    count = 1 + int(rng.integers(config.distractors[0], config.distractors[1] + 1))
    objects: list[ObjectSpec] = []
    for index in range(count):
        objects.append(
            _draw_object(
                config, rng, "object" if index == 0 else f"distractor_{index}", shapes, colours, objects
            )
        )
    target = _draw_target(config, rng, objects)
    start = tuple(float(rng.uniform(*r)) for r in (config.start_x_m, config.start_y_m, config.start_z_m))
    base = np.array(config.table_colour) + rng.uniform(-config.table_jitter, config.table_jitter, 3)
    bright = 1.0 + rng.uniform(-config.light_jitter, config.light_jitter)
    azimuth = rng.uniform(0, 2 * np.pi)
    scene = Scene(
        seed=seed,
        split=split,
        objects=objects,
        cameras=_draw_cameras(config, rng, split),
        start_position=start,  # type: ignore[arg-type]
        start_closedness=0.0,
        target_xy=target,
        table_colour=_triple(base.clip(0, 1)),
        light_direction=(0.35 * float(np.cos(azimuth)), 0.35 * float(np.sin(azimuth)), -1.0),
        light_diffuse=0.6 * float(bright),
        light_ambient=0.45 * float(bright),
        gripper=config.gripper,
    )
    if len(config.tables) > 1 or config.tables != ["plain"]:
        # A generator of its own: scenes with plain tables stay what they were.
        scene.table = tables[np.random.default_rng([seed, 2]).integers(len(tables))]
    if config.any_colour and split == "train":  # so do scenes in the usual colours
        recolour(scene.objects, config.any_colour, scene.table_colour, np.random.default_rng([seed, 3]))
    check_scene(scene)
    return scene


def check_scene(scene: Scene) -> None:
    """Refuse what cannot be: names the object and the reason."""
    if not scene.objects:
        raise SceneError("a scene needs at least one object; the first one is what tasks are about")
    if not (
        np.less_equal(Limits().low, scene.start_position) & np.less_equal(scene.start_position, Limits().high)
    ).all():
        raise SceneError(f"the arm would start at {scene.start_position}, out of its workspace: {within()}")
    if scene.table not in TABLES:
        raise SceneError(f"no table {scene.table!r}; there are {', '.join(TABLES)}")
    if scene.gripper not in GRIPPERS:
        raise SceneError(f"no gripper {scene.gripper!r}; there are {', '.join(GRIPPERS)}")
    for index, item in enumerate(scene.objects):
        check_object(item)
        for other in scene.objects[:index]:
            if other.name == item.name:
                raise SceneError(f"two objects are called {item.name!r}; give each a name of its own")
            gap = float(np.hypot(*np.subtract(item.position[:2], other.position[:2])))
            above = abs(item.position[2] - other.position[2])
            beside = gap >= item.half_width_m + other.half_width_m
            if not beside and above < item.half_height_m + other.half_height_m - 1e-3:
                raise SceneError(
                    f"object {item.name!r} is inside {other.name!r}: their centres are {gap:.3f} m apart and "
                    f"need {item.half_width_m + other.half_width_m:.3f}"
                )
    x, y = scene.target_xy
    if not REACH_RADIUS_M[0] <= float(np.hypot(x, y)) <= REACH_RADIUS_M[1]:
        raise SceneError(f"the target ({x:.2f}, {y:.2f}) is out of reach: {within()}")


def _allowed(
    kind: str, names: list[str], known: Iterable[str], reserved: tuple[str, ...], split: str
) -> list[str]:
    """Names that a split may draw; the held-out one draws the reserved ones, or those among them that are asked for."""
    for name in names:
        if name not in known:
            raise SceneError(f"no {kind} {name!r}; there are {sorted(known)}")
        if name in reserved and split == "train":
            raise SceneError(f"{kind} {name!r} is reserved for evaluation (split held_out); take another")
    if split == "train":
        return list(names)
    return [name for name in names if name in reserved] or list(reserved)


def _draw_object(
    config: SceneConfig,
    rng: np.random.Generator,
    name: str,
    shapes: list[str],
    colours: list[str],
    others: list[ObjectSpec],
) -> ObjectSpec:
    shape = shapes[rng.integers(len(shapes))]
    (w0, h0), (w1, h1) = SHAPES[shape]
    width = float(rng.uniform(w0, w1))
    height = width if shape == "cube" else float(rng.uniform(h0, h1))
    colour = np.array(COLOURS[colours[rng.integers(len(colours))]]) + rng.uniform(-0.04, 0.04, 3)
    for _ in range(200):
        x, y = float(rng.uniform(*config.object_x_m)), float(rng.uniform(*config.object_y_m))
        if all(np.hypot(x - o.position[0], y - o.position[1]) > 0.09 for o in others):
            break
    else:
        raise SceneError(
            f"no room for {name!r} beside {len(others)} other objects, 9 cm apart, within x {config.object_x_m}, "
            f"y {config.object_y_m}; widen the ranges or take fewer distractors"
        )
    return ObjectSpec(
        name=name,
        shape=shape,
        half_width_m=width,
        half_height_m=height,
        colour=_triple(colour.clip(0, 1)),
        mass_kg=float(rng.uniform(*config.mass_kg)),
        position=(x, y, height),
        yaw_rad=float(rng.uniform(-np.pi, np.pi)),
    )


def _draw_target(
    config: SceneConfig, rng: np.random.Generator, objects: list[ObjectSpec]
) -> tuple[float, float]:
    x0, y0, _ = objects[0].position
    target = (x0, y0)
    for _ in range(500):
        target = (float(rng.uniform(*config.object_x_m)), float(rng.uniform(*config.object_y_m)))
        far = np.hypot(target[0] - x0, target[1] - y0) >= config.least_move_m
        free = all(np.hypot(target[0] - o.position[0], target[1] - o.position[1]) > 0.09 for o in objects[1:])
        if far and free:
            return target
    raise SceneError(
        f"no place for a target {config.least_move_m} m from the object within x {config.object_x_m}, "
        f"y {config.object_y_m}; widen the ranges or lower least_move_m"
    )


def _camera_turn_deg(config: SceneConfig, rng: np.random.Generator, split: str) -> float:
    low, high = HELD_OUT_CAMERA_DEG
    if split == "held_out":
        return rng.uniform(low, high)
    if config.camera_jitter_deg <= low:
        return rng.uniform(0, config.camera_jitter_deg)
    if config.camera_jitter_deg <= high:
        raise SceneError(
            f"camera_jitter_deg {config.camera_jitter_deg}: turns of {low} to {high} degrees are reserved for "
            f"evaluation; take at most {low}, or more than {high} (the ring between is then left out)"
        )
    size = rng.uniform(0, config.camera_jitter_deg - (high - low))
    return size if size <= low else size + (high - low)


def _draw_cameras(config: SceneConfig, rng: np.random.Generator, split: str) -> list[CameraSpec]:
    cameras = []
    for camera in CAMERAS.values():
        if camera.on_hand:
            cameras.append(camera)
            continue
        size = _camera_turn_deg(config, rng, split)
        angle, around = np.deg2rad(size), rng.uniform(0, 2 * np.pi)
        offset = np.array(camera.position) - np.array(camera.look_at)
        aside, upwards = np.deg2rad(config.camera_turn_deg)
        azimuth, tilt = angle * np.cos(around) + aside, angle * np.sin(around) + upwards
        radius, heading = np.hypot(offset[0], offset[1]), np.arctan2(offset[1], offset[0]) + azimuth
        elevation = np.arctan2(offset[2], radius) + tilt
        _check_camera(config, float(np.rad2deg(elevation)))
        distance = float(np.linalg.norm(offset)) * config.camera_distance
        turned = distance * np.array(
            [np.cos(elevation) * np.cos(heading), np.cos(elevation) * np.sin(heading), np.sin(elevation)]
        )
        cameras.append(
            CameraSpec(
                name=camera.name,
                position=_triple(np.array(camera.look_at) + turned),
                look_at=camera.look_at,
                fovy_deg=camera.fovy_deg,
            )
        )
    return cameras


def _check_camera(config: SceneConfig, elevation_deg: float) -> None:
    low, high = _CAMERA_ELEVATION_DEG
    if not low <= elevation_deg <= high:
        raise SceneError(
            f"camera_turn_deg {tuple(config.camera_turn_deg)} lifts an exterior camera to {elevation_deg:.0f} degrees above "
            f"the table; it must stay between {low:.0f} and {high:.0f}: change the second number"
        )
    if not 0.5 <= config.camera_distance <= 3.0:
        raise SceneError(f"camera_distance {config.camera_distance}: take 0.5 to 3 times the usual distance")


def _triple(array: np.ndarray) -> tuple[float, float, float]:
    return (float(array[0]), float(array[1]), float(array[2]))
