"""The operator's stop, the watchdog, late plans and recovery at the moments in between, with the defaults of a command."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest_helpers import PATIENCE_S, stays, until

from envs.arm import ArmError, Refused, Stopped
from envs.franka.config import FrankaConfig
from envs.franka.look import look
from envs.franka.opening import open_franka
from envs.franka.stop import OperatorStop
from envs.guarded import GuardedArm

WAYS = (
    pytest.param("file", marks=pytest.mark.slow),
    "signal",
    pytest.param("key", marks=pytest.mark.slow),
)


@pytest.fixture(params=WAYS)
def stop(request, tmp_path: Path, monkeypatch) -> Iterator[tuple[OperatorStop, Callable[[], object]]]:
    """An operator's stop, and the hand that presses it."""
    if request.param == "file":
        made = OperatorStop(file=tmp_path / "stop")
        yield made, (tmp_path / "stop").touch
    elif request.param == "signal":
        made = OperatorStop(signals=(signal.SIGUSR1,))
        yield made, lambda: os.kill(os.getpid(), signal.SIGUSR1)
    else:
        parent, child = pty.openpty()
        with os.fdopen(child) as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            made = OperatorStop(keys=True)
            yield made, lambda: os.write(parent, b"x")
            made.close()
        os.close(parent)
    made.close()


def test_a_stop_before_the_first_motion_is_not_forgotten(fake, driver, stop, tmp_path) -> None:
    """Somebody reads the envelope, disagrees, and presses: the reset that begins a run must not clear that."""
    robot, (made, press) = fake(10), stop
    arm = GuardedArm(driver(robot, stop=made))
    press()
    until(lambda: made.pressed)
    with pytest.raises(Refused, match="operator's stop"):
        arm.reset()
    assert robot.state()["asked"] == 0
    (tmp_path / "stop").unlink(missing_ok=True)
    if made.pressed:  # a file's stop is told when it is still there
        with pytest.raises(Stopped):
            arm.act(np.zeros(7))
    arm.reset(options={"stay": True})
    arm.act(np.array([0, 0, 0.01, 0, 0, 0, 0]))


def test_a_stop_on_the_way_to_the_start_holds_there(fake, driver, stop) -> None:
    robot, (made, press) = fake(10), stop
    arm = GuardedArm(
        driver(robot, speed=0.1, stop=made, start_pose=np.array([0.5, 0.1, 0.5, np.pi, 0, 0, 0]))
    )
    said: list[BaseException] = []

    def reset() -> None:
        try:
            arm.reset()
        except ArmError as error:
            said.append(error)

    thread = threading.Thread(target=reset)
    thread.start()
    until(lambda: robot.state()["tool_speed"] > 0.02)
    press()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(said[0], Stopped), said
    assert stays(robot)[2] < 0.48


def test_a_stop_while_nobody_waits_for_the_motion(fake, driver, stop) -> None:
    robot, (made, press) = fake(10), stop
    arm = GuardedArm(driver(robot, speed=0.1, stop=made), watchdog_s=30.0)
    start = arm.reset(options={"stay": True}).pose
    arm.act(np.array([0, 0, 0.07, 0, 0, 0, 0]), blocking=False)
    until(lambda: robot.state()["tool_speed"] > 0.02)
    press()
    until(lambda: robot.state()["tool_speed"] < 0.004)
    assert robot.state()["tool"][2] - start[2] < 0.06
    for _ in range(2):  # and at every step from now on
        with pytest.raises(Stopped, match="operator's stop"):
            arm.act(np.array([0, 0, 0.01, 0, 0, 0, 0]))


