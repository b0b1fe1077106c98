"""The tasks as Gymnasium sees them."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import ENGINES
from envs.arm import ArmError
from envs.expert import ScriptedHand
from envs.gym import ENVIRONMENTS
from envs.scenes import SceneConfig, draw_scene
from envs.tasks import script

SMALL = {"width": 32, "height": 32, "cameras": ("exterior_left",)}


@pytest.mark.parametrize(
    ("name", "engine"), [("forearm/Reach-v0", "mujoco"), ("forearm/Grasp-v0", "pybullet")]
)
def test_an_environment_passes_gymnasiums_own_checker(name, engine):
    env = gymnasium.make(name, engine=engine, render_mode="rgb_array", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Metres and radians are what an action means: no rescaling to -1 .. 1 here.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        warnings.filterwarnings(
            "ignore", message=".*not within the observation space.*", category=DeprecationWarning
        )
        check_env(env.unwrapped)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_passes_gymnasiums_own_checker(name, engine):
    test_an_environment_passes_gymnasiums_own_checker(name, engine)


def test_every_task_is_registered_by_one_import():
    code = "import gymnasium, envs.gym; print(*sorted(n for n in gymnasium.registry if n.startswith('forearm/')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == sorted(ENVIRONMENTS)


def test_the_goal_is_seen_from_the_same_camera_and_the_script_gets_there():
    env = gymnasium.make("forearm/Grasp-v0", engine="mujoco", **SMALL)
    observation, info = env.reset(seed=7)
    assert [goal.name for goal in info["goals"]] == ["close", "lift"]
    assert not np.array_equal(
        observation["frames"]["exterior_left"], observation["goal"]["frames"]["exterior_left"]
    )
    inner = env.unwrapped
    hand = ScriptedHand(script("grasp", inner._driver, seed=7)[0])
    rewards = []
    for _ in range(30):
        seen = inner.arm.observe()
        action = hand.act(seen.pose, seen.commanded, inner._driver.object_poses())
        observation, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        rewards.append(reward)
        if terminated or truncated:
            break
    assert terminated
    assert info["success"]
    assert sum(rewards) == 1.0
    away = np.abs(
        observation["goal"]["frames"]["exterior_left"].astype(int) - observation["frames"]["exterior_left"]
    )
    assert away.mean() < 2
    env.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_environments_run_side_by_side(mode):
    # A forked process inherits an OpenGL context that it cannot use.
    settings = {"vector_kwargs": {"context": "spawn"}} if mode == "async" else {}
    envs = gymnasium.make_vec("forearm/Reach-v0", num_envs=2, vectorization_mode=mode, **settings, **SMALL)
    observation, info = envs.reset(seed=[3, 4])
    assert observation["frames"]["exterior_left"].shape == (2, 32, 32, 3)
    assert list(info["seed"]) == [3, 4]
    for _ in range(3):
        observation, reward, *_ = envs.step(envs.action_space.sample())
    assert reward.shape == (2,)
    assert np.isfinite(observation["pose"]).all()
    envs.close()


def test_seeds_give_scenes_and_their_absence_draws_new_ones():
    env = gymnasium.make("forearm/Reach-v0", **SMALL)
    one, _ = env.reset(seed=5)
    two, _ = env.reset()
    three, info = env.reset(seed=5)
    np.testing.assert_array_equal(one["frames"]["exterior_left"], three["frames"]["exterior_left"])
    assert not np.array_equal(one["pose"], two["pose"])
    assert info["seed"] == 5
    env.close()


def test_a_scene_of_ones_own_is_laid_out_and_other_options_are_refused():
    env = gymnasium.make("forearm/PickPlace-v0", **SMALL)
    scene = draw_scene(SceneConfig(shapes=["bowl"]), 3, "held_out")
    _, info = env.reset(seed=1, options={"scene": scene})
    assert env.unwrapped._driver.scene is scene
    assert info["distance_m"] == pytest.approx(
        np.hypot(*np.subtract(scene.target_xy, scene.objects[0].position[:2])), abs=2e-3
    )
    with pytest.raises(ArmError, match=r"no options \['scen'\]; there is scene"):
        env.reset(options={"scen": scene})
    env.close()


def test_bad_choices_list_what_exists():
    with pytest.raises(ArmError, match=r"no engine 'gazebo'; there are mujoco, pybullet"):
        gymnasium.make("forearm/Reach-v0", engine="gazebo")
    with pytest.raises(ArmError, match=r"no task 'pour'; there are reach, grasp"):
        gymnasium.make("forearm/Reach-v0", task="pour")
