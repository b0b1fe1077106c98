"""Nothing reaches a motor but through the guard, and the guard does what `envs.arm` promises."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from envs.arm import ArmError, Limits, Refused
from envs.check_arm import check_arm
from envs.guarded import GuardedArm

RIGHT = np.array([0.0, 0.03, 0.0, 0, 0, 0, 0])


def test_an_ideal_arm_passes_its_conformance_check(point_driver):
    report = check_arm(GuardedArm(point_driver))
    assert len(report.passed) > 25


def test_actions_add_to_the_commanded_pose_while_the_arm_lags_a_little(point_driver):
    point_driver.flaw = lambda before, told: np.concatenate([told[:3] - [0, 0.012, 0], told[3:]])
    arm = GuardedArm(point_driver)
    outcome = [arm.act(RIGHT) for _ in range(3)][-1]
    assert outcome.commanded[1] == pytest.approx(0.09)
    assert outcome.notes == []


def test_an_arm_more_than_two_centimetres_behind_is_anchored_anew_and_keeps_squeezing(point_driver):
    arm = GuardedArm(point_driver)
    arm.act(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    point_driver.flaw = lambda before, told: np.concatenate([before[:6], [0.4]])  # blocked, an object between
    for _ in range(4):
        outcome = arm.act(RIGHT)
    assert outcome.commanded[1] == pytest.approx(0.03)
    assert "re-anchored: the tool is 30 mm" in outcome.notes[0]
    assert outcome.commanded[6] == 1.0


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.zeros(8), "left"])
def test_a_refused_action_sends_nothing_and_ends_a_motion_under_way(point_driver, bad):
    arm = GuardedArm(point_driver)
    arm.act(RIGHT)
    with pytest.raises(Refused):
        arm.act(bad)
    assert len(point_driver.sent) == 1
    assert point_driver.holds == 0  # it stands where it was sent: nothing to hold
    arm.act(RIGHT, blocking=False)
    with pytest.raises(Refused):
        arm.act(bad)
    assert point_driver.holds == 1
    arm.close()


def test_a_pose_that_is_not_finite_stops_commands(point_driver):
    arm = GuardedArm(point_driver)
    point_driver.pose[1] = np.nan
    with pytest.raises(Refused, match="not 7 finite"):
        arm.act(RIGHT)
    assert point_driver.sent == []


def test_the_watchdog_holds_when_nobody_speaks(point_driver):
    arm = GuardedArm(point_driver, watchdog_s=1.0)
    for _ in range(20):  # a machine that is late itself says nothing about the watchdog
        held = point_driver.holds
        begun = time.monotonic()
        arm.act(RIGHT, blocking=False)
        time.sleep(0.6)
        spoke = time.monotonic()
        arm.act(RIGHT, blocking=False)
        time.sleep(0.6)
        early = point_driver.holds - held
        if spoke - begun < 0.9 and time.monotonic() - spoke < 0.9:
            break
        arm.reset()
    assert early == 0
    deadline = time.monotonic() + 60
    while point_driver.holds == held and time.monotonic() < deadline:
        time.sleep(0.01)
    assert point_driver.holds == held + 1
    arm.act(RIGHT)  # and it may go on
    arm.close()


def test_stop_from_another_thread_ends_a_motion_and_refuses_until_reset(point_driver):
    started, release = threading.Event(), threading.Event()
    arm = GuardedArm(point_driver)

    def slow(before, told):
        started.set()
        assert release.wait(60)
        return told

    point_driver.flaw = slow
    mover = threading.Thread(target=arm.act, args=(RIGHT,))
    mover.start()
    assert started.wait(60)
    arm.stop()  # returns though act() has not
    assert point_driver.holds == 1
    release.set()
    mover.join(60)
    assert point_driver.holds == 2  # and once more when the motion came back
    with pytest.raises(Refused, match=r"stopped.*reset"):
        arm.act(RIGHT)
    point_driver.flaw = lambda before, told: told
    arm.reset()
    arm.act(RIGHT)


def test_a_driver_that_fails_is_held(point_driver):
    def broken(before, told):
        raise ConnectionError("cable")

    point_driver.flaw = broken
    arm = GuardedArm(point_driver)
    with pytest.raises(ConnectionError):
        arm.act(RIGHT)
    assert point_driver.holds == 1


def test_close_twice_is_fine_and_a_closed_arm_says_so(point_driver):
    with GuardedArm(point_driver) as arm:
        arm.act(RIGHT)
    arm.close()
    assert point_driver.closed == 1
    for call in (arm.observe, arm.reset, lambda: arm.act(RIGHT), lambda: arm.cameras):
        with pytest.raises(ArmError, match="closed"):
            call()
    arm.stop()


def test_there_is_no_way_around_the_guard(point_driver):
    arm = GuardedArm(point_driver)
    public = [getattr(arm, name) for name in dir(arm) if not name.startswith("_")]
    assert not any(value is point_driver for value in public)
    with pytest.raises(ValueError, match="max_turn_rad"):
        GuardedArm(point_driver, limits=Limits(max_turn_rad=-1))


def _observed(**changes):
    def change(observation):
        for name, value in changes.items():
            setattr(observation, name, value(observation))

    return change


def _along(matrix):
    return lambda before, told: np.concatenate([before[:3] + matrix @ (told[:3] - before[:3]), told[3:]])


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        (_along(np.diag([-1, -1, 1])), "sign is wrong: base frame turned"),
        (_along(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])), "another axis moved"),
        (_along(np.eye(3) * 0.3), "size is wrong: units"),
        (_along(np.zeros((3, 3))), "hardly moves: brakes"),
        (lambda b, t: np.concatenate([t[:3] - [0, 0, 0.004], t[3:]]), "drifted"),
        (lambda b, t: np.concatenate([t[:3], b[3:6] - (t[3:6] - b[3:6]), t[6:]]), "R_prev R_next"),
        (lambda b, t: np.concatenate([t[:6], [max(0.0, -t[6])]]), "the gripper closes as told"),
    ],
)
def test_the_check_names_the_likely_cause_of_a_wrong_motion(point_driver, flaw, words):
    point_driver.flaw = flaw
    with pytest.raises(ArmError, match=words):
        check_arm(GuardedArm(point_driver))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_observed(pose=lambda o: o.pose * [1000, 1000, 1000, 1, 1, 1, 1]), "millimetres"),
        (_observed(pose=lambda o: np.append(o.pose[:6], 0.9)), "is 1 open in the driver"),
        (_observed(pose=lambda o: np.full(7, np.nan)), "is the robot's state received"),
        (_observed(joints=lambda o: np.zeros(6)), "joints is 7 finite"),
        (_observed(frames=lambda o: {}), "listed but gives no frame"),
        (_observed(frames=lambda o: {"front": o.frames["front"][:, :, 0]}), "transposed or with alpha"),
        (_observed(frames=lambda o: {"front": np.zeros((12, 16, 3), np.uint8)}), "lens cap"),
        (_observed(frame_times_s=lambda o: {"front": o.time_s + 9}), "one clock for both"),
        (_observed(frames=lambda o: {"front": np.arange(576, dtype=np.uint8).reshape(12, 16, 3)}), "frozen"),
    ],
)
def test_the_check_names_the_likely_cause_of_a_wrong_observation(point_driver, change, words):
    point_driver.flaw_observe = change
    with pytest.raises(ArmError, match=words):
        check_arm(GuardedArm(point_driver))


def test_the_check_finds_an_arm_without_a_guard(point_driver):
    class Bare:
        limits = Limits()

        def __getattr__(self, name):
            return getattr(point_driver, name)

        def act(self, action, *, blocking=True):
            from envs.arm import Outcome

            pose = point_driver.pose + np.resize(np.nan_to_num(action, posinf=1.0), 7)
            point_driver.go(pose, duration_s=0.2)
            return Outcome(commanded=pose)

        def stop(self):
            pass

    with pytest.raises(ArmError) as caught:
        check_arm(Bare())  # type: ignore[arg-type]
    for words in ("refuses NaN", "refuses six numbers", "clips a step of 10 m", "stop() refuses"):
        assert words in str(caught.value)
