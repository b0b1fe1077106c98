"""The arm that `env` asks for."""

from __future__ import annotations

import numpy as np
import pytest

from agent.arms import check_agrees, open_arm
from agent.build import AgentSettings, planner_from
from agent.choices import Crop, Engine
from agent.cli import schemas
from agent.settings import EnvConfig
from data.types import Conventions


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


def test_an_arm_that_shows_or_does_something_else_than_the_model_learned_is_refused_by_name(caplog):
    model = Conventions(image_size=64, period_s=0.2, tool="flange")
    with pytest.raises(
        ValueError, match=r"image_size: 64 here, 128 there; period_s: 0.2 here, 0.5 there \(here the"
    ):
        check_agrees(EnvConfig(period_s=0.5), model)
    with pytest.raises(ValueError, match="crop: 'droid_train' here, 'square' there"):
        check_agrees(EnvConfig(engine=Engine.franka), Conventions(crop="droid_train"))
    check_agrees(EnvConfig(engine=Engine.franka, crop=Crop.droid_train), Conventions(crop="droid_train"))
    caplog.clear()
    check_agrees(EnvConfig(image_size_px=64), model)
    assert "poses of the flange, this arm tells those of the point between the fingertips" in caplog.text


def test_an_agent_made_in_python_plans_as_the_commands_do():
    def planner(*words: str):
        return planner_from(schemas.compose(schemas.Command("plan"), list(words)).planner)

    assert AgentSettings().planner == planner()
    assert AgentSettings().planner != planner("planner=seeded")
