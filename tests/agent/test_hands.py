"""What the collecting hands do, over many scenes."""

from collections import Counter

import numpy as np
import pytest

from agent.hands import ImperfectHand, PlayHand, draw_hand
from agent.settings import Proportions
from envs.expert import STEP_M
from envs.scenes import SceneConfig, draw_scene

CONFIG = SceneConfig()
SEEDS = 300
FAR = np.array([0.4, 0.2, 0.3, np.pi, 0, 0, 0.0])


def drawn(proportions, seed):
    return draw_hand(proportions, draw_scene(CONFIG, seed), CONFIG, np.random.default_rng([seed, 4242]))


def test_kinds_come_in_the_proportions_asked_for():
    asked = Proportions()
    weights = {k: getattr(asked, k) for k in ("pick_place", "lift", "near_play", "free_play", "drill")}
    counts = Counter(drawn(asked, seed)[0] for seed in range(SEEDS))
    for kind, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(counts[kind] - SEEDS * share) < 3.5 * np.sqrt(SEEDS * share * (1 - share)), (kind, counts)


def test_a_kind_alone_is_all_there_is():
    alone = Proportions(pick_place=0, lift=0, near_play=0, free_play=0, drill=2.0)
    assert {drawn(alone, seed)[0] for seed in range(20)} == {"drill"}


@pytest.mark.parametrize(
    "wrong",
    [{"pick_place": -0.1}, dict.fromkeys(("pick_place", "lift", "near_play", "free_play", "drill"), 0.0)],
)
def test_proportions_that_leave_nothing_to_draw_are_named(wrong):
    with pytest.raises(ValueError, match="proportions"):
        drawn(Proportions(**wrong), 0)


def test_actions_are_finite_and_no_longer_than_a_step_and_its_noise():
    for seed in range(40):
        _, hand = drawn(Proportions(), seed)
        scene = draw_scene(CONFIG, seed)
        objects = {"object": np.array([*scene.objects[0].position[:2], 0.02, 0, 0, 0, 1.0])}
        pose = FAR.copy()
        for _ in range(30):
            action = hand.act(pose, pose, objects)
            assert np.isfinite(action).all()
            assert np.linalg.norm(action[:3]) < STEP_M + 6 * 0.015 * np.sqrt(3)
            pose[:3] += action[:3]
            pose[6] = np.clip(pose[6] + action[6], 0, 1)


def test_near_play_stays_near_and_reaches_the_table():
    hand = PlayHand("near_play", CONFIG, np.random.default_rng(0))
    objects = {"object": np.array([0.5, 0.1, 0.02, 0, 0, 0, 1.0])}
    pose, gaps, heights = FAR.copy(), [], []
    for _ in range(300):
        pose[:3] += hand.act(pose, pose, objects)[:3]
        gaps.append(np.linalg.norm(pose[:2] - objects["object"][:2]))
        heights.append(pose[2])
    assert np.median(gaps) < 0.08
    assert min(heights) < 0.04


def test_a_lost_object_is_fetched_again():
    _, hand = next(
        found
        for seed in range(50)
        if isinstance(
            (found := drawn(Proportions(interruptions=0.0, noise_m=(0.0,)), seed))[1], ImperfectHand
        )
    )
    objects = {"object": np.array([0.5, 0.1, 0.02, 0, 0, 0, 1.0])}
    pose = FAR.copy()

    def act():
        action = hand.act(pose, pose, objects)
        pose[:3] += action[:3]
        pose[6] = np.clip(pose[6] + action[6], 0, 1)
        if pose[6] > 0.5:
            objects["object"][:3] = pose[:3]

    for _ in range(60):
        act()
        if objects["object"][2] > 0.06:
            break
    assert objects["object"][2] > 0.06, "it never lifted the object"
    objects["object"][:3] = [0.5, -0.1, 0.02]  # lost
    for _ in range(60):
        action = hand.act(pose, pose, objects)
        pose[:3] += action[:3]
        pose[6] = np.clip(pose[6] + action[6], 0, 1)
        if np.linalg.norm(pose[:3] - objects["object"][:3]) < 0.02:
            return
    raise AssertionError("it did not go back to the object")
