"""Maps of what the eye sees: colours that mean the same in every map, differences that add up, frames that are real."""

import numpy as np
import pytest
import torch

from agent.seeing import maps
from agent.seeing.nearest import RealFrames
from data.types import Conventions
from world_model.compact import CompactModel


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = {
        "dim": 16,
        "channels": (8, 8, 16),
        "shrinks": (1, 2),
        "view_width": 16,
        "width": 32,
        "depth": 1,
        "heads": 2,
    }
    return CompactModel(Conventions(image_size=32), **config).eval()


def frames(seed, count=1):
    return torch.randint(
        0, 256, (count, 2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_an_encoder_cut_in_two_is_the_encoder(model):
    seen = frames(0, 3)
    assert torch.equal(model.from_maps(model.maps(seen)), model.encode(seen))


def test_what_differs_adds_up_to_the_latent_distance(model, monkeypatch):
    """Integrated gradients are complete: all places together make the whole distance."""
    monkeypatch.setattr(maps, "PATH_POINTS", 64)
    now, goal = frames(1, 3), frames(2)
    with torch.no_grad():
        wanted = model.encode(goal)[0]
        distance = (model.encode(now) - wanted).square().mean((-1, -2))
    found = maps.eye_difference(model, maps.eye_maps(model, now), maps.eye_maps(model, goal), wanted)
    total = sum(view.sum((-1, -2)) for view in found)
    torch.testing.assert_close(total, distance, rtol=0.03, atol=1e-4)


def test_what_differs_is_where_the_pictures_differ(model):
    goal = frames(3)
    now = goal.clone()
    now[0, 0, 8:16, 16:24] = 255 - now[0, 0, 8:16, 16:24]  # one square of one camera
    with torch.no_grad():
        wanted = model.encode(goal)[0]
    first, second = maps.eye_difference(model, maps.eye_maps(model, now), maps.eye_maps(model, goal), wanted)
    assert float(second.abs().max()) < 1e-6, "the other camera saw the same"
    side = first.shape[-1]
    row, column = divmod(int(first[0].abs().argmax()), side)
    assert 8 / 32 - 1 / side <= row / side <= 16 / 32
    assert 16 / 32 - 1 / side <= column / side <= 24 / 32
    same = maps.eye_difference(model, maps.eye_maps(model, goal), maps.eye_maps(model, goal), wanted)
    assert all(float(view.abs().max()) == 0 for view in same)


def test_token_by_token_the_distance_is_the_mean():
    now, goal = torch.randn(2 * 9, 5), torch.randn(2 * 9, 5)
    found = maps.token_difference(now, goal, 2)
    assert [f.shape for f in found] == [(3, 3), (3, 3)]
    torch.testing.assert_close(torch.stack(found).mean(), (now - goal).square().mean())
    assert maps.has_tokens(now, 2)
    assert not maps.has_tokens(now[:1], 2)
    assert not maps.has_tokens(now[:17], 2)


def test_one_basis_colours_all_maps_alike():
    generator = torch.Generator().manual_seed(4)
    directions = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q[:3]
    spread = torch.randn(400, 3, generator=generator) * torch.tensor([5.0, 3.0, 1.0])
    cloud = spread @ directions + 0.01 * torch.randn(400, 12, generator=generator)
    basis = maps.Basis.of(cloud)
    agreement = (basis.axes.T.float() @ directions.T).abs()
    torch.testing.assert_close(agreement, torch.eye(3), atol=0.05, rtol=0)
    colours = basis.colours(cloud)
    assert np.array_equal(colours[:10], basis.colours(cloud[:10])), "a colour depends on the feature alone"
    assert colours.min() == 0
    assert colours.max() == 255
    flipped = maps.Basis.of(cloud.flip(0))
    assert np.abs(flipped.colours(cloud).astype(int) - colours).max() <= 1, (
        "the sign of an axis is not left to chance"
    )


def test_heat_is_seen_and_cold_is_grey():
    picture = np.full((32, 32, 3), 120, np.uint8)
    heat = torch.zeros(4, 4)
    heat[1, 2] = 2.0
    shown = maps.heated(picture, heat, most=2.0)
    assert shown[12, 20, 0] > shown[12, 20, 2] + 80
    assert np.ptp(shown[28, 4].astype(int)) <= 1


def test_the_nearest_real_frame_is_really_the_nearest():
    generator = torch.Generator().manual_seed(5)
    seen = torch.randn(30, 1, 8, generator=generator)
    real = RealFrames(scale=2.0)
    with pytest.raises(ValueError, match="nothing was seen yet"):
        real.nearest(seen[0])
    for number, latent in enumerate(seen):
        real.add(latent, np.full((2, 4, 4, 3), number, np.uint8), f"step {number}")
    exact = real.nearest(seen[17])
    assert (exact.where, exact.distance, exact.frames[0, 0, 0, 0]) == ("step 17", 0.0, 17)
    asked = torch.randn(1, 8, generator=generator)
    gaps = (seen - asked).square().mean((1, 2))
    found = real.nearest(asked)
    assert found.where == f"step {int(gaps.argmin())}"
    assert found.distance == pytest.approx(float(gaps.min()) / 2)
