"""The path never jumps, whatever is asked of it in between."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.franka.client import Reading, Settings
from envs.franka.servant import Servant
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


@settings(max_examples=100, deadline=None)
@given(vector, vector, st.floats(0.02, 1.0), st.floats(0.0, 1.1))
def test_braking_stays_on_the_way_to_the_goal(goal, turn, duration, share) -> None:
    """Whoever holds just above the table does not press into it."""
    path = Trajectory(np.eye(4))
    path.aim(frame(goal, turn), duration, 0.0)
    path.brake(share * duration)
    times = np.linspace(0, duration + 2 * BRAKE_S, 300)
    way = np.stack([path.at(share * duration + t)[:3, 3] for t in times]) @ goal / max(goal @ goal, 1e-12)
    if goal @ goal > 1e-6:
        assert way.min() > -1e-6
        assert way.max() < 1 + 1e-6
    assert path.finished(times[-1] + share * duration)


class _Anything:
    """A robot that nobody reads, and that follows perfectly."""

    loop_s = 0.001

    def control(self, follow: Servant) -> None:
        follow.begin(np.eye(4))
        for _ in range(1000):
            self.last = follow.next(0.001)

    def read(self) -> Reading:
        return Reading(time_s=0, frame=[], joints=[], mode="", errors=[], force_n=0, success=1)


class _OrderedTooLate(threading.Event):
    """An order comes just when the wait for it has run out."""

    def __init__(self, order: Callable[[], None]) -> None:
        super().__init__()
        self._order = order

    def wait(self, timeout: float | None = None) -> bool:
        order, self._order = self._order, lambda: None
        ready = super().wait(0)
        order()
        return ready


def test_an_order_that_comes_as_the_wait_runs_out_is_followed() -> None:
    """Seen on a busy machine: a motion that never began."""
    ours, theirs = socket.socketpair()
    goal = frame(np.array([0.1, 0.0, 0.0]), np.zeros(3))
    order = {"frame": goal.ravel().tolist(), "duration_s": 0.2, "number": 1, "closedness": 0.0}
    with ours, theirs:
        robot = _Anything()
        one = Servant(robot, Settings(armed=True, patience_s=1e6), ours)  # type: ignore[arg-type]
        one._start = _OrderedTooLate(lambda: one.go(order))
        one._follow_orders()
        one._follow_orders()
    np.testing.assert_allclose(robot.last, goal, atol=1e-9)
    assert one._outcome == (1, "arrived")


steps = st.tuples(vector, st.floats(0.05, 0.5), st.integers(1, 250), st.booleans())


@settings(max_examples=20, deadline=None)
@given(st.lists(steps, min_size=2, max_size=6))
def test_orders_and_holds_at_any_moment_stay_within_the_box_of_the_goals(orders) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one = Servant(_Anything(), Settings(armed=True, patience_s=1e6), ours)  # type: ignore[arg-type]
        one.begin(np.eye(4))
        way = [np.zeros(3)]
        for number, (goal, duration, ticks, hold) in enumerate(orders, start=1):
            order = {"frame": frame(goal, goal).ravel().tolist(), "duration_s": duration, "number": number}
            one.go({**order, "closedness": 0.0})
            for _ in range(ticks):
                made = one.next(0.001)
                assert made is not None
                way.append(made[:3, 3])
            if hold:
                one.hold({})
        for _ in range(1000):
            made = one.next(0.001)
            assert made is not None
            way.append(made[:3, 3])
    goals = np.stack([np.zeros(3), *(goal for goal, *_ in orders)])
    assert (np.stack(way) > goals.min(0) - 1e-6).all()
    assert (np.stack(way) < goals.max(0) + 1e-6).all()
    speed = np.linalg.norm(np.diff(way, axis=0), axis=1) / 0.001
    longest = np.linalg.norm(goals[:, None] - goals[None], axis=-1).max()
    most = PEAK_OVER_MEAN * longest / min(duration for _, duration, *_ in orders)
    assert speed.max() <= 1.01 * most, "nothing is thrown"
    assert speed[-1] < 1e-6
    if not orders[-1][-1]:
        np.testing.assert_allclose(way[-1], orders[-1][0], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(vector, st.floats(0.0, 3.0))
def test_rotation_vectors_invert(axis, angle) -> None:
    if np.linalg.norm(axis) < 1e-3:
        return
    turn = axis / np.linalg.norm(axis) * angle
    np.testing.assert_allclose(rotation_vector(rotation_about(turn)), turn, atol=1e-6)
