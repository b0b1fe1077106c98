"""Scenes as YAML files: the whole of a `Scene`, to be written by hand, kept beside an episode, and loaded again."""

from __future__ import annotations

from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .scenes import CameraSpec, ObjectSpec, Scene, SceneConfig, SceneError, check_scene, draw_scene


def load_scene(path: Path) -> Scene:
    """Read and check a scene; what the file leaves out is as in the scene of its seed."""
    try:
        told = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SceneError(f"cannot read the scene {path}: {error}") from error
    if not isinstance(told, dict):
        raise SceneError(f"{path}: a scene is a mapping of {', '.join(f.name for f in fields(Scene))}")
    try:
        return scene_from(told)
    except SceneError as error:
        raise SceneError(f"{path}: {error}") from error


def scene_from(told: dict[str, Any]) -> Scene:
    """The scene of a mapping, checked."""
    for name, kind in (("seed", "int"), ("objects", "list"), ("cameras", "list")):
        if name in told:
            _check_type(told[name], kind, f"a scene's {name}")
    base = asdict(draw_scene(SceneConfig(), told.get("seed", 0), told.get("split", "train")))
    told = base | told
    told["objects"] = [_build(ObjectSpec, item, "object") for item in told["objects"]]
    told["cameras"] = [_build(CameraSpec, item, "camera") for item in told["cameras"]]
    scene = _build(Scene, told, "scene")
    check_scene(scene)
    return scene


def save_scene(scene: Scene, path: Path) -> None:
    """Write a scene that `load_scene` reads back as it was."""
    path.write_text(yaml.safe_dump(_plain(asdict(scene)), sort_keys=False))


def _build(kind: type, told: Any, what: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    if not isinstance(told, dict):
        raise SceneError(f"a {what} is a mapping of {', '.join(known)}, got {told!r}")
    for name in told:
        if name not in known:
            raise SceneError(f"a {what} has no {name!r}; it has {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in told]
    if missing:
        raise SceneError(
            f"a {what} needs {', '.join(missing)}; {told.get('name', 'this one')!r} has no such entry"
        )
    for name, value in told.items():
        _check_type(value, str(known[name].type), f"{name} of the {what} {told.get('name', '')!r}")
    return kind(**{name: tuple(value) if _is_numbers(value) else value for name, value in told.items()})


def _check_type(value: Any, kind: str, what: str) -> None:
    """`kind` is the type as the dataclass tells it: float, str, tuple[float, float, float], ..."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind.startswith("tuple"):
        count = kind.count("float")
        wanted = f"{count} numbers"
        good = isinstance(value, (list, tuple)) and len(value) == count and _is_numbers(value)
    elif kind.startswith("list"):
        wanted, good = "a list", isinstance(value, list)
    else:
        wanted, good = {
            "float": ("a number", number),
            "int": ("a whole number", number and int(value) == value),
            "bool": ("true or false", isinstance(value, bool)),
            "str": ("a word", isinstance(value, str)),
        }[kind]
    if not good:
        raise SceneError(f"{what} must be {wanted}, got {value!r}")


def _is_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
