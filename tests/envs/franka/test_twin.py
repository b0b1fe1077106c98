"""The cameras of the fake controller's table show what the simulator's own cameras show."""

from __future__ import annotations

import time

import numpy as np

from envs.fake_fci.twin import twin_cameras
from envs.mujoco_arm import MujocoDriver


def test_the_twin_sees_the_scene_and_the_arm_that_moves_in_it(fake, driver) -> None:
    robot = fake(10)
    cameras = twin_cameras(robot, ("exterior_left",), size=64)
    arm = driver(robot, cameras=cameras, patience_s=3.0)
    seen = arm.observe()
    own = MujocoDriver(cameras=("exterior_left",), width=64, height=64)
    expected = own.reset(seed=robot.seed).frames["exterior_left"].astype(float)
    np.testing.assert_allclose(seen.frames["exterior_left"].astype(float).mean(), expected.mean(), atol=3)
    assert np.abs(seen.frames["exterior_left"] - expected).mean() < 6
    arm.go(seen.pose + np.array([0, 0, 0.08, 0, 0, 0, 0]), duration_s=0.2)
    time.sleep(0.5)
    moved = arm.observe()
    assert np.abs(moved.frames["exterior_left"].astype(float) - expected).mean() > 3
    assert 0 <= time.monotonic() - moved.frame_times_s["exterior_left"] < 3.0
    own.close()
