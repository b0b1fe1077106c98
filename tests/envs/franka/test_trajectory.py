"""The path never jumps, whatever is asked of it in between."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.franka.trajectory import (
    BRAKE_S,
    PEAK_OVER_MEAN,
    Trajectory,
    rotation_about,
    rotation_vector,
    shortest_duration,
)

small = st.floats(-0.3, 0.3)
vector = st.tuples(small, small, small).map(np.array)


def frame(position: np.ndarray, turn: np.ndarray) -> np.ndarray:
    made = np.eye(4)
    made[:3, 3], made[:3, :3] = position, rotation_about(turn)
    return made


@settings(max_examples=40, deadline=None)
@given(vector, vector, vector, st.floats(0.01, 0.4), st.booleans())
def test_speed_and_acceleration_never_jump(goal, other, turn, when, brake) -> None:
    path = Trajectory(np.eye(4))
    path.aim(frame(goal, turn), 0.4, 0.0)
    before, speed = path.at(when), path.speed(when)
    if brake:
        path.brake(when)
    else:
        path.aim(frame(other, -turn), 0.5, when)
    np.testing.assert_allclose(path.at(when), before, atol=1e-9)
    np.testing.assert_allclose(path.speed(when), speed, atol=1e-9)
    times = np.arange(when, when + 0.6, 1e-3)
    positions = np.stack([path.at(t)[:3, 3] for t in times])
    jerk = np.abs(np.diff(positions, 3, axis=0))
    bound = 60 * max(np.abs(goal).max(), np.abs(other).max(), 0.01) / min(0.4, BRAKE_S) ** 3 * 1e-9 * 4
    assert jerk.max() < bound


@settings(max_examples=40, deadline=None)
@given(vector, vector, st.floats(0.05, 1.0))
def test_arrives_at_rest(goal, turn, duration) -> None:
    path = Trajectory(frame(np.array([0.4, 0.0, 0.3]), np.array([np.pi, 0, 0])))
    path.aim(frame(goal, turn), duration, 1.0)
    assert not path.finished(1.0 + 0.9 * duration)
    assert path.finished(1.0 + duration)
    np.testing.assert_allclose(path.at(1.0 + duration), frame(goal, turn), atol=1e-6)
    np.testing.assert_allclose(path.speed(1.0 + duration), 0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(vector, vector, st.floats(0.02, 0.5), st.floats(0.1, 1.0))
def test_the_shortest_duration_keeps_both_speeds(goal, turn, speed, turning) -> None:
    end = frame(goal, turn)
    duration = max(shortest_duration(np.eye(4), end, speed, turning), 1e-3)
    path = Trajectory(np.eye(4))
    path.aim(end, duration, 0.0)
    speeds = np.stack([path.speed(t) for t in np.linspace(0, duration, 101)])
    assert np.linalg.norm(speeds[:, :3], axis=1).max() <= speed * 1.001
    assert np.linalg.norm(speeds[:, 3:], axis=1).max() <= turning * 1.001
    assert PEAK_OVER_MEAN == 30 / 16


@settings(max_examples=60, deadline=None)
@given(vector, st.floats(0.0, 3.0))
def test_rotation_vectors_invert(axis, angle) -> None:
    if np.linalg.norm(axis) < 1e-3:
        return
    turn = axis / np.linalg.norm(axis) * angle
    np.testing.assert_allclose(rotation_vector(rotation_about(turn)), turn, atol=1e-6)