def test_a_stop_while_the_fingers_open_stops_the_fingers(fake, driver, stop) -> None:
    robot, (made, press) = fake(10), stop
    opened = driver(robot, stop=made)
    arm = GuardedArm(opened)
    arm.reset(options={"stay": True})
    arm.act(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    until(lambda: robot.state()["width"] < 0.002)

    def opens() -> None:
        with contextlib.suppress(Stopped):
            arm.act(np.array([0, 0, 0.01, 0, 0, 0, -1.0]))

    thread = threading.Thread(target=opens, daemon=True)
    thread.start()
    until(lambda: robot.state()["width"] > 0.01)
    press()
    until(lambda: opened.report()["gripper"] == "stopped")
    width = robot.state()["width"]
    assert width < 0.07, "fingers that open go on to 0.08 m"
    time.sleep(0.5)
    assert robot.state()["width"] == pytest.approx(width, abs=0.001)
    thread.join(20)


def test_what_is_squeezed_stays_squeezed_through_stop_and_reset(fake, driver) -> None:
    """Fingers that refuse stand open where they were told to close: what was told counts, not what is measured."""
    robot = fake(10)
    robot.do("gripper", refuses=True)
    made = OperatorStop()
    arm = GuardedArm(driver(robot, stop=made))
    arm.reset(options={"stay": True})
    arm.act(np.array([0, 0, 0.01, 0, 0, 0, 1.0]))
    made.press("a test")
    with pytest.raises(Stopped):
        arm.act(np.array([0, 0, 0.01, 0, 0, 0, 0]))
    seen = arm.reset(options={"stay": True})
    assert seen.pose[6] < 0.1
    assert seen.commanded[6] == 1.0


def command_arm(robot, camera, tmp_path: Path, *, period_s: float, **values):
    """As a command opens it, with nothing but what is named."""
    config = FrankaConfig(
        host=robot.host, client="minimal_client:MinimalClient", extra={"version": 10}, dry_run=False, confirm=True,
        stop_file=str(tmp_path / "stop"), **values,
    )  # fmt: skip
    return open_franka(config, period_s=period_s, cameras={"exterior_left": camera[1]}, keys=False)


def test_plans_older_than_ten_steps_are_dropped_by_default(fake, driver, camera, tmp_path) -> None:
    period_s = max(PATIENCE_S, 1.0) / 10
    arm, opened = command_arm(
        fake(10), camera, tmp_path, period_s=period_s, patience_s=10 * period_s, speed=1.0
    )
    with arm:
        assert f"drops plans older than {10 * period_s} s" in "\n".join(opened.promises())
        here = arm.reset(options={"stay": True}).pose
        time.sleep(12 * period_s)  # a planner that thinks too long
        with pytest.raises(Refused, match="late: the plan came"):
            arm.act(np.array([0, 0, 0.03, 0, 0, 0, 0]))
        arm.observe()
        arm.act(np.array([0, 0, 0.03, 0, 0, 0, 0]))  # and it goes on
        assert arm.observe().pose[2] - here[2] == pytest.approx(0.03, abs=0.004)
        assert opened.report()["late_plans_dropped"] == 1


def test_the_watchdog_waits_for_two_periods_by_default(fake, driver, caplog) -> None:
    robot, period_s = fake(10), 0.5
    slow = driver(robot, speed=0.1, period_s=period_s)
    arm = GuardedArm(slow)
    start = arm.reset(options={"stay": True}).pose
    gaps, last = [], time.monotonic()
    for _ in range(4):  # later than one period, in time for two
        arm.act(np.array([0, 0, 0.004, 0, 0, 0, 0]), blocking=False)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()
        time.sleep(1.2 * period_s)
        arm.observe()
    assert slow._holds == 0 or max(gaps) > 1.9 * period_s, "nobody was late by more than a period"
    arm.reset(options={"stay": True})
    begun, holds = time.monotonic(), slow._holds
    with caplog.at_level(logging.WARNING):
        arm.act(np.array([0, 0, 0.07, 0, 0, 0, 0]), blocking=False)
        until(lambda: slow._holds > holds)
    assert time.monotonic() - begun >= 1.99 * period_s
    assert "no action for 1.00 s: the arm holds" in caplog.text
    until(lambda: robot.state()["tool_speed"] < 0.004)
    assert robot.state()["tool"][2] - start[2] < 0.07, "three seconds' way was not gone to its end"


def test_nothing_recovers_by_itself_nor_in_a_dry_run(fake, driver) -> None:
    """A reflex from before the run: a dry run may look, neither moves, and only who asks in a real run recovers."""
    robot = fake(10)
    robot.do("reflex", error="joint_reflex")
    dry = driver(robot, dry_run=True, confirm=False)
    arm = GuardedArm(dry)
    arm.observe()
    arm.reset()
    mode = next(check for check in look(dry, seconds=0.2) if check.what == "mode")
    assert not mode.good
    assert "Reflex" in mode.found
    assert "env.recover=true" in mode.remedy
    with pytest.raises(Refused, match="dry run: this process was not armed; recover in Desk"):
        arm.reset(options={"recover": True})
    assert robot.state()["mode"] == "Reflex"
    arm.close()
    until(lambda: not robot.state()["connected"])
    arm = GuardedArm(driver(robot))
    arm.observe()
    for options in ({}, {"stay": True}, {"recover": False}):
        with pytest.raises(ArmError, match=r"mode Reflex.*env\.recover=true"):
            arm.reset(options=options)
    assert robot.state()["mode"] == "Reflex", "looking, resetting and opening recover nothing"
    assert robot.state()["asked"] == 0
    arm.reset(options={"recover": True, "stay": True})
    assert robot.state()["mode"] == "Idle"
    arm.act(np.array([0, 0, 0.01, 0, 0, 0, 0]))
    arm.close()


def test_a_robot_that_is_stopped_by_its_own_button_says_so(fake, driver) -> None:
    robot = fake(10)
    robot.do("user_stop", on=True)
    arm = GuardedArm(driver(robot))
    with pytest.raises(ArmError, match="mode UserStopped and takes no motion: let go of the robot's stop"):
        arm.reset(options={"stay": True, "recover": False})
    robot.do("user_stop", on=False)
    until(lambda: robot.state()["mode"] == "Idle")
    time.sleep(0.2)
    arm.reset(options={"stay": True})


def test_a_python_that_is_not_there_is_named(fake, driver) -> None:
    with pytest.raises(ArmError, match=r"env\.python=/nowhere/python does not start"):
        driver(fake(10), python="/nowhere/python")
    with pytest.raises(ArmError, match="ended with 1 before it said anything"):
        driver(fake(10), python="/bin/false")
