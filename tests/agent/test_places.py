"""Places of the hand and of things are read off latents by probes that were fitted on other scenes."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from agent.imagining import Encoded
from agent.places import place_probes
from agent.recorded import Stretch
from data.cache import FrameCache
from data.cache_jobs import CacheSettings

ROWS = 600


class Sees:
    """Six brightnesses of a picture, mixed: hand and thing in space, each number between 0 and 1."""

    mix = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))

    def encode(self, frames):
        return (frames[:, 0, 0, :6, 0].float() / 255 @ self.mix)[:, None]


class Blind(Sees):
    def encode(self, frames):
        return torch.zeros_like(super().encode(frames))


def pictures(places: torch.Tensor) -> torch.Tensor:
    frames = torch.zeros(len(places), 1, 8, 8, 3, dtype=torch.uint8)
    frames[:, 0, 0, :6, 0] = (255 * places).round().to(torch.uint8)
    return frames


@pytest.fixture
def scenes(tmp_path) -> FrameCache:
    """A cache in which one thing has fallen out of the world, and one was never there."""
    places = torch.rand(ROWS, 6, generator=torch.Generator().manual_seed(0)) / 2
    poses = torch.cat([places[:, :3], torch.zeros(ROWS, 4)], 1)
    columns = {
        "frames": pictures(places),
        "poses": poses,
        "actions": torch.zeros(ROWS, 7),
        "times": torch.arange(ROWS) / 5,
    }
    things = np.concatenate([places[:, 3:].numpy(), np.tile([0, 0, 0, 1.0], (ROWS, 1))], 1).astype(np.float32)
    things[7, 2] = -90.0
    things[8] = 0.0
    (tmp_path / "objects").mkdir()
    things.tofile(tmp_path / "objects" / "thing.f32")
    settings = CacheSettings(cameras=("a",), image_size=8, crop="square", period_s=0.2)
    return FrameCache(tmp_path, settings, TensorDict(columns, [ROWS]), [])


def judged(world: Sees) -> list[Encoded]:
    places = torch.rand(40, 6, generator=torch.Generator().manual_seed(2)) / 2
    upright = torch.tensor([0, 0, 0, 1.0]).expand(40, 4)
    stretch = Stretch(
        frames=pictures(places), poses=torch.cat([places[:, :3], torch.zeros(40, 4)], 1), actions=torch.zeros(39, 7),
        rows=np.arange(40), objects={"thing": torch.cat([places[:, 3:], upright], 1)},
    )  # fmt: skip
    return [Encoded(stretch=stretch, latents=world.encode(stretch.frames)[None])]


def test_what_is_in_the_latent_is_read_off_other_scenes_though_one_thing_fell(scenes):
    found = place_probes(Sees(), scenes, judged(Sees()))
    assert found.keys() == {"hand_xyz", "hand_xyz_mlp", "thing_xyz", "thing_xyz_mlp"}
    assert max(probe.error for probe in found.values()) < 5, "millimetres"


def test_what_is_not_in_the_latent_is_not_read_off_it(scenes):
    found = place_probes(Blind(), scenes, judged(Blind()))
    assert min(probe.error for probe in found.values()) > 100
