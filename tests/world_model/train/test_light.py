"""Clips are shown in other light and in other colours, so that what is learnt holds in both."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from world_model.train.panda import LUMINANCE, PandaRecipe, _mixed, hues_turned, saturated


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


@given(st.floats(0, 3))
def test_paler_or_more_vivid_is_as_bright(strength: float) -> None:
    change = saturated(torch.tensor(strength, dtype=torch.float64))
    grey = torch.tensor(LUMINANCE).double()
    torch.testing.assert_close(torch.ones(3).double() @ change, torch.ones(3).double())
    red = torch.eye(3).double()[0]
    torch.testing.assert_close((red @ change) @ grey, red @ grey)
    spread = (red @ change).amax() - (red @ change).amin()
    torch.testing.assert_close(spread, torch.tensor(strength).double())


def test_a_clip_is_as_pale_as_its_goals() -> None:
    recipe = PandaRecipe(saturation_change=0.8, colour_jitter=0.0, frame_jitter=0.0)
    frames = torch.tensor([200, 80, 80], dtype=torch.uint8).expand(8, 5, 2, 6, 6, 3)
    lit = recipe._tinted(frames, torch.Generator().manual_seed(0)).float()
    assert torch.equal(lit, lit[:, :1, :1, :1, :1].expand_as(lit))
    seen = lit[:, 0, 0, 0, 0]
    spread = seen.amax(-1) - seen.amin(-1)
    assert 23 <= spread.min() < 80 < 160 < spread.max() <= 217  # 120 before
    torch.testing.assert_close(seen @ torch.tensor(LUMINANCE), torch.full((8,), 115.88), atol=2, rtol=0)


def test_without_a_turn_and_jitter_frames_stay_as_they_are() -> None:
    recipe = PandaRecipe(colour_jitter=0.0, frame_jitter=0.0)
    frames = torch.randint(0, 256, (2, 3, 1, 4, 4, 3), dtype=torch.uint8)
    assert torch.equal(recipe._tinted(frames, torch.Generator().manual_seed(0)), frames.bfloat16())


@pytest.mark.parametrize("size", [(5, 3), (6, 6), (16, 8)])
def test_pixels_mixed_several_at_a_time_are_as_mixed_one_by_one(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8, generator=generator)
    mixing, offset = torch.rand(3, 3, 3, generator=generator), torch.rand(3, 1, 3, generator=generator)
    alone = frames.bfloat16().double() @ mixing.bfloat16().double()[:, None] + offset.bfloat16()[:, None]
    lit = _mixed(frames, mixing, 1.0 * offset).double()
    torch.testing.assert_close(lit, alone.clamp(0, 255), atol=1.0, rtol=2**-8)
