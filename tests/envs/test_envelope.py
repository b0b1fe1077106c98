"""One million actions: none leaves the envelope, none that fits is touched, the others end at the nearest pose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data.poses import apply_action
from envs.arm import Limits, Refused
from envs.envelope import admissible, check_action, check_limits, clip, safe_pose

LIMITS = (
    Limits(),
    Limits(max_tilt_rad=np.pi, max_turn_rad=0.2),
    Limits(max_turn_rad=np.pi, max_step_m=1.0),
    Limits(low=(0.3, -0.1, 0.0), high=(0.35, 0.1, 0.3), max_step_m=0.2, max_turn_rad=1.0, table_z=0.02),
)
CHUNK = 20_000


def _actions(rng: np.random.Generator, anchor: np.ndarray, limits: Limits) -> np.ndarray:
    count = len(anchor)
    action = rng.normal(size=(count, 7))
    action *= rng.choice([1e-6, 0.02, 0.1, 1.0, 1e3, 1e12, 1e300], (count, 1))
    kind = rng.integers(0, 5, count)
    edge = kind == 1  # towards a corner of the workspace, or to just inside the step
    corner = np.where(rng.uniform(size=(count, 3)) < 0.5, limits.low, limits.high)
    action[edge, :3] = ((corner - anchor[:, :3]) * rng.uniform(0.9, 1.1, (count, 1)))[edge]
    one = kind == 2  # a single component
    action[one] *= np.eye(7)[rng.integers(0, 7, one.sum())]
    small = kind == 3  # plausible
    action[small] = rng.normal(size=(small.sum(), 7)) * [0.03, 0.03, 0.03, 0.12, 0.12, 0.12, 0.4]
    half = kind == 4  # turns of nearly half a circle, where quaternions have two minds
    axis = rng.normal(size=(count, 3))
    axis *= rng.uniform(0.9, 1.0, (count, 1)) * np.pi / np.linalg.norm(axis, axis=-1, keepdims=True)
    action[half, 3:6] = Rotation.from_rotvec(axis[half]).as_euler("xyz")
    return action


def test_a_million_actions_stay_in_the_envelope_unchanged_where_they_fit_and_nearest_where_not(oracle):
    rng = np.random.default_rng(1)
    inside = 0
    for chunk in range(50):
        limits = LIMITS[0 if chunk % 2 else chunk // 2 % len(LIMITS)]
        anchor = oracle.anchors(rng, CHUNK, limits)
        action = _actions(rng, anchor, limits)
        wanted = apply_action(torch.from_numpy(anchor), torch.from_numpy(action)).numpy()
        clipped = clip(anchor, wanted, limits)
        assert (oracle.excess(anchor, clipped.pose, limits)[~clipped.impossible] < 1e-7).all()
        # Only a table that lies above the floor of a small step can make it impossible.
        assert clipped.impossible.mean() < 1e-3
        fits = oracle.excess(anchor, wanted, limits) < -1e-9
        inside += int(fits.sum())
        assert (clipped.pose[fits] == wanted[fits]).all()
        some = slice(0, 2000)
        _assert_nearest(
            rng, oracle, anchor[some], wanted[some], clipped.pose[some], clipped.impossible[some], limits
        )
    assert inside > 50_000  # the claim above was not empty


def _assert_nearest(rng, oracle, anchor, wanted, pose, impossible, limits):
    direction = wanted[:, :3] - pose[:, :3]
    length = np.linalg.norm(
        direction / np.abs(direction).max(-1, keepdims=True).clip(1e-300), axis=-1, keepdims=True
    )
    direction = direction / np.abs(direction).max(-1, keepdims=True).clip(1e-300) / length.clip(1e-300)
    away = oracle.rotation(wanted)
    angle = (oracle.rotation(pose) * away.inv()).magnitude()
    wide = Limits(
        max_turn_rad=limits.max_turn_rad,
        max_tilt_rad=limits.max_tilt_rad,
        low=(0, -1, 0),
        high=(1, 1, 1),
        table_z=-1,
    )
    for scale in (1e-3, 0.03, 1.0):
        other = pose.copy()
        other[:, :3] += rng.normal(size=(len(pose), 3)) * scale * limits.max_step_m
        fits = (oracle.excess(anchor, other, limits) <= 0) & ~impossible
        # A convex set: no admissible point lies farther along the way to the wanted one.
        ahead = ((other[:, :3] - pose[:, :3]) * direction).sum(-1)
        assert (ahead[fits] < 1e-6).all()
        other = pose.copy()
        turn = Rotation.from_rotvec(rng.normal(size=(len(pose), 3)) * scale * limits.max_turn_rad)
        other[:, 3:6] = (turn * oracle.rotation(pose)).as_euler("xyz")
        here = anchor.copy()
        here[:, :3] = other[:, :3] = (0.5, 0.0, 0.4)  # where no position binds
        fits = (oracle.excess(here, other, wide) <= 0) & ~impossible
        nearer = angle - (turn * oracle.rotation(pose) * away.inv()).magnitude()
        assert (nearer[fits] < 1e-6).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", range(7))
def test_non_finite_actions_are_refused_with_the_place(bad, index):
    action = np.zeros(7)
    action[index] = bad
    with pytest.raises(Refused, match=rf"finite.*\[{index}\]"):
        check_action(action)


@pytest.mark.parametrize("bad", [np.zeros(6), np.zeros((1, 7)), 3.0, None, "up", [1, 2], {"x": 1}])
def test_what_is_not_seven_numbers_is_refused(bad):
    with pytest.raises(Refused, match="7"):
        check_action(bad)


finite = st.floats(-1e6, 1e6, allow_nan=False)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=150, deadline=None)
@given(seed=seeds, action=st.lists(finite, min_size=7, max_size=7))
def test_clipping_twice_changes_nothing(oracle, seed, action):
    anchor = oracle.anchors(np.random.default_rng(seed), 1, Limits())[0]
    once = safe_pose(anchor, np.array(action), Limits()).commanded
    again = clip(anchor, once, Limits()).pose
    np.testing.assert_array_equal(once, again)
    assert admissible(anchor, once, Limits())


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_a_zero_action_changes_nothing(oracle, seed):
    anchor = oracle.anchors(np.random.default_rng(seed), 1, Limits())[0]
    outcome = safe_pose(anchor, np.zeros(7), Limits())
    np.testing.assert_allclose(outcome.commanded[:3], anchor[:3], atol=0)
    assert not outcome.clipped, outcome.notes


def test_a_position_is_projected_on_box_and_ball_at_once():
    """Against Dykstra's alternating projections, which need no conditions of optimality."""
    rng = np.random.default_rng(5)
    limits = Limits()
    anchor = np.array([0.74, 0.34, 0.02, np.pi, 0, 0, 0])
    for _ in range(20):
        wanted = anchor.copy()
        wanted[:3] += rng.normal(size=3) * 0.2
        point, p, q = wanted[:3].copy(), np.zeros(3), np.zeros(3)
        for _ in range(3000):
            boxed = np.clip(point + p, limits.low, limits.high)
            p = point + p - boxed
            away = boxed + q - anchor[:3]
            point = anchor[:3] + away * min(1, limits.max_step_m / np.linalg.norm(away))
            q = boxed + q - point
        np.testing.assert_allclose(clip(anchor, wanted, limits).pose[:3], point, atol=1e-5)


