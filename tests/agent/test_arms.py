"""The arm that `env` asks for."""

from __future__ import annotations

import numpy as np
import pytest

from agent.arms import open_arm
from agent.choices import Engine
from agent.settings import EnvConfig


@pytest.mark.parametrize("engine", [Engine.mujoco, Engine.pybullet])
def test_a_simulated_arm_keeps_the_envelope_that_env_asks_for(engine):
    low, high = [0.4, -0.22, 0.2], [0.62, 0.22, 0.3]
    arm, _ = open_arm(
        EnvConfig(
            engine=engine, workspace_low_m=low, workspace_high_m=high, cameras=["wrist"], image_size_px=16
        )
    )
    arm.reset(seed=0)
    rng = np.random.default_rng(0)
    told = [arm.act(rng.normal(size=7) * [0.03, 0.03, 0.03, 0, 0, 0.1, 0.4]).commanded[:3] for _ in range(60)]
    arm.close()
    assert (np.subtract(told, low) >= -1e-9).all()
    assert (np.subtract(told, high) <= 1e-9).all()
    assert np.isclose(told, high).any(axis=0)[2]  # it was driven against it


def test_what_only_a_real_arm_has_is_refused_for_a_simulated_one():
    with pytest.raises(
        ValueError, match=r"env.stiffness_n_m=300.0 is about a real arm, and env is mujoco: add"
    ):
        EnvConfig(stiffness_n_m=300.0)
    assert EnvConfig(engine=Engine.franka, stiffness_n_m=300.0).stiffness_n_m == 300.0
