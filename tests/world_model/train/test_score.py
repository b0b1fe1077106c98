"""Claims: a planner that finds what was done scores 80, one that does nothing scores what standing still costs."""

import numpy as np
import pytest
import torch

from world_model.train.latents import Latents
from world_model.train.score import action_score, choose_moments


@pytest.fixture
def held() -> Latents:
    """Ten episodes of a hand that walks 1 cm a step along x, and closes in the middle."""
    rows, episodes = 12, 10
    poses = torch.zeros(episodes * rows, 7)
    poses[:, 0] = 0.01 * torch.arange(rows).repeat(episodes)
    closing = (torch.arange(rows) >= 6).float().repeat(episodes)
    poses[:, 6] = torch.cat([closing[:1], closing[:-1]])
    poses[::rows, 6] = 0
    actions = torch.full((episodes * rows, 7), float("nan"))
    actions[:-1] = poses[1:] - poses[:-1]
    actions[:, 6] = closing - poses[:, 6]
    actions[rows - 1 :: rows] = float("nan")
    latents = poses[:, None, :2].repeat(1, 1, 4)
    return Latents(
        latents=latents, poses=poses, actions=actions,
        first=np.arange(episodes) * rows, rows=np.full(episodes, rows),
    )  # fmt: skip


def test_doing_what_was_done_is_worth_eighty(held):
    moments = choose_moments(held, horizon=3)
    at = iter(range(len(moments.goal)))

    def knows(memory, goal):
        return torch.stack([moments.done[next(at)] for _ in range(len(goal))])

    score = action_score(moments, knows, told_absolute=True)
    assert score.score == pytest.approx(80, abs=0.01)
    assert score.gripper_right == 1
    assert score.still_m == pytest.approx(0.03, abs=1e-6)


def test_standing_still_is_worth_what_the_hand_moved(held):
    score = action_score(choose_moments(held), lambda m, g: torch.zeros(len(g), 3, 7), told_absolute=True)
    assert score.error_m == pytest.approx(score.still_m)
    assert score.score == pytest.approx(800 * 0.07, abs=0.01)
    assert "end position 30.0 mm off, doing nothing 30.0 mm" in str(score)


def test_a_changed_gripper_is_understood_as_a_change(held):
    moments = choose_moments(held, horizon=3)
    start = moments.memory.poses[:, -1:, 6]
    changes = moments.done.clone()
    changes[..., 6] = torch.cat([moments.done[:, :1, 6] - start, moments.done[..., 6].diff(dim=1)], 1)
    at = iter(range(len(changes)))
    score = action_score(
        moments, lambda m, g: torch.stack([changes[next(at)] for _ in range(len(g))]), told_absolute=False
    )
    assert score.gripper_right == 1


def test_moments_stay_within_their_episode(held):
    moments = choose_moments(held, horizon=3, context=3, count=1000)
    assert moments.done.isfinite().all()
    assert moments.memory.actions.isfinite().all()
    assert moments.places.diff(dim=1)[..., 0].min() > 0, "a window runs over an episode's end"
    assert len(moments.goal) == 10 * (12 - 2 - 3)


def test_episodes_that_are_too_short_are_named(held):
    held.rows = np.full(10, 5)
    with pytest.raises(ValueError, match=r"no held-out episode has 6 steps \(the longest of 10 has 5\)"):
        choose_moments(held)
