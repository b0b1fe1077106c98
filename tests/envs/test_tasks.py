"""Tasks: the script succeeds in both engines, undeserving hands do not, and goals are pictures of success."""

from __future__ import annotations

import numpy as np
import pytest

from envs import ENGINES, make_arm
from envs.arm import ArmError
from envs.baselines import score
from envs.tasks import OBJECT, TASKS, Judge, begin, make_goal


@pytest.fixture(scope="module", params=ENGINES)
def world(request):
    arm, driver = make_arm(request.param, cameras=())
    yield arm, driver
    arm.close()


@pytest.mark.parametrize("task", TASKS)
def test_the_script_succeeds_and_the_still_and_the_random_hand_do_not(world, task):
    arm, driver = world
    assert score(task, arm, driver, "scripted", episodes=2).rate == 1.0
    assert score(task, arm, driver, "still", episodes=2).rate == 0.0
    assert score(task, arm, driver, "random", episodes=2).rate == 0.0


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("engine", "least"), [("mujoco", 0.98), ("pybullet", 0.95)])
def test_the_script_succeeds_on_two_hundred_seeds(engine, least, task, split):
    arm, driver = make_arm(engine, cameras=(), split=split)
    found = score(task, arm, driver, "scripted", episodes=200)
    arm.close()
    assert found.rate >= least, found.failed


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("hand", ["still", "random"])
@pytest.mark.parametrize("task", TASKS)
def test_undeserving_hands_get_at_most_two_percent_of_two_hundred(task, hand):
    arm, driver = make_arm("mujoco", cameras=())
    found = score(task, arm, driver, hand, episodes=200)
    arm.close()
    assert found.rate <= 0.02


@pytest.mark.parametrize("task", TASKS)
def test_making_a_goal_leaves_the_world_as_it_was_and_shows_the_task_done(task):
    arm, driver = make_arm("mujoco", cameras=("exterior_left",), width=64, height=64)
    before = begin(task, arm, driver, seed=10_003)
    objects = driver.object_poses()
    goal = make_goal(task, arm, driver, seed=10_003)
    after = arm.observe()
    np.testing.assert_array_equal(before.pose, after.pose)
    np.testing.assert_array_equal(before.commanded, after.commanded)
    np.testing.assert_array_equal(objects[OBJECT], driver.object_poses()[OBJECT])
    np.testing.assert_array_equal(before.frames["exterior_left"], after.frames["exterior_left"])
    assert goal.task == task
    assert not np.array_equal(goal.views[-1].frames["exterior_left"], before.frames["exterior_left"])
    if task == "pick_place":
        assert [view.name for view in goal.views] == ["close", "lift", "carry", "retreat"]
        final = goal.views[-1].objects[OBJECT]
        assert np.linalg.norm(final[:2] - goal.target[:2]) < 0.01
        assert np.linalg.norm(objects[OBJECT][:2] - goal.target[:2]) > 0.079
    arm.close()


def test_an_object_that_is_held_over_its_target_is_not_placed():
    arm, driver = make_arm("mujoco", cameras=())
    begin("pick_place", arm, driver, seed=3)
    goal = make_goal("pick_place", arm, driver, seed=3)
    goal.target = np.array([*driver.object_poses()[OBJECT][:2], 0.0])  # it lies there already
    judge = Judge(goal, driver)
    above = np.add(driver.object_poses()[OBJECT][:3], (0, 0, 0.1))
    for _ in range(12):
        observation = arm.observe()
        arm.act(np.concatenate([above - observation.commanded[:3], np.zeros(3), [0.0]]).clip(-0.06, 0.06))
    lower = np.array([0, 0, -0.05, 0, 0, 0, 0])
    for action in (lower, lower, np.eye(7)[6], np.zeros(7), np.zeros(7)):
        arm.act(action)
    for _ in range(4):  # squeezed, in place, at rest: not released
        verdict = judge.see(arm.observe())
        arm.act(np.zeros(7))
    assert OBJECT in driver.touching()
    assert verdict.distance_m < 0.03
    assert not verdict.success
    arm.act(-np.eye(7)[6])
    for _ in range(6):
        arm.act(np.zeros(7))
        verdict = judge.see(arm.observe())
    assert verdict.success
    arm.close()


def test_an_unknown_task_or_hand_lists_what_exists(world):
    arm, driver = world
    with pytest.raises(ArmError, match=r"no task 'stack'; there are reach, grasp"):
        begin("stack", arm, driver, seed=0)
    with pytest.raises(ArmError, match=r"no hand 'lucky'; there are still, random, scripted"):
        score("reach", arm, driver, "lucky", episodes=1)
