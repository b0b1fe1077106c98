"""Goals from files: a picture, a saved goal folder, a step of a recorded episode, or several of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from data.cutting import fitted, missing_camera
from data.images import fit_frames
from data.poses import poses_from
from data.source import open_log
from data.types import Conventions

from .task import Goal

MEANT = "goal=PICTURE.png, goal=FOLDER (made by forearm goal), goal=episode:LOG@ROW or goal=episode:LOG#EPISODE@ROW"


def load_goal(text: str, conventions: Conventions) -> Goal:
    """One goal, with its frames at the model's size and under the model's camera names."""
    if text.startswith("episode:"):
        return _from_episode(text.removeprefix("episode:"), conventions)
    path = Path(text).expanduser()
    if path.is_dir() and (path / "goal.json").is_file():
        return read_goal(path, conventions)
    if path.is_file():
        return _from_picture(path, conventions)
    raise ValueError(f"goal {text!r}: there is no such file or folder; give {MEANT}")


def load_goals(texts: Sequence[str], conventions: Conventions) -> list[Goal]:
    return [load_goal(text, conventions) for text in texts]


def write_goal(folder: Path, goal: Goal) -> Path:
    """Save pictures, pose and camera names so that `plan goal=FOLDER` takes them."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in goal.frames.items():
        Image.fromarray(frame).save(folder / f"{name}.png")
    pose = None if goal.pose is None else [float(v) for v in goal.pose]
    (folder / "goal.json").write_text(
        json.dumps({"name": goal.name, "cameras": list(goal.frames), "pose": pose}, indent=1)
    )
    return folder


def read_goal(folder: Path, conventions: Conventions) -> Goal:
    try:
        stored = json.loads((folder / "goal.json").read_text())
        name, cameras = str(stored["name"]), list(stored["cameras"])
        pose = None if stored["pose"] is None else np.array(stored["pose"], dtype=float).reshape(7)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'goal.json'} does not hold name, cameras and a pose of 7 numbers or null "
            f"({type(error).__name__}: {error}); make it again with forearm goal"
        ) from error
    frames = {camera: _open_picture(folder / f"{camera}.png") for camera in cameras}
    return Goal(frames=_fit(frames, conventions, str(folder)), pose=pose, name=name)


def _from_picture(path: Path, conventions: Conventions) -> Goal:
    """PICTURE.png, with the other cameras beside it as PICTURE.<camera>.png or <camera>.png."""
    cameras, frames = conventions.cameras, {}
    named = next((c for c in cameras if path.stem == c or path.stem.endswith(f".{c}")), cameras[0])
    stem = path.stem.removesuffix(named).removesuffix(".")
    for camera in cameras:
        beside = [
            path.with_name(f"{n}{path.suffix}") for n in ([f"{stem}.{camera}"] if stem else []) + [camera]
        ]
        found = path if camera == named else next((p for p in beside if p.is_file()), None)
        if found is None:
            raise ValueError(
                f"goal {path}: the model looks through {list(conventions.cameras)} and there is no picture of "
                f"{camera!r}; put it beside as {beside[0].name}"
            )
        frames[camera] = _open_picture(found)
    return Goal(frames=_fit(frames, conventions, str(path)), name=path.stem)


def _from_episode(text: str, conventions: Conventions) -> Goal:
    where, _, row_text = text.rpartition("@")
    if not where or not row_text.lstrip("-").isdigit():
        raise ValueError(f"goal episode:{text!r} names no row; give {MEANT}")
    folder, _, number = where.partition("#")
    log = open_log(Path(folder).expanduser())
    keys = log.keys
    index = int(number or 0) if (number or "0").isdigit() else -1
    if not 0 <= index < len(keys):
        raise ValueError(
            f"goal episode:{text}: episode {number or 0} is not in {folder}; it has {len(keys)}, counted from 0"
        )
    episode = log.open(keys[index])
    row = int(row_text) if int(row_text) >= 0 else len(episode) + int(row_text)
    if not 0 <= row < len(episode):
        raise ValueError(
            f"goal episode:{text}: row {row_text} is not in the episode; it has {len(episode)} rows"
        )
    _check_cameras(episode.frames, conventions, text)
    frames = {  # in the same colours as the frames that the model learnt from
        name: fitted(episode.frames[name], [row], size=conventions.image_size, crop=conventions.crop)[0]
        for name in conventions.cameras
    }
    pose = poses_from(
        torch.from_numpy(episode.ee_position[row]),
        torch.from_numpy(episode.ee_quaternion[row]),
        torch.tensor(float(episode.closedness[row])),
    ).numpy()
    return Goal(frames=frames, pose=pose, name=f"row {row}")


def _check_cameras(cameras: Collection[str], conventions: Conventions, source: str) -> None:
    missing = missing_camera(cameras, conventions.cameras)
    if missing is not None:
        raise ValueError(f"goal {source}: no picture of camera {missing!r}; it has {sorted(cameras)}")


def _fit(frames: dict[str, np.ndarray], conventions: Conventions, source: str) -> dict[str, np.ndarray]:
    _check_cameras(frames, conventions, source)
    return {
        name: fit_frames(frames[name], crop=conventions.crop, size=conventions.image_size)
        for name in conventions.cameras
    }


def _open_picture(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{path} is not a picture that can be read: {error}") from error
