"""The driver through its process, the minimal client and real sockets, to the fake controller."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from conftest_helpers import stays, until

from envs.arm import ArmError, Refused
from envs.franka.client import Settings
from envs.franka.driver import FrankaDriver
from envs.franka.link import Link
from envs.guarded import GuardedArm


@pytest.mark.slow  # real time: needs a machine with nothing else to do
@pytest.mark.parametrize("version", [5, 10])
def test_goes_where_it_is_told_and_measures_it(fake, driver, version: int) -> None:
    robot = fake(version)
    arm = GuardedArm(driver(robot))
    start = arm.observe()
    np.testing.assert_allclose(start.joints, robot.state()["q"], atol=1e-3)
    arm.reset()
    for action in ([0.03, 0.0, -0.02, 0, 0, 0.1, 0.5], [0.0, -0.03, 0.0, 0.05, 0, 0, 0.5]):
        outcome = arm.act(np.array(action))
        measured = arm.observe().pose
        np.testing.assert_allclose(measured[:3], outcome.commanded[:3], atol=0.004)
        turn = np.abs(np.angle(np.exp(1j * (measured - outcome.commanded)[3:6])))
        assert turn.max() < 0.02
    deadline = time.monotonic() + 10
    while arm.observe().pose[6] < 0.95 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert arm.observe().pose[6] > 0.95
    assert robot.state()["grasps"] == 1, "closing all the way is a grasp, with force; half way is not"
    arm.close()
    time.sleep(0.3)
    assert robot.state()["mode"] == "Idle", "closing the arm ends the motion properly"


def test_a_step_takes_as_long_as_its_fingers(fake, driver) -> None:
    """A hand needs four steps of the model to close; an agent that imagined it closed after one would be surprised."""
    robot = fake(10)
    arm = GuardedArm(driver(robot))
    arm.reset(options={"stay": True})
    arm.act(np.array([0, 0, 0.01, 0, 0, 0, 1.0]))
    assert robot.state()["width"] < 0.004
    arm.act(np.array([0, 0, 0.01, 0, 0, 0, -1.0]))
    assert robot.state()["width"] > 0.076
    arm.close()


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_a_dry_run_sends_nothing(fake, driver) -> None:
    robot = fake(10)
    dry = driver(robot, dry_run=True, confirm=False)
    arm = GuardedArm(dry)
    before = robot.state()
    arm.reset()
    for _ in range(3):
        arm.act(np.array([0.03, 0, 0, 0, 0, 0, 1.0]))
    after = robot.state()
    assert after["asked"] == before["asked"] == 0, "not one control command"
    assert after["grasps"] == 0
    np.testing.assert_allclose(after["q"], before["q"], atol=1e-4)
    assert len(dry.would) == 3
    assert any("DRY RUN" in line for line in dry.promises())
    with pytest.raises(ArmError):  # the fake serves one client, as the robot does
        Link("minimal_client:MinimalClient", Settings(host=robot.host, extra={"version": 10}))


def test_the_process_itself_refuses_in_a_dry_run(fake, driver) -> None:
    robot = fake(10)
    dry = driver(robot, dry_run=True, confirm=False)
    with pytest.raises(Refused, match="not armed"):
        dry._link.order("go", frame=np.eye(4).ravel().tolist(), duration_s=1, number=1, closedness=0)
    assert robot.state()["asked"] == 0


def test_a_real_run_must_be_confirmed_and_begins_slowly(fake, driver) -> None:
    with pytest.raises(ArmError, match="confirm=true"):
        FrankaDriver(dry_run=False, confirm=False)
    robot = fake(10)
    slow = driver(robot, speed=0.1)
    text = "\n".join(slow.promises())
    assert "REAL RUN" in text
    assert "0.050 m/s" in text
    assert "emergency stop" in text
    here = slow.observe().pose
    since = time.monotonic()
    slow.go(here + np.array([0, 0, 0.03, 0, 0, 0, 0]), duration_s=0.2)
    trace = robot.trace(since)
    step = 20  # ms
    speed = np.linalg.norm(trace[step:, 2:5] - trace[:-step, 2:5], axis=1) / (step / 1000)
    assert speed.max() < 0.055, "a tenth of 0.5 m/s, whatever the step asks for"
    assert trace[-1, 4] - trace[0, 4] > 0.027


def test_late_plans_are_dropped_with_a_count(fake, driver) -> None:
    robot = fake(10)
    late = driver(robot, max_plan_age_s=0.3)
    here = late.observe().pose
    time.sleep(0.5)  # a planner that thinks too long
    with pytest.raises(Refused, match="late"):
        late.go(here + np.array([0, 0, 0.03, 0, 0, 0, 0]), duration_s=0.2)
    late.observe()
    time.sleep(0.1)
    report = late.report()
    assert report["late_plans_dropped"] == 1
    assert robot.state()["asked"] == 0


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_the_control_loop_does_not_wait_for_the_planner(fake, driver) -> None:
    robot = fake(10)
    busy = driver(robot)
    here = busy.observe().pose
    busy.go(here + np.array([0, 0, 0.02, 0, 0, 0, 0]), duration_s=0.2)
    turns = busy.report()["control"]["turns"]
    deadline = time.monotonic() + 0.6
    while time.monotonic() < deadline:  # a planner that never lets go of this interpreter
        json.dumps(list(range(2000)))
    time.sleep(0.1)
    times = busy.report()["control"]
    assert times["turns"] - turns > 100
    assert {"misses", "median_ms", "p99_ms", "worst_ms"} <= set(times)
    json.dumps(busy.report())


def test_hold_from_another_thread_ends_a_motion(fake, driver) -> None:
    robot = fake(10)
    slow = driver(robot, speed=0.1)
    arm = GuardedArm(slow)
    start = arm.reset(options={"stay": True}).pose
    result: list[BaseException] = []

    def act() -> None:
        try:
            arm.act(np.array([0, 0, 0.07, 0, 0, 0, 0]))
        except Refused as error:
            result.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    until(lambda: robot.state()["tool_speed"] > 0.01)
    arm.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert "hold" in str(result[0])
    assert stays(robot)[2] - start[2] < 0.06
    with pytest.raises(Refused):
        arm.act(np.zeros(7))
    still = arm.observe()
    np.testing.assert_allclose(still.commanded[:6], still.pose[:6], atol=1e-9)  # not where it was sent before


def test_the_wrong_robot_is_named(fake, driver) -> None:
    robot = fake(10)
    with pytest.raises(ArmError, match="speaks version 10"):
        driver(robot, settings=Settings(host=robot.host, extra={"version": 5}))
    with pytest.raises(ArmError, match="no robot client 'panda3'"):
        driver(robot, client="panda3")
    with pytest.raises(ArmError, match=r"forearm\[fr3\]"):
        driver(robot, client="franky")
