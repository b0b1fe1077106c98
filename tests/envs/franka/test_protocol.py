"""The fake controller against a client written apart from it, both generations, over loopback sockets."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from minimal_client import VERSIONS, Fci, Hand

from envs.fake_fci.wire import DIALECTS, ERRORS, GRIPPER_STATE


def follow(fci: Fci, milliseconds: int, move_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A smooth Cartesian motion; the first and the last frame measured."""
    assert fci.move() == 1
    while (state := fci.read(newest=True))["generator"] != 3:
        pass
    start, first = state["frame"].copy(), state["id"]
    while True:
        share = min((state["id"] - first) / milliseconds, 1.0)
        smooth = 10 * share**3 - 15 * share**4 + 6 * share**5
        goal = start.copy()
        goal[12:15] += smooth * move_m
        done = state["id"] - first > milliseconds + 150
        fci.send(state["id"], goal, finished=done)
        if done:
            break
        state = fci.read()
    assert fci.answer()[0] == 0, "the Move must end with success"
    time.sleep(0.05)
    return start, fci.read(newest=True)["frame"]


@pytest.mark.parametrize("version", [5, 10])
def test_sizes_are_those_of_the_protocol(version: int) -> None:
    state, _, command, _ = VERSIONS[version]
    assert DIALECTS[version].state.itemsize == state
    assert DIALECTS[version].command.itemsize == command
    assert DIALECTS[version].move.size == {5: 56, 10: 113}[version]
    assert GRIPPER_STATE.itemsize == 23
    assert len(ERRORS) == 41


@pytest.mark.parametrize("version", [5, 10])
def test_moves_grasps_reflexes_and_recovers(fake, version: int) -> None:
    robot = fake(version)
    fci = Fci(robot.host, version)
    assert (fci.status, fci.server_version) == (0, version)
    state = fci.read()
    truth = robot.state()
    np.testing.assert_allclose(state["joints"], truth["q"], atol=1e-4)
    np.testing.assert_allclose(state["frame"].reshape(4, 4).T, truth["frame"], atol=1e-4)

    wanted = np.array([0.0, 0.02, -0.04])
    start, end = follow(fci, 400, wanted)
    np.testing.assert_allclose((end - start)[12:15], wanted, atol=0.001)
    np.testing.assert_allclose(end[:12], start[:12], atol=0.005)

    hand = Hand(robot.host)
    assert hand.ask(3, np.array([0.03, 0.2]).tobytes()) == 0  # move to 3 cm
    assert hand.read()[0] == pytest.approx(0.03, abs=0.001)
    assert hand.ask(2, np.array([0.0, 0.001, 0.001, 0.2, 20.0]).tobytes()) == 2  # nothing there to hold
    robot.do("gripper", refuses=True)
    assert hand.ask(1) == 1  # homing fails

    assert fci.move() == 1
    robot.do("reflex", error="joint_reflex")
    assert fci.answer()[0] == {5: 6, 10: 8}[version], "the Move must say that a reflex ended it"
    state = fci.read(newest=True)
    assert state["mode"] == "Reflex"
    assert [ERRORS[i] for i in state["reasons"]] == ["joint_reflex"]
    assert fci.move() == {5: 3, 10: 5}[version], "no motion before a recovery"
    assert fci.ask("Recover")[0] == 0
    assert fci.read(newest=True)["mode"] == "Idle"
    if version == 10:
        description = fci.ask("Model")
        assert description[0] == 0
        assert b'<link name="link8">' in description
    hand.close()
    fci.close()


def test_another_version_is_turned_away_and_a_second_client_too(fake) -> None:
    robot = fake(10)
    old = Fci(robot.host, 5)
    assert (old.status, old.server_version) == (1, 10)
    old.close()
    time.sleep(0.2)
    first = Fci(robot.host, 10)
    assert first.status == 0
    with pytest.raises((ConnectionError, OSError)):
        Fci(robot.host, 10)
    first.close()


def test_contact_is_felt_and_stops_the_motion(fake) -> None:
    robot = fake(10)
    fci = Fci(robot.host, 10)
    values = np.concatenate([np.full(28, 100.0), np.full(24, 15.0)])
    assert fci.ask("Collision", values.tobytes())[0] == 0
    assert fci.move() == 1
    robot.do("push", force=[0.0, 0.0, 40.0])
    assert fci.answer()[0] == 8
    assert robot.state()["errors"] == ["cartesian_reflex"]


def test_the_client_process_needs_neither_torch_nor_mujoco() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'mujoco', 'tensordict']))\n"
        "import envs.franka.servant, envs.franka.fr3, envs.franka.panda, envs.franka.droid, envs.franka.hand\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
