"""A smooth path of tool frames that can be aimed anew, or braked, while it is being followed.  numpy only.

Quintic in position and in the rotation vector from where the piece began: position, speed and acceleration never
jump, which is what a Franka's motion generator demands.  From rest to rest it is a straight line, braked or not: what
begins and ends in a box stays in it.  A piece that is aimed in motion may swing out.
"""

from __future__ import annotations

import numpy as np

BRAKE_S = 0.15
PEAK_OVER_MEAN = 1.875  # of the speed of a quintic from rest to rest


class Trajectory:
    """Frames [4, 4] over the follower's own time, which need not be the wall's."""

    def __init__(self, frame: np.ndarray) -> None:
        self._rotation = frame[:3, :3].copy()
        self._begin, self._duration = 0.0, 1e-3
        self._weights = np.zeros((6, 6))  # [power, axis] in normalised time
        self._weights[0, :3] = frame[:3, 3]

    def aim(self, goal: np.ndarray, duration_s: float, now: float) -> None:
        """Go from here to rest at `goal` within `duration_s`."""
        start, speed, acceleration, rotation = self._state(now)
        end = np.concatenate([goal[:3, 3], rotation_vector(goal[:3, :3] @ rotation.T)])
        self._piece(start, speed, acceleration, end, rotation, duration_s, now)

    def brake(self, now: float) -> None:
        """Come to rest as soon as it is smooth, a little further on, but never beyond where the path ends anyway."""
        start, speed, acceleration, rotation = self._state(now)
        if self._begin + self._duration - now <= BRAKE_S:
            return
        further = speed * BRAKE_S / 2 + acceleration * BRAKE_S**2 / 12  # with which the fifth power vanishes
        left = self._weights.sum(0) - self._powers(now, 0) @ self._weights
        if any(np.linalg.norm(further[i : i + 3]) > np.linalg.norm(left[i : i + 3]) for i in (0, 3)):
            return
        self._piece(start, speed, acceleration, start + further, rotation, BRAKE_S, now)

    def at(self, now: float) -> np.ndarray:
        """The frame [4, 4] at a time."""
        value = self._powers(now, 0) @ self._weights
        frame = np.eye(4)
        frame[:3, 3] = value[:3]
        frame[:3, :3] = rotation_about(value[3:]) @ self._rotation
        return frame

    def speed(self, now: float) -> np.ndarray:
        """Speed [6] at a time: m/s and rad/s in the base frame."""
        return self._powers(now, 1) @ self._weights / self._duration

    def finished(self, now: float) -> bool:
        return now >= self._begin + self._duration

    def _piece(
        self,
        start: np.ndarray,
        speed: np.ndarray,
        acceleration: np.ndarray,
        end: np.ndarray,
        rotation: np.ndarray,
        duration: float,
        now: float,
    ) -> None:
        v, a = speed * duration, acceleration * duration**2
        gap = end - start
        self._weights = np.stack(
            [
                start,
                v,
                a / 2,
                10 * gap - 6 * v - 1.5 * a,
                -15 * gap + 8 * v + 1.5 * a,
                6 * gap - 3 * v - 0.5 * a,
            ]
        )
        self._rotation, self._begin, self._duration = rotation, now, duration

    def _state(self, now: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Position with a zero turn, speed, acceleration [6] each, and the rotation reached."""
        frame = self.at(now)
        speed = self.speed(now)
        acceleration = self._powers(now, 2) @ self._weights / self._duration**2
        return np.concatenate([frame[:3, 3], np.zeros(3)]), speed, acceleration, frame[:3, :3]

    def _powers(self, now: float, derivative: int) -> np.ndarray:
        s = min(max((now - self._begin) / self._duration, 0.0), 1.0)
        if derivative == 0:
            return np.array([1, s, s**2, s**3, s**4, s**5])
        if derivative == 1:
            return np.array([0, 1, 2 * s, 3 * s**2, 4 * s**3, 5 * s**4])
        return np.array([0, 0, 2, 6 * s, 12 * s**2, 20 * s**3])


def shortest_duration(
    start: np.ndarray, goal: np.ndarray, max_speed_m_s: float, max_turn_rad_s: float
) -> float:
    """The least time from rest to rest between two frames that keeps both speeds."""
    far = float(np.linalg.norm(goal[:3, 3] - start[:3, 3]))
    turn = float(np.linalg.norm(rotation_vector(goal[:3, :3] @ start[:3, :3].T)))
    return PEAK_OVER_MEAN * max(far / max_speed_m_s, turn / max_turn_rad_s)


def rotation_about(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of axis times angle."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-8:
        return np.eye(3) + skew
    return np.eye(3) + np.sin(angle) / angle * skew + (1 - np.cos(angle)) / angle**2 * skew @ skew


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle [3] of a rotation of up to half a turn."""
    w = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine = np.linalg.norm(w) / 2
    angle = np.arctan2(sine, (np.trace(rotation) - 1) / 2)
    if sine > 1e-7:
        return w / (2 * sine) * angle
    if angle < 1:
        return w / 2
    # Half a turn: the sines vanish, the axis is in R + 1 = 2 a a^T.
    both = (rotation + np.eye(3)) / 2
    column = both[:, int(np.argmax(np.diag(both)))]
    return np.pi * column / np.linalg.norm(column)
