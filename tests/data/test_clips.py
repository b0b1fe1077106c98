"""What is drawn, in which order, by whom, and that it can be taken up where it was left."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest
import torch

from data.cache import FrameCache, build_cache
from data.clips import ClipDataset, ClipLoader, LazyClipDataset, in_order
from data.index import in_validation
from data.source import open_log


@pytest.fixture(scope="module")
def cache(tmp_path_factory, record) -> FrameCache:
    root = tmp_path_factory.mktemp("clips")
    for seed in range(6):
        record(root / "logs", seed, rows=16)
    return build_cache([root / "logs"], root / "cache", image_size=32)


@pytest.fixture
def dataset(cache) -> ClipDataset:
    return ClipDataset(cache, length=5, split="all")


def take(loader: ClipLoader, count: int) -> list:
    return list(itertools.islice(loader, count))


def names(batch) -> list[tuple[float, ...]]:
    """What tells one clip from another."""
    return [tuple(pose.tolist()) for pose in batch["poses"][:, 0]]


def test_a_clip_is_consecutive_steps_of_one_episode(cache, dataset):
    assert len(dataset) == 6 * (16 - 5 + 1)
    batch = dataset.batch(np.arange(len(dataset)))
    assert batch.shape == (72,)
    assert batch["frames"].shape == (72, 5, 2, 32, 32, 3)
    assert batch["actions"].shape == (72, 4, 7)
    assert batch["actions"].isfinite().all(), "no clip reaches over the end of an episode"
    steps = batch["times"].diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.2), atol=1e-6, rtol=0)
    moved = batch["poses"][:, 1:, :3] - batch["poses"][:, :-1, :3]
    torch.testing.assert_close(batch["actions"][..., :3], moved, atol=1e-6, rtol=0)
    assert set(batch.keys()) == {"frames", "poses", "actions", "times"}, "clips never hold the truth"
    torch.testing.assert_close(dataset[7]["frames"], batch["frames"][7])


def test_a_clip_that_no_episode_is_long_enough_for(cache):
    with pytest.raises(ValueError, match=r"no clip of 17 steps.*the longest has 16 steps"):
        ClipDataset(cache, length=17)


def test_the_split_is_by_episode_and_for_ever(cache):
    train, held = cache.split("train", validation=0.4), cache.split("validation", validation=0.4)
    assert sorted(train + held) == list(range(6))
    # Pinned: an episode must never change sides between versions.
    known = {
        "episode-000": False,
        "episode-001": False,
        "episode-002": False,
        "sim-7": False,
        "LAB+1+2023": False,
    }
    assert {uuid: in_validation(uuid) for uuid in known} == known
    share = np.mean([in_validation(f"u{i}") for i in range(4000)])
    assert abs(share - 0.1) < 0.015


@pytest.mark.parametrize("world", [1, 3])
def test_every_clip_once_an_epoch_over_all_ranks(dataset, world):
    loaders = [ClipLoader(dataset, batch_size=4, seed=3, rank=r, world=world) for r in range(world)]
    steps = len(dataset) // (4 * world)
    first = [n for loader in loaders for batch in take(loader, steps) for n in names(batch)]
    assert len(set(first)) == len(first) == len(dataset)
    second = [n for loader in loaders for batch in take(loader, steps) for n in names(batch)]
    assert sorted(second) == sorted(first)
    assert second != first
    assert loaders[0].epoch == 2.0


@pytest.mark.parametrize("ahead", [0, 3])
def test_resumed_is_uninterrupted(cache, dataset, ahead):
    def make() -> ClipLoader:
        other = ClipDataset(cache, length=5, split="all", every=3)
        return ClipLoader([(dataset, 2.0), (other, 1.0)], batch_size=6, seed=5, ahead=ahead)

    whole = [names(b) for b in take(make(), 25)]
    loader = make()
    head = [names(b) for b in take(loader, 11)]
    state = loader.state_dict()
    again = make()
    again.load_state_dict(state)
    tail = [names(b) for b in take(again, 14)]
    assert head + tail == whole
    assert state["step"] == 11, "the position is of what was handed out, not of what was prepared"
    with pytest.raises(ValueError, match="the order cannot be resumed"):
        ClipLoader(dataset, batch_size=6).load_state_dict(state)


def test_sources_are_mixed_by_weight(cache, dataset):
    long = ClipDataset(cache, length=5, split="all", every=5)
    loader = ClipLoader([(dataset, 3.0), (long, 1.0)], batch_size=32, seed=0)
    batches = take(loader, 60)
    assert all(b.shape == (32,) for b in batches)
    assert abs(loader.drawn[0] / sum(loader.drawn) - 0.75) < 0.03
    shares = [ClipLoader([(dataset, 3.0), (long, 1.0)], batch_size=8, rank=r, world=4) for r in range(4)]
    for loader in shares:
        take(loader, 5)
    assert len({tuple(loader.drawn) for loader in shares}) == 1, "all ranks agree on the position"


def test_validation_goes_through_everything_once(dataset):
    batches = list(in_order(dataset, 10))
    assert [len(b) for b in batches] == [10] * 7 + [2]
    assert len({n for b in batches for n in names(b)}) == 72


def test_clips_from_video_are_those_of_the_cache(cache, dataset):
    source = open_log(cache.path.parent / "logs")
    lazy = LazyClipDataset(source, sorted(source.keys), length=5, settings=cache.settings, seed=1)
    cached = {n: i for i, n in enumerate(names(dataset.batch(np.arange(len(dataset)))))}
    seen = set()
    for epoch in range(4):
        batch = lazy.batch(np.arange(6), np.full(6, epoch))
        places = [cached[n] for n in names(batch)]
        same = dataset.batch(np.array(places))
        for key in ("frames", "poses", "actions", "times"):
            torch.testing.assert_close(batch[key], same[key], rtol=0, atol=0)
        seen.update(places)
    assert len(seen) > 12, "each epoch draws other windows"


def test_damage_met_while_training_is_named_and_ends(cache, tmp_path, caplog):
    shutil.copytree(cache.path.parent / "logs", tmp_path / "logs")
    source = open_log(tmp_path / "logs")
    keys = sorted(source.keys)
    lazy = LazyClipDataset(source, keys, length=5, settings=cache.settings)
    for victim in keys[:2]:
        (tmp_path / "logs" / victim / "trajectory.h5").write_bytes(b"no")
    batch = lazy.batch(np.arange(6))
    assert batch.shape == (6,)
    assert sorted(lazy.skipped) == keys[:2]
    assert sum("skipped" in r.message for r in caplog.records) == 2, "told once each"
    for victim in keys[2:]:
        (tmp_path / "logs" / victim / "trajectory.h5").write_bytes(b"no")
    fresh = LazyClipDataset(source, keys, length=5, settings=cache.settings)
    with pytest.raises(ValueError, match="none of 6 episodes is usable"):
        fresh.batch(np.arange(1))


def test_worker_processes_give_the_same_batches(cache):
    source = open_log(cache.path.parent / "logs")
    lazy = LazyClipDataset(source, sorted(source.keys), length=5, settings=cache.settings, seed=1)
    here = take(ClipLoader(lazy, batch_size=4, ahead=0), 4)
    there = take(ClipLoader(lazy, batch_size=4, workers=1), 4)
    for a, b in zip(here, there):
        torch.testing.assert_close(a["frames"], b["frames"], rtol=0, atol=0)
        torch.testing.assert_close(a["actions"], b["actions"], rtol=0, atol=0)