def test_a_tilted_open_hand_keeps_its_lower_finger_off_the_table(oracle):
    anchor = np.array([0.5, 0.0, 0.06, np.pi - 0.55, 0.0, 0.0, 0.0])
    outcome = safe_pose(anchor, np.array([0, 0, -0.05, 0, 0, 0, 0.0]), Limits())
    assert outcome.clipped
    assert 0.03 < outcome.commanded[2] < 0.05
    assert abs(oracle.excess(anchor[None], outcome.commanded[None], Limits())[0]) < 1e-9


def test_joint_limits_draw_the_pose_back_towards_the_anchor():
    anchor = np.array([0.5, 0.0, 0.2, np.pi, 0, 0, 0])
    high = np.full(7, 1.0)

    def joints_for(pose):
        return np.full(7, (pose[0] - 0.5) * 20)  # 1 rad at 5 cm

    action = np.array([0.06, 0.0, 0.0, 0, 0, 0, 0.3])
    outcome = safe_pose(anchor, action, Limits(), joints_for=joints_for, joint_low=-high, joint_high=high)
    assert "as the joints allow" in outcome.notes[0]
    assert 0.0455 < outcome.commanded[0] - 0.5 <= 0.0475  # 0.95 rad, found to 2 % of the step
    assert outcome.commanded[6] == pytest.approx(0.3)
    slow = safe_pose(anchor, action, Limits(), joints_for=joints_for, joints=np.zeros(7), period_s=0.2)
    assert 0.0155 < slow.commanded[0] - 0.5 <= 0.016  # 1.6 rad/s for 0.2 s are 0.32 rad
    nowhere = safe_pose(anchor, action, Limits(), joints_for=lambda pose: None)
    np.testing.assert_array_equal(nowhere.commanded[:6], anchor[:6])


def test_a_gripper_at_its_force_limit_closes_no_further_but_opens():
    anchor = np.array([0.5, 0.0, 0.2, np.pi, 0, 0, 0.4])
    close, open_ = np.eye(7)[6] * 0.3, -np.eye(7)[6] * 0.3
    assert safe_pose(anchor, close, Limits(), gripper_force_n=41).commanded[6] == pytest.approx(0.4)
    assert safe_pose(anchor, close, Limits(), gripper_force_n=39).commanded[6] == pytest.approx(0.7)
    assert safe_pose(anchor, open_, Limits(), gripper_force_n=41).commanded[6] == pytest.approx(0.1)


def test_an_arm_far_outside_is_refused_and_one_just_outside_comes_back():
    far = np.array([1.2, 0.0, 0.2, np.pi, 0, 0, 0])
    with pytest.raises(Refused, match="outside its envelope"):
        safe_pose(far, np.zeros(7), Limits())
    near = np.array([0.76, 0.0, 0.2, np.pi, 0, 0, 0])
    assert safe_pose(near, np.zeros(7), Limits()).commanded[0] == pytest.approx(0.75)
    upside_down = np.array([0.5, 0.0, 0.2, 0.0, 0, 0, 0])
    with pytest.raises(Refused, match="outside its envelope"):
        safe_pose(upside_down, np.zeros(7), Limits())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(low=(0.8, 0, 0)), "x goes from 0.8"),
        (Limits(max_step_m=0.0), "max_step_m is 0.0"),
        (Limits(table_z=0.6), "in the table"),
    ],
)
def test_limits_that_contradict_themselves_are_named(limits, words):
    with pytest.raises(ValueError, match=words):
        check_limits(limits)
