"""A driver without an engine, and the safety envelope told once more, in scipy's words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data.types import Camera, Observation
from envs.arm import Limits
from envs.panda import JOINT_HIGH, JOINT_LOW

JOINTS = np.array([0.0, -0.2, 0.0, -2.35, 0.0, 2.15, np.pi / 4])
HOME = np.array([0.5, 0.0, 0.2, np.pi, 0.0, 0.0, 0.0])


class PointDriver:
    """A hand that is where it was sent, at once.  Attributes that start with `flaw_` make it misbehave."""

    def __init__(self, period_s: float = 0.2) -> None:
        self.period_s = period_s
        self.joint_low, self.joint_high = JOINT_LOW, JOINT_HIGH
        self.cameras = {"front": Camera(name="front", width=16, height=12)}
        self.pose, self.commanded = HOME.copy(), HOME.copy()
        self.time_s, self.frame_noise = 0.0, 0
        self.holds, self.sent, self.closed = 0, [], 0
        self.flaw: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda before, told: told
        self.flaw_observe: Callable[[Observation], None] = lambda observation: None
        self.flaw_joints: Callable[[np.ndarray], np.ndarray | None] = lambda pose: JOINTS.copy()

    def state(self) -> Observation:
        return Observation(
            frames={},
            pose=self.pose.copy(),
            commanded=self.commanded.copy(),
            joints=JOINTS.copy(),
            time_s=self.time_s,
        )

    def observe(self) -> Observation:
        observation = self.state()
        seed = abs(hash(self.pose[:6].round(6).tobytes())) % 2**32
        frame = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        observation.frames = {"front": frame}
        observation.frame_times_s = {"front": self.time_s}
        self.flaw_observe(observation)
        return observation

    def joints_for(self, pose: np.ndarray) -> np.ndarray | None:
        return self.flaw_joints(pose)

    def go(self, pose: np.ndarray, *, duration_s: float, blocking: bool = True) -> None:
        self.sent.append(pose.copy())
        self.pose = self.flaw(self.pose, pose.copy())
        self.commanded = pose.copy()
        self.time_s += duration_s

    def hold(self) -> None:
        self.holds += 1
        self.commanded = np.concatenate([self.pose[:6], self.commanded[6:]])

    def reset(self, *, seed=None, options=None) -> Observation:
        self.pose, self.commanded, self.time_s = HOME.copy(), HOME.copy(), 0.0
        return self.observe()

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def point_driver() -> PointDriver:
    return PointDriver()


class Oracle:
    """Whether poses obey the limits, written independently of `envs.envelope`."""

    fingertip = np.array([0.0105, 0.0545, 0.0073])
    clearance = 0.002

    @staticmethod
    def rotation(poses: np.ndarray) -> Rotation:
        return Rotation.from_euler("xyz", poses[..., 3:6])

    @classmethod
    def excess(cls, anchor: np.ndarray, pose: np.ndarray, limits: Limits) -> np.ndarray:
        """By how much the worst limit is exceeded; zero or below inside.  [N, 7] each."""
        turned, before = cls.rotation(pose), cls.rotation(anchor)
        matrix = turned.as_matrix()
        tilt = np.arccos(np.clip(-matrix[:, 2, 2], -1, 1))
        turn = (turned * before.inv()).magnitude()
        corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1) * cls.fingertip[:, None]
        lowest = pose[:, 2] + (matrix @ corners)[:, 2].min(-1)
        return np.max(
            [
                (np.array(limits.low) - pose[:, :3]).max(-1),
                (pose[:, :3] - np.array(limits.high)).max(-1),
                np.linalg.norm(pose[:, :3] - anchor[:, :3], axis=-1) - limits.max_step_m,
                turn - limits.max_turn_rad,
                tilt - limits.max_tilt_rad,
                limits.table_z + cls.clearance - lowest,
                -pose[:, 6],
                pose[:, 6] - 1,
            ],
            axis=0,
        )

    @classmethod
    def anchors(cls, rng: np.random.Generator, count: int, limits: Limits) -> np.ndarray:
        """Admissible poses all over the envelope, its edges included."""
        azimuth, yaw = rng.uniform(-np.pi, np.pi, (2, count))
        tilt = limits.max_tilt_rad * rng.uniform(0, 1, count) ** rng.choice([0.0, 0.5, 3.0], count)
        tilted = Rotation.from_rotvec(
            tilt[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], -1)
        )
        down = Rotation.from_euler("xyz", np.stack([np.full(count, np.pi), 0 * yaw, yaw], -1))
        poses = np.empty((count, 7))
        poses[:, 3:6] = (tilted * down).as_euler("xyz")
        share = np.clip(rng.uniform(-0.15, 1.15, (count, 3)), 0, 1)
        low = np.tile(np.array(limits.low), (count, 1))
        matrix = cls.rotation(poses).as_matrix()
        low[:, 2] = np.maximum(
            low[:, 2], limits.table_z + cls.clearance + np.abs(matrix[:, 2]) @ cls.fingertip
        )
        poses[:, :3] = low + share * (np.array(limits.high) - low)
        poses[:, 6] = np.clip(rng.uniform(-0.2, 1.2, count), 0, 1)
        return poses


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    return Oracle
