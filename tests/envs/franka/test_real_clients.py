"""The unmodified clients of real robots, each in a process and an environment of its own, against the fake one.

`make real-clients` installs them into .venv-clients/<name>; FOREARM_CLIENTS may name another folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from envs.arm import ArmError, Refused
from envs.check_arm import check_arm
from envs.fake_fci.spawn import FakeFranka
from envs.franka.client import Settings
from envs.franka.driver import FrankaDriver
from envs.guarded import GuardedArm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

HERE = Path(__file__).parent
CLIENTS = Path(os.environ.get("FOREARM_CLIENTS", HERE.parents[2] / ".venv-clients"))
CASES = {"franky": 10, "pylibfranka": 10, "panda": 5, "panda:pose": 5}


def python_of(client: str) -> Path:
    path = CLIENTS / client.partition(":")[0] / "bin" / "python"
    assert path.exists(), f"{path} is not there: `make real-clients` installs the clients of real robots"
    return path


@pytest.fixture(scope="module")
def model_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled model that a Panda serves; without it panda-python has no impedance control."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "no C compiler: apt-get install gcc libc6-dev (a Panda serves a compiled model library)"
    out = tmp_path_factory.mktemp("model") / "model.so"
    source = HERE / "model_library.c"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", out, source, "-lm"], check=True)
    return out


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest, model_library: Path) -> Iterator[tuple[FakeFranka, FrankaDriver]]:
    client, _, mode = request.param.partition(":")
    python = python_of(client)
    with FakeFranka(version=CASES[request.param], model_library=model_library, relaxed_s=0.1) as robot:
        # On a machine without real time the hand may bump into the table: not what this tests.
        settings = Settings(
            host=robot.host, max_force_n=60.0, max_torque_nm=60.0, extra={"mode": mode} if mode else {}
        )
        driver = FrankaDriver(
            client=client, settings=settings, python=python,
            dry_run=False, confirm=True, speed=0.5, patience_s=2.0, period_s=0.5,
        )  # fmt: skip
        yield robot, driver
        driver.close()


def go_to(arm: GuardedArm, position: np.ndarray, closedness: float) -> None:
    for _ in range(40):
        sent = arm.observe().commanded
        away = position - sent[:3]
        far = float(np.linalg.norm(away))
        step = away * min(1.0, 0.05 / max(far, 1e-6))
        arm.act(np.concatenate([step, np.zeros(3), [closedness - sent[6]]]))
        if far < 0.001 and np.linalg.norm(arm.observe().pose[:3] - position) < 0.006:
            break
    np.testing.assert_allclose(arm.observe().pose[:3], position, atol=0.012)


def test_reads_moves_grasps_and_is_stopped(pair) -> None:
    robot, driver = pair
    arm = GuardedArm(driver)
    observation = arm.observe()
    np.testing.assert_allclose(observation.joints, robot.state()["q"], atol=2e-3)
    arm.reset()
    name, place = next(iter(robot.do("objects")["objects"].items()))
    above = np.array([place[0], place[1], 0.15])
    go_to(arm, above, 0.0)
    go_to(arm, np.array([place[0], place[1], place[2] + 0.006]), 0.0)
    arm.act(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    deadline = time.monotonic() + 30
    while not robot.state()["is_grasped"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert robot.state()["is_grasped"]
    lifted = arm.observe().pose[:3] + np.array([0, 0, 0.1])
    go_to(arm, lifted, 1.0)
    assert robot.do("objects")["objects"][name][2] > place[2] + 0.06, "the object comes along"

    # Stopped by the agent in motion.
    slow = threading.Thread(target=lambda: _quietly(lambda: arm.act(np.array([0, 0.07, 0, 0, 0, 0, 0]))))
    slow.start()
    time.sleep(0.2)
    arm.stop()
    slow.join(20)
    time.sleep(1.0)
    held = robot.state()["tool"]
    time.sleep(0.5)
    np.testing.assert_allclose(robot.state()["tool"], held, atol=0.003)
    arm.reset(options={"stay": True})

    # Stopped by the robot: what libfranka said is reported, and nothing recovers by itself.
    robot.do("reflex", error="joint_reflex")
    time.sleep(0.5)
    with pytest.raises(ArmError, match="joint_reflex"):
        arm.act(np.array([0, 0, 0.03, 0, 0, 0, 0]))
    assert robot.state()["mode"] == "Reflex"
    arm.reset(options={"recover": True, "stay": True})
    before = arm.observe().pose
    arm.act(np.array([0, 0, -0.03, 0, 0, 0, 0]))
    for _ in range(3):  # soft controllers on a machine without real time arrive late
        arm.act(np.zeros(7))
    assert arm.observe().pose[2] - before[2] == pytest.approx(-0.03, abs=0.012)
    assert {"median_ms", "p99_ms", "misses"} <= set(driver.report()["control"])


def test_the_operators_stop_reaches_the_fingers(pair) -> None:
    """Where the library lets somebody in while they move; otherwise they end where they were sent, and that is said."""
    robot, driver = pair
    arm = GuardedArm(driver)
    arm.reset(options={"stay": True})
    arm.act(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    until(lambda: robot.state()["width"] < 0.002)
    opens = threading.Thread(target=lambda: _quietly(lambda: arm.act(np.array([0, 0, 0, 0, 0, 0, -1.0]))))
    until(lambda: driver.report()["gripper"] != "moving")
    opens.start()
    until(lambda: robot.state()["width"] > 0.01)
    driver._stop.press("a test")
    opens.join(20)
    if driver.client == "pylibfranka":
        until(lambda: robot.state()["width"] > 0.07)
        return
    until(lambda: driver.report()["gripper"] == "stopped")
    width = robot.state()["width"]
    assert width < 0.07
    time.sleep(0.6)
    assert robot.state()["width"] == pytest.approx(width, abs=0.001)


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def _quietly(call) -> None:
    with contextlib.suppress(Refused):
        call()


def test_conforms(pair) -> None:
    _, driver = pair
    check_arm(GuardedArm(driver))


def test_droids_server(free_tcp_port_of_loopback: int) -> None:
    python = python_of("droid")
    port = free_tcp_port_of_loopback
    server = subprocess.Popen(
        [python, HERE / "fixtures" / "droid_server.py", "127.0.0.1", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline().strip() == "ready"
    try:
        driver = FrankaDriver(
            client="droid", settings=Settings(host="127.0.0.1", extra={"port": port}), python=python,
            dry_run=False, confirm=True, speed=0.5, patience_s=2.0, tool_beyond_ee_m=0.0,
        )  # fmt: skip
        arm = GuardedArm(driver)
        start = arm.observe().pose
        np.testing.assert_allclose(start[:3], [0.45, 0.0, 0.3], atol=1e-6)
        arm.act(np.array([0.05, 0.0, -0.03, 0, 0, 0.1, 1.0]))
        moved = arm.observe().pose - start
        np.testing.assert_allclose(moved[:3], [0.05, 0.0, -0.03], atol=0.006)
        assert moved[5] == pytest.approx(0.1, abs=0.02)
        assert moved[6] > 0.2
        arm.close()
    finally:
        server.kill()
        server.wait()
