"""What the makers of the fixtures recorded: the same little scene, in every format."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def log_copy(tmp_path: Path) -> Callable[[str], Path]:
    """A fixture copied to where an index may be written."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        if not target.exists():
            shutil.copytree(FIXTURES / name, target)
        return target

    return copy


class Scene:
    """Pose, gripper, joints and pictures of episode `ep` at row `t`, as the fixtures' makers defined them."""

    @staticmethod
    def euler_pose(ep: int, t: np.ndarray) -> np.ndarray:
        t = np.asarray(t, np.float64)
        one = np.ones_like(t)
        xyz = [0.4 + 0.01 * t, (-0.1 + 0.2 * ep) * one, 0.3 - 0.005 * t]
        roll = np.where(t == 0, -np.pi, np.pi - 0.01 * t)
        return np.stack([*xyz, roll, 0.02 * t, 0.05 * ep + 0.03 * t], -1)

    @staticmethod
    def closedness(t: np.ndarray) -> np.ndarray:
        return np.where(np.asarray(t) < 10, 0.0, 0.8)

    @staticmethod
    def joints(ep: int, t: np.ndarray) -> np.ndarray:
        start = np.array([0, -np.pi / 5, 0, -4 * np.pi / 5, 0, 3 * np.pi / 5, 0])
        return start + 0.1 * ep + 0.01 * np.asarray(t, np.float64)[:, None]

    @staticmethod
    def background(ep: int, view: int) -> np.ndarray:
        return np.array([40 + 60 * ep, 40 + 40 * view, 90])

    @staticmethod
    def assert_frame(frame: np.ndarray, ep: int, t: int, view: int) -> None:
        """The white square is where it should be on its background; codecs may lose a little."""
        assert frame.shape == (64, 64, 3)
        assert frame.dtype == np.uint8
        x, y = 2 * t, 8 + 24 * ep
        assert frame[y + 4 : y + 12, x + 4 : x + 12].min() > 225
        assert np.abs(frame[-3:, -3:].mean((0, 1)) - Scene.background(ep, view)).max() < 8
        right = frame[y + 4 : y + 12, min(x + 20, 60) : min(x + 24, 64)].mean((0, 1))
        assert np.abs(right - Scene.background(ep, view)).max() < 15

    @staticmethod
    def assert_rotations(quaternion: np.ndarray, euler: np.ndarray, most_rad: float = 1e-6) -> None:
        difference = Rotation.from_quat(quaternion) * Rotation.from_euler("xyz", euler).inv()
        assert np.abs(difference.magnitude()).max() < most_rad


@pytest.fixture
def scene() -> type[Scene]:
    return Scene
