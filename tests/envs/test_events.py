"""Each event does what its name says, at its step, and no trace is left after a reset."""

from __future__ import annotations

import numpy as np
import pytest

from envs.arm import ArmError
from envs.events import EVENTS, Unexpected
from envs.guarded import GuardedArm
from envs.mujoco_arm import MujocoDriver
from envs.tasks import OBJECT

AT = 3


@pytest.fixture(scope="module")
def driver():
    driver = MujocoDriver(cameras=("exterior_left",))
    yield driver
    driver.close()


def _watch(driver, event, steps=8):
    """Frames, hand and object at every step of a quiet episode: the hand circles above the table."""
    arm = GuardedArm(Unexpected(driver, event, at_step=AT))
    seen = [(arm.reset(seed=2), driver.object_poses()[OBJECT])]
    for step in range(steps):
        arm.act(np.array([0.02 * np.cos(step), 0.02 * np.sin(step), 0, 0, 0, 0, 0]))
        seen.append((arm.observe(), driver.object_poses()[OBJECT]))
    return seen


@pytest.fixture(scope="module")
def normal(driver):
    return _watch(driver, None)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_begins_at_its_step_and_shows(driver, normal, event):
    seen = _watch(driver, event)
    for (one, where), (two, there) in zip(normal[: AT + 1], seen[: AT + 1]):
        np.testing.assert_array_equal(one.frames["exterior_left"], two.frames["exterior_left"])
        np.testing.assert_array_equal(where, there)
    before, start = seen[AT]
    after, end = seen[-1]
    usual, _ = normal[-1]
    assert not np.array_equal(usual.frames["exterior_left"], after.frames["exterior_left"])
    moved = end[:3] - start[:3]
    hand = np.linalg.norm(after.pose[:3] - usual.pose[:3])
    if event == "vanishes":
        assert end[2] < -1
    elif event == "teleports":
        assert np.linalg.norm(moved[:2]) > 0.11
        assert abs(moved[2]) < 0.01
    elif event == "through_table":
        assert moved[2] < -0.05
    elif event == "gravity_off":
        assert 0.03 < moved[2] < 0.2
    elif event == "arm_blocked":
        assert np.linalg.norm(after.pose[:3] - before.pose[:3]) < 0.005 < hand
    else:
        np.testing.assert_allclose(end, normal[-1][1])
        assert hand == 0
    if event == "frozen_frame":
        np.testing.assert_array_equal(before.frames["exterior_left"], after.frames["exterior_left"])


def test_a_reset_ends_an_event(driver, normal):
    for event in EVENTS:
        _watch(driver, event, AT + 1)
    for (one, _), (two, _) in zip(normal, _watch(driver, None)):
        np.testing.assert_array_equal(one.frames["exterior_left"], two.frames["exterior_left"])


def test_an_unknown_event_lists_what_exists(driver):
    with pytest.raises(ArmError, match=r"no event 'earthquake'; there are vanishes, .*frozen_frame"):
        Unexpected(driver, "earthquake", at_step=1)


def test_an_event_waits_until_it_makes_a_difference(driver):
    blocked = Unexpected(driver, "arm_blocked", at_step=1, wait=True)
    arm = GuardedArm(blocked)
    arm.reset(seed=2)
    for move, begun in ((0.0, None), (0.0, None), (0.004, None), (0.03, 3)):
        arm.act(np.array([0.0, 0.0, move, 0, 0, 0, 0]))
        assert blocked.began_at == begun
    floats = Unexpected(driver, "gravity_off", at_step=0, wait=True)
    arm = GuardedArm(floats)
    arm.reset(seed=2)
    thing = driver.object_poses()[OBJECT][:3]
    arm.act(np.zeros(7))
    assert floats.began_at == 0
    arm.reset(seed=2)
    floats.at_step = 1000
    for height in (0.12, 0.03):  # from above, so that nothing is pushed away
        for _ in range(12):
            away = thing + np.array([0, 0, height]) - driver.observe().pose[:3]
            arm.act(np.array([*np.clip(away, -0.04, 0.04), 0, 0, 0, 0]))
    floats.at_step = 0
    arm.act(np.zeros(7))
    assert floats.began_at is None  # the hand is about to hold it
