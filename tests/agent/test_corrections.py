"""Episodes that an agent drives, and what the scripted hand makes of where it got to."""

from pathlib import Path

import numpy as np
import pytest

from agent.collect import CollectSettings, collect
from agent.corrections import what_is_left
from agent.settings import DrivenConfig, EnvConfig
from data.source import open_log
from envs import make_arm
from envs.expert import ScriptedHand, Waypoint
from envs.tasks import OBJECT, Judge, begin, drive, make_goal, script


@pytest.fixture(scope="module")
def world():
    arm, driver = make_arm("mujoco", width=32, height=32)
    yield arm, driver
    arm.close()


@pytest.mark.parametrize("task", ["reach", "grasp", "reach_with_object", "pick_place"])
@pytest.mark.parametrize("done_steps", [0, 4, 7, 11, 17])
def test_what_is_left_of_a_task_finishes_it(world, task, done_steps):
    arm, driver = world
    seed = 500 + done_steps
    begin(task, arm, driver, seed=seed)
    goal = make_goal(task, arm, driver, seed=seed)
    drive(arm, driver, ScriptedHand(script(task, driver, seed=seed)[0]), done_steps)
    finish(arm, driver, goal, task)


@pytest.mark.parametrize("task", ["grasp", "reach_with_object"])
def test_a_thing_that_is_held_as_it_should_be_is_not_let_go_of(world, task):
    """It was dropped and taken again, in a quarter of all corrections, and a policy learned to drop what it held."""
    arm, driver = world
    begin(task, arm, driver, seed=502)
    goal = make_goal(task, arm, driver, seed=502)
    drive(arm, driver, ScriptedHand(script(task, driver, seed=502)[0]), 24)
    observation = arm.observe()
    assert OBJECT in driver.touching()
    hand = ScriptedHand(what_is_left(task, driver, observation, goal.target, done=True))
    for _ in range(20):
        arm.act(hand.act(observation.pose, observation.commanded, driver.object_poses()))
        observation = arm.observe()
        assert OBJECT in driver.touching()
        assert observation.commanded[6] > 0.5


@pytest.mark.parametrize("offset", [(0.02, 0.0, 0.0), (-0.015, 0.02, 0.01), (0.0, -0.05, 0.0)])
@pytest.mark.parametrize("closedness", [0.0, 1.0])
def test_a_hand_beside_the_thing_is_brought_to_it(world, offset, closedness):
    arm, driver = world
    begin("grasp", arm, driver, seed=7)
    goal = make_goal("grasp", arm, driver, seed=7)
    above = (offset[0], offset[1], 0.08)
    waypoints = [
        Waypoint(name="hover", object=OBJECT, offset=above, closedness=closedness),
        Waypoint(name="beside", object=OBJECT, offset=(*offset[:2], 0.05), closedness=closedness),
    ]
    drive(arm, driver, ScriptedHand(waypoints), 20)
    finish(arm, driver, goal, "grasp")


def finish(arm, driver, goal, task):
    judge = Judge(goal, driver)
    observation = arm.observe()
    hand = ScriptedHand(what_is_left(task, driver, observation, goal.target))
    success = False
    for _ in range(50):
        success |= judge.see(observation).success
        arm.act(hand.act(observation.pose, observation.commanded, driver.object_poses()))
        observation = arm.observe()
    assert success, f"{task}: ended at {observation.pose}, the thing at {driver.object_poses()[OBJECT]}"


@pytest.mark.parametrize("correct", [True, False])
def test_an_agent_records_readable_episodes_that_its_seed_decides(tmp_path: Path, correct):
    settings = CollectSettings(
        steps=8, env=EnvConfig(), driven=DrivenConfig(mode="policy", correct=correct, noise_m=(0.0,))
    )
    for name in ("one", "two"):
        collect(tmp_path / name, episodes=2, workers=1, seed=40, settings=settings)
    one, two = (open_log(tmp_path / name) for name in ("one", "two"))
    report = one.check()
    assert len(report.accepted) == 2, report
    for key in report.accepted:
        episode, again = one.open(key), two.open(key)
        assert len(episode) >= 3
        np.testing.assert_array_equal(episode.ee_position, again.ee_position)
        assert episode.task.startswith("corrected_" if correct else "agent_")
