"""Claims: heads learn from latents encoded once what the world has to teach, and goals reach to an episode's end."""

import copy
import itertools
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from world_model.heads.ensemble import Ensemble, WithDisagreement
from world_model.train.heads import HeadSettings, Pairs, train_head
from world_model.train.latents import LatentClips, Latents, encode_once, joined


class Eyes(nn.Module):
    """A frozen encoder that is good by construction: it finds the square."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1 / 12))
        self.predictor = nn.Linear(1, 1)
        self.encoded = 0

    def encode(self, frames, poses=None):
        self.encoded += len(frames)
        bright = frames[:, 0, :, :, 0].float() + 1e-3
        ruler = torch.arange(32.0)
        y = (bright.sum(2) * ruler).sum(1) / bright.sum((1, 2))
        x = (bright.sum(1) * ruler).sum(1) / bright.sum((1, 2))
        z = (torch.stack([y, x], -1) - 16) * self.scale
        return torch.cat([z, z.square(), (3 * z).sin(), (3 * z).cos()], -1)[:, None]


@pytest.fixture
def held(make_cache, tmp_path) -> tuple[Latents, Latents]:
    cache = make_cache(episodes=60)
    everything = encode_once(Eyes(), cache, tmp_path / "latents", say=lambda _: None)
    return everything.episodes(range(50)), everything.episodes(range(50, 60))


SMALL = {
    "policy": HeadSettings(steps=300, batch=128, learning_rate=3e-3, config={"width": 64, "depth": 2}),
    "critic": HeadSettings(steps=300, batch=128, learning_rate=3e-3, config={"width": 64, "depth": 2, "horizon": 12}),
    "body": HeadSettings(steps=300, batch=128, learning_rate=3e-3, config={"width": 64}),
    "ensemble": HeadSettings(steps=300, batch=128, learning_rate=3e-3, config={"width": 64, "members": 3}),
    "decoder": HeadSettings(steps=150, batch=32, learning_rate=3e-3, config={"size": 16, "width": 32}),
}  # fmt: skip


@pytest.mark.parametrize("kind", SMALL)
def test_each_head_learns_on_held_out_episodes(held, tmp_path, kind):
    train, validation = held
    head, config, figures = train_head(
        kind,
        train,
        validation=validation,
        out=tmp_path / kind,
        settings=SMALL[kind],
        device="cpu",
        say=lambda _: None,
    )
    assert config["tokens"] == 1
    assert config["dim"] == 8
    assert not head.training
    if kind == "policy":
        assert figures["move_error_mm"] < 0.5 * figures["of_standing_still_mm"]
    elif kind == "critic":
        # Where the square rests in its corner nobody can count the steps.
        assert figures["error_steps"] < 0.85 * figures["of_guessing_steps"]
    elif kind == "body":
        place = validation.poses[:, :3]
        assert figures["place_mm"] < 200 * float((place - place.mean(0)).norm(dim=-1).mean())
    elif kind == "ensemble":
        assert figures["copy_ratio"] < 0.2
        assert figures["doubt_of_wrong_actions"] > 1.1
    else:
        assert figures["error_moving"] < 0.3 * figures["of_copying_moving"]


def test_a_policy_stays_where_the_goal_is_here_already(held, tmp_path):
    """It lifted the thing, was where the picture showed it, and let go: no log had taught it that nothing is left to do."""
    train, validation = held
    head, _, figures = train_head(
        "policy", train, validation=validation, out=tmp_path / "policy", settings=SMALL["policy"], device="cpu",
        say=lambda _: None,
    )  # fmt: skip
    clip = Pairs(validation, batch=256).draw(0)
    moving = clip["told"][:, :3].norm(dim=-1) > 0.02
    with torch.no_grad():
        there, here = (
            head.act(clip["z"], goal, clip["poses"])[moving, :3] for goal in (clip["goals"], clip["z"])
        )
    assert there.norm(dim=-1).mean() > 0.02
    assert here.norm(dim=-1).mean() < 0.45 * there.norm(dim=-1).mean(), figures


def test_fingers_that_stay_are_as_they_were_told_before(held):
    told = torch.from_numpy(np.random.default_rng(0).integers(0, 2, len(held[0].actions))).float()
    actions = held[0].actions.clone()
    actions[:, 6] = told  # the fingers of this world are open: a change is what was told
    pairs = Pairs(replace(held[0], actions=actions), batch=512)
    rows = pairs.starts[np.random.default_rng([0, 0]).integers(len(pairs.starts), size=512)]
    begins = np.isin(rows, held[0].first)
    assert 0 < begins.sum() < 100
    assert torch.equal(pairs.draw(0)["kept"], told[torch.from_numpy(np.where(begins, rows, rows - 1))])


def test_goals_reach_to_the_end_of_the_episode_and_never_beyond(held):
    pairs = Pairs(held[0], batch=512, near_share=0.3, near_steps=3)
    batch = pairs.draw(0)
    ends = pairs.held.first + pairs.held.rows - 1
    seen: list[int] = []
    for number in range(20):
        rng = np.random.default_rng([0, number])
        pick = rng.integers(len(pairs.starts), size=512)
        rows, steps = pairs.starts[pick], pairs.draw(number)["steps"].numpy()
        end = ends[np.searchsorted(ends, rows)]
        assert (rows + steps <= end).all()
        assert steps.min() >= 1
        seen += (end - rows - steps == 0).tolist()
    assert np.mean(seen) > 0.15, "goals at the very end are rare"
    assert batch["told"].isfinite().all(), "a row without an action was drawn"
    near = (pairs.draw(1)["steps"] <= 3).float().mean().item()
    far = (Pairs(held[0], batch=512, near_share=0.0).draw(1)["steps"] <= 3).float().mean().item()
    assert near > far + 0.1


def test_logs_are_drawn_from_as_often_as_they_weigh_however_long_they_are(held):
    rare, common = held[0].episodes(range(5)), held[0].episodes(range(5, 50))
    both = joined(
        [
            replace(part, weights=np.full(len(part.rows), weight / part.rows.sum()))
            for part, weight in ((rare, 3.0), (common, 1.0))
        ]
    )
    pairs = Pairs(both, batch=4000)
    starts = pairs.starts[
        np.searchsorted(pairs.odds, np.random.default_rng([0, 0]).uniform(size=4000), side="right")
    ]
    assert torch.equal(pairs.draw(0)["z"], both.latents[torch.from_numpy(starts)].float())
    first_log = starts < len(rare.latents)
    assert abs(first_log.mean() - 0.75) < 0.03
    kept = both.episodes([0, 5])
    assert kept.weights is not None
    assert kept.weights[0] / kept.weights[1] == pytest.approx(27)


def test_the_gripper_is_told_as_commanded_closedness(held):
    latents = held[0]
    latents.poses[:, 6] = 0.4
    latents.actions[:, 6] = torch.where(latents.actions[:, 6].isnan(), latents.actions[:, 6], 0.6)
    assert torch.allclose(Pairs(latents, batch=64).draw(0)["told"][:, 6], torch.tensor(1.0))


def test_encoding_once_goes_on_where_it_was_killed_and_notices_another_encoder(make_cache, tmp_path):
    cache = make_cache(episodes=60)
    eyes = Eyes()

    class Killed(Eyes):
        def encode(self, frames, poses=None):
            if self.encoded > 200:
                raise KeyboardInterrupt
            return super().encode(frames)

    quiet = {"batch": 2, "say": lambda _: None}
    with pytest.raises(KeyboardInterrupt):
        encode_once(Killed(), cache, tmp_path / "a", **quiet)
    resumed = encode_once(eyes, cache, tmp_path / "a", **quiet)
    assert eyes.encoded < len(cache)
    whole = encode_once(Eyes(), cache, tmp_path / "b", **quiet)
    assert torch.equal(resumed.latents, whole.latents)
    again = Eyes()
    again.predictor.weight.data.fill_(7)  # not the encoder's
    encode_once(again, cache, tmp_path / "a", **quiet)
    assert again.encoded <= 1
    other = Eyes()
    other.scale.data.mul_(2)
    changed = encode_once(other, cache, tmp_path / "a", **quiet)
    assert other.encoded >= len(cache)
    assert not torch.equal(changed.latents, whole.latents)


def test_latents_that_the_disk_has_no_room_for_are_refused_before_they_are_begun(make_cache, tmp_path):
    """Through a memory map a full disk is a bus error, and the process is gone."""
    cache, limits = make_cache(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # the kernel refuses, as on a full disk
    try:
        with pytest.raises(OSError, match=r"no room for 0\.0 MiB of latents in .*free some space"):
            encode_once(Eyes(), cache, tmp_path / "latents", say=lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file.name for file in (tmp_path / "latents").iterdir()} == {".lock"}
    encode_once(Eyes(), cache, tmp_path / "latents", say=lambda _: None)


def test_clips_of_latents_are_the_latents_of_clips(make_cache, tmp_path):
    from data.clips import ClipDataset, ClipLoader

    cache, eyes = make_cache(), Eyes()
    dataset = ClipDataset(cache, length=4)
    held = encode_once(eyes, cache, tmp_path / "latents", say=lambda _: None)
    frames = ClipLoader(dataset, batch_size=8, seed=3)
    latents = ClipLoader(LatentClips(dataset, held), batch_size=8, seed=3)
    for a, b in itertools.islice(zip(frames, latents), 4):
        z = eyes.encode(a["frames"].flatten(0, 1)).unflatten(0, (8, 4))
        torch.testing.assert_close(b["latents"].float(), z, atol=2e-3, rtol=2e-3)
        assert torch.equal(a["actions"], b["actions"])
        assert torch.equal(a["poses"], b["poses"])


def test_a_killed_head_ends_with_the_same_weights(held, tmp_path):
    settings = HeadSettings(steps=1200, batch=16, config={"width": 16, "depth": 1})

    def go(out, **options):
        return train_head(
            "policy", held[0], out=out, settings=settings, device="cpu", say=lambda _: None, **options
        )[0]

    whole = go(tmp_path / "a")
    go(tmp_path / "b")
    (tmp_path / "b" / "last").write_text("step-001000")
    for p, q in zip(whole.parameters(), go(tmp_path / "b", resume="last").parameters(), strict=True):
        assert torch.equal(p, q)


def test_imagination_says_where_it_does_not_know():
    from data.types import Conventions, Memory
    from world_model.compact import CompactModel

    torch.manual_seed(0)
    world = CompactModel(
        Conventions(cameras=("a",), image_size=32),
        dim=8,
        channels=(8, 8),
        view_width=8,
        width=16,
        depth=1,
        heads=2,
    ).eval()
    ensemble = Ensemble(dim=8, members=3, width=16)
    memory = Memory(latents=torch.randn(2, 3, 1, 8), poses=torch.rand(2, 3, 7), actions=torch.zeros(2, 2, 7))
    actions = torch.rand(2, 5, 4, 7) * 0.1
    doubtful = WithDisagreement(world, ensemble).imagine(memory, actions)
    plain = world.imagine(memory, actions)
    assert torch.equal(doubtful.latents, plain.latents)
    assert doubtful.extras["disagreement"].shape == (2, 5, 4)
    first = ensemble.disagreement(
        memory.latents[:, None, -1].expand(-1, 5, -1, -1),
        memory.poses[:, None, -1].expand(-1, 5, -1),
        actions[:, :, 0],
    )
    torch.testing.assert_close(doubtful.extras["disagreement"][:, :, 0], first)


def test_a_given_head_goes_on_and_never_gets_worse(held, tmp_path):
    """With a ruinous rate it stays as it was; with a sound one it goes on from where it was."""
    train, validation = held

    def go_on(name: str, given: nn.Module | None, **changes) -> tuple[nn.Module, dict[str, float]]:
        head, _, figures = train_head(
            "policy", train, validation=validation, out=tmp_path / name, given=given, device="cpu", say=said.append,
            settings=replace(SMALL["policy"], **changes),
        )  # fmt: skip
        return head, figures

    said: list[str] = []
    head, figures = go_on("first", None, steps=100)
    kept, worse = go_on("ruined", copy.deepcopy(head), steps=50, learning_rate=3.0)
    assert worse["score"] == pytest.approx(figures["score"])
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), kept.parameters(), strict=True))
    assert any("as given does best" in line for line in said)
    _, better = go_on("sound", copy.deepcopy(head), steps=100)
    assert better["score"] < figures["score"]
