"""Claims: a model that goes on keeps what it knew, and what is new learns before it pulls at anything."""

import numpy as np
import pytest
import torch

from data.cache_jobs import Stretch
from data.hindsight import HindsightLoader
from data.types import Conventions
from world_model.checkpoint import save_head, save_model
from world_model.compact import CompactModel
from world_model.heads.critic import Critic
from world_model.heads.policy import Policy
from world_model.train.adapt import bring_heads, recalibrate, settle
from world_model.train.latents import Latents
from world_model.train.panda import PandaModel


@pytest.fixture(scope="module")
def model() -> PandaModel:
    torch.manual_seed(0)
    return PandaModel(CompactModel(Conventions(cameras=("exterior_left",), image_size=32)))


@pytest.fixture
def walk() -> tuple[Latents, torch.Tensor]:
    """Latents that a step changes by a linear function of the action, and that hold where a thing is."""
    generator = torch.Generator().manual_seed(1)
    count, dim = 600, 256
    actions = 0.03 * torch.randn(count, 7, generator=generator)
    how = torch.randn(7, dim, generator=generator)
    place = 0.1 * torch.rand(count, 3, generator=generator) + torch.tensor([0.5, 0.0, 0.05])
    latents = torch.zeros(count, 1, dim)
    for row in range(1, count):
        latents[row] = 0.5 * latents[row - 1] + (actions[row - 1] / 0.03) @ how
    latents[:, 0, :3] = 20 * (place - torch.tensor([0.5, 0.0, 0.05]))
    poses = torch.zeros(count, 7)
    first, rows = np.arange(0, count, 20), np.full(count // 20, 20)
    return Latents(latents=latents, poses=poses, actions=actions, first=first, rows=rows), place


def test_helpers_settle_and_nothing_else_moves(model, walk):
    latents, place = walk
    before = {name: value.clone() for name, value in model.state_dict().items()}
    early = settle(model, latents, place, steps=5, batch=64)
    late = settle(model, latents, place, steps=150, batch=64)
    assert late["inverse"] < 0.5 * early["inverse"]
    assert late["touch"] < 0.5 * early["touch"]
    assert late["body"] < 0.5 * early["body"]
    moved = {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"inverse", "touch", "body"}


def test_norms_are_measured_again_where_the_model_is_now(model):
    world = model.world.eval()
    dark = torch.randint(0, 80, (96, 1, 32, 32, 3), dtype=torch.uint8)
    weights = {name: value.clone() for name, value in world.named_parameters()}
    assert recalibrate(world, dark.split(48)) == 3
    with torch.no_grad():
        z = world.encode(dark)[:, 0]
    assert z.mean(0).abs().mean() < 0.1
    assert z.std(0).mean() == pytest.approx(1.0, abs=0.15)
    assert not world.training
    assert all(torch.equal(value, weights[name]) for name, value in world.named_parameters())


def test_the_given_models_heads_are_brought_where_they_fit(tmp_path, model):
    folder, policy = tmp_path / "given", Policy(dim=model.world.dim, places=True)
    save_model(folder, model.world, kind="compact", config={}, conventions=model.world.conventions)
    save_head(folder, "policy", policy, config={"dim": model.world.dim, "places": True})
    save_head(
        folder, "critic", Critic(dim=model.world.dim, width=64), config={"dim": model.world.dim, "width": 64}
    )
    assert bring_heads(model, folder) == ["policy"], "the critic is of another size"
    assert all(torch.equal(a, b) for a, b in zip(model.policy.parameters(), policy.parameters(), strict=True))


def test_logs_are_drawn_by_their_shares(make_cache):
    cache = make_cache(episodes=20)
    cache.episodes = [
        Stretch(
            **{
                **{f: getattr(e, f) for f in Stretch.__dataclass_fields__},
                "source": "mine" if i < 4 else "theirs",
            }
        )
        for i, e in enumerate(cache.episodes)
    ]
    cache.poses[:, 3] = torch.arange(20).repeat_interleave(12)
    weights = np.array([1 / 4 if e.source == "mine" else 1 / 16 for e in cache.episodes])
    loader = HindsightLoader(cache, batch=400, length=3, episodes=range(20), weights=weights)
    plain = HindsightLoader(cache, batch=400, length=3, episodes=range(20))

    def share(loader) -> float:
        """Of clips that are cut from the first four episodes."""
        return float((loader.batch(0)["poses"][:, 0, 3] < 4).float().mean())

    assert share(loader) == pytest.approx(0.5, abs=0.1)
    assert share(plain) == pytest.approx(0.2, abs=0.1)
