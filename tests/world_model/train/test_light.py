"""Clips are shown in other light and in other colours, so that what is learnt holds in both."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from world_model.train.panda import PandaRecipe, hues_turned


@given(st.floats(-3.2, 3.2))
def test_a_turn_of_hues_keeps_grey_and_strength(radians: float) -> None:
    turn = hues_turned(torch.tensor(radians, dtype=torch.float64))
    torch.testing.assert_close(torch.ones(3).double() @ turn, torch.ones(3).double())
    torch.testing.assert_close(turn @ turn.T, torch.eye(3).double())


def test_a_third_of_a_turn_makes_red_green() -> None:
    turn = hues_turned(torch.tensor(2 * torch.pi / 3))
    torch.testing.assert_close(torch.eye(3)[0] @ turn, torch.eye(3)[1], atol=1e-6, rtol=0)


def test_a_clip_has_one_hue_and_other_clips_have_others() -> None:
    recipe = PandaRecipe(hue_turn=180.0, colour_jitter=0.0, frame_jitter=0.0)
    frames = torch.tensor([200, 80, 80], dtype=torch.uint8).expand(4, 5, 2, 6, 6, 3)
    lit = recipe._tinted(frames, torch.Generator().manual_seed(0)).float()
    assert torch.equal(lit, lit[:, :1, :1, :1, :1].expand_as(lit)), "frames and goals of a clip agree"
    seen = lit[:, 0, 0, 0, 0]
    apart = torch.cdist(seen, seen)[~torch.eye(4, dtype=torch.bool)]
    assert apart.min() > 10
    torch.testing.assert_close(seen.sum(-1), torch.full((4,), 360.0), atol=4, rtol=0)


def test_without_a_turn_and_jitter_frames_stay_as_they_are() -> None:
    recipe = PandaRecipe(colour_jitter=0.0, frame_jitter=0.0)
    frames = torch.randint(0, 256, (2, 3, 1, 4, 4, 3), dtype=torch.uint8)
    assert torch.equal(recipe._tinted(frames, torch.Generator().manual_seed(0)), frames.bfloat16())
