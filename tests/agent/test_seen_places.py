"""Where the hand is seen is put right by what a calibration saw, and nothing else of a mind changes."""

from __future__ import annotations

import pytest
import torch

from agent.build import Mind
from agent.seen_places import body_of, corrected, fit_places, with_places
from world_model.heads.policy import Policy


def seen_of(true):
    """As a head sees places that is a centimetre off, sees four fifths of a way along x, and mixes z into y."""
    slopes = torch.tensor([[0.8, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 0.9]], dtype=true.dtype)
    return (true - 0.3) @ slopes + 0.3 + torch.tensor([0.01, 0.0, -0.02], dtype=true.dtype)


@pytest.fixture
def true():
    torch.manual_seed(0)
    return torch.tensor([0.5, 0.0, 0.2]) + 0.18 * (torch.rand(60, 3) - 0.5)


def test_an_affine_error_is_found_whole_where_it_is_believed(true):
    places = fit_places(seen_of(true), true, ridge=0.0)
    farther = torch.tensor([[0.3, -0.2, 0.1], [0.7, 0.3, 0.4]])
    torch.testing.assert_close(corrected(places, seen_of(farther)), farther, atol=1e-5, rtol=0)


def test_few_frames_move_the_slopes_less_than_the_shift(true):
    seen = seen_of(true)
    places = fit_places(seen, true)
    right = corrected(places, seen)
    torch.testing.assert_close(right.mean(0), true.mean(0), atol=1e-5, rtol=0)
    before, after = (seen - true - (seen - true).mean(0)).norm(), (right - true).norm()
    assert 0.1 * before < after < 0.5 * before
    noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)) * 0.02
    loud = torch.tensor(fit_places(true + noise, true))[:3].norm()
    assert loud < torch.tensor(fit_places(true + noise, true, ridge=0.0))[:3].norm()


def test_only_what_the_policy_sees_is_put_right(true):
    torch.manual_seed(1)
    policy = Policy(dim=16, width=32, depth=1, places=True).eval()
    mind = Mind(model=object(), heads={"policy": policy, "critic": object()}, normalisation={}, path=None)
    body, z, goal = body_of(mind), torch.randn(2, 1, 1, 16), torch.randn(2, 1, 1, 16)
    poses = torch.zeros(2, 1, 7)
    places = [[0.1, 0.0, 0.0], [0.0, -0.2, 0.0], [0.0, 0.0, 0.0], [0.01, 0.02, -0.03]]
    knowing = with_places(mind, places)
    place, closed = knowing.heads["policy"].body(z)
    before, same = body(z)
    torch.testing.assert_close(place, corrected(places, before))
    torch.testing.assert_close(closed, same)
    assert not torch.equal(knowing.heads["policy"].act(z, goal, poses), policy.act(z, goal, poses))
    assert mind.heads["policy"] is policy
    assert policy.body is body, "the mind that was given is as it was"
    assert knowing.heads["critic"] is mind.heads["critic"]
    assert with_places(mind, []) is mind
    sightless = Mind(model=None, heads={"policy": Policy(dim=16, width=32)}, normalisation={}, path=None)
    assert with_places(sightless, places) is sightless
