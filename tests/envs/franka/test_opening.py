"""From a config to a guarded arm; and the look before the first plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from envs.arm import ArmError
from envs.franka.config import FrankaConfig
from envs.franka.look import look
from envs.franka.opening import open_franka


def test_a_config_opens_a_dry_arm_that_can_be_looked_at(fake, monkeypatch, tmp_path: Path, camera) -> None:
    robot = fake(10)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "fixtures"))
    _, watched = camera
    config = FrankaConfig(
        host=robot.host,
        client="minimal_client:MinimalClient",
        extra={"version": 10},
        stop_file=str(tmp_path / "stop"),
    )
    arm, driver = open_franka(config, period_s=1.0, cameras={"exterior_left": watched}, keys=False)
    assert driver.dry_run
    assert str(tmp_path / "stop") in "\n".join(driver.promises())
    arm.observe()
    checks = {check.what: check for check in look(driver, seconds=0.5)}
    assert {
        "connection",
        "versions",
        "mode",
        "jitter",
        "units",
        "kinematics",
        "workspace",
        "pose polarity",
        "gripper",
        "camera exterior_left",
    } == set(checks)
    assert all(check.good for check in checks.values()), checks
    assert robot.state()["asked"] == 0, "looking moves nothing"
    arm.close()


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ArmError, match=r"env\.host"):
        open_franka(FrankaConfig())
    with pytest.raises(ArmError, match="no robot 'ur5'; there are fr3, panda, droid"):
        open_franka(FrankaConfig(host="127.0.0.1", robot="ur5"))
    assert np.isclose(FrankaConfig().speed, 0.1)
    assert FrankaConfig().dry_run
    assert not FrankaConfig().confirm
