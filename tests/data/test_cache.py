"""The cache holds what the logs hold, once, whoever builds it and however often it is killed."""

from __future__ import annotations

import json
import shutil
import time
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from data.cache import FrameCache, build_cache
from data.cache_jobs import run_jobs
from data.cutting import fitted
from data.source import open_log

SMALL: dict[str, Any] = {"image_size": 32, "crop": "square", "period_s": 0.2}


def contents(cache: FrameCache) -> dict[str, tuple]:
    return {
        e.uuid: tuple(c[e.first : e.first + e.rows].clone() for c in (cache.frames, cache.poses, cache.actions, cache.times))
        for e in cache.episodes
    }  # fmt: skip


def assert_same(first: FrameCache, second: FrameCache) -> None:
    one, two = contents(first), contents(second)
    assert one.keys() == two.keys()
    for uuid in one:
        for a, b in zip(one[uuid], two[uuid]):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_rows_are_the_logs_rows(tmp_path, logs, truth):
    cache = build_cache([logs], tmp_path / "cache", **SMALL)
    assert [e.uuid for e in cache.episodes] == [f"episode-{i:03d}" for i in range(4)]
    assert cache.episode_lengths.tolist() == [20, 20, 20, 12]
    assert cache.frames.shape == (72, 2, 32, 32, 3)
    source = open_log(logs)
    for number, episode in enumerate(cache.episodes):
        log = source.open(episode.key)
        rows = slice(episode.first, episode.first + episode.rows)
        for view, camera in enumerate(("exterior_left", "wrist")):
            expected = fitted(log.frames[camera], range(episode.rows), size=32, crop="square")
            np.testing.assert_array_equal(cache.frames[rows, view].numpy(), expected)
            np.testing.assert_array_equal(cache.view(camera)[rows].numpy(), expected)
        poses = np.stack([truth["pose"](t, number) for t in range(episode.rows)])
        np.testing.assert_allclose(cache.poses[rows, :3], poses[:, :3], atol=1e-6)
        np.testing.assert_allclose(np.cos(cache.poses[rows, 3:6] - poses[:, 3:6]), 1, atol=1e-6)
        np.testing.assert_allclose(cache.times[rows], np.arange(episode.rows) * 0.2, atol=1e-6)
        actions = cache.actions[rows].numpy()
        assert np.isnan(actions[-1]).all()
        np.testing.assert_allclose(actions[:-1, :3], np.diff(poses[:, :3], axis=0), atol=1e-6)
        wanted = [truth["commanded"](t, number)[6] - poses[t, 6] for t in range(episode.rows - 1)]
        np.testing.assert_allclose(actions[:-1, 6], wanted, atol=1e-6)
        cube = [truth["cube"](t, number) for t in range(episode.rows)]
        np.testing.assert_allclose(cache.objects()["cube"][rows], cube, atol=1e-6)
        assert episode.success == (number % 2 == 0)


def test_any_tensordict_reader_opens_the_rows(tmp_path, logs):
    cache = build_cache([logs], tmp_path / "cache", **SMALL)
    plain = TensorDict.load_memmap(tmp_path / "cache" / "rows")
    assert plain.shape == (72,)
    torch.testing.assert_close(plain["frames"].clone(), cache.frames.clone())


def test_built_once_then_grown(tmp_path, logs, record):
    out = tmp_path / "cache"
    first = build_cache([logs], out, **SMALL)
    before = (out / "manifest.json").stat().st_mtime_ns
    assert_same(build_cache([logs], out, **SMALL), first)
    assert (out / "manifest.json").stat().st_mtime_ns == before, "nothing changed, nothing was written"
    record(logs, 9, rows=15)
    seen: list[tuple[int, int]] = []
    grown = build_cache([logs], out, **SMALL, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 1)], "only the new episode was decoded"
    assert_same(grown, build_cache([logs], tmp_path / "fresh", **SMALL))
    assert grown.check() == []


def test_an_episode_recorded_again_replaces_the_old_one(tmp_path, logs, record):
    build_cache([logs], tmp_path / "cache", **SMALL)
    victim = next(logs.rglob("metadata_episode-003.json")).parent
    shutil.rmtree(victim)
    record(logs, 3, rows=17)
    cache = build_cache([logs], tmp_path / "cache", **SMALL)
    assert [e.rows for e in cache.episodes] == [20, 20, 20, 17]


def test_other_settings_are_refused_with_the_difference(tmp_path, logs):
    build_cache([logs], tmp_path / "cache", **SMALL)
    larger: dict[str, Any] = SMALL | {"image_size": 64}
    with pytest.raises(ValueError, match="image_size 32 there, 64 asked for"):
        build_cache([logs], tmp_path / "cache", **larger)
    with pytest.raises(ValueError, match="no finished cache here"):
        FrameCache.open(tmp_path / "nothing")


def test_gaps_make_stretches_and_damage_is_named(tmp_path, record, fixtures):
    record(tmp_path / "logs", 0, rows=30, skip=(10, 11, 12, 13))
    cache = build_cache([tmp_path / "logs"], tmp_path / "cache", **SMALL)
    assert [(e.rows, e.run) for e in cache.episodes] == [(10, 0), (16, 1)]
    shutil.copytree(fixtures / "droid_raw_tiny", tmp_path / "droid")
    damaged = build_cache([tmp_path / "droid"], tmp_path / "damaged", **SMALL)
    assert len(damaged.episodes) == 2
    reasons = sorted(f.reason for f in damaged.skipped)
    assert reasons == ["no metadata", "no recordings", "truncated hdf5", "truncated mp4"]
    with pytest.raises(
        ValueError, match=r"none of 1 episodes is usable.*'side', it has \['exterior_left', 'wrist'\]"
    ):
        build_cache([tmp_path / "logs"], tmp_path / "other", **SMALL, cameras=("side",))


def test_a_flipped_byte_is_found(tmp_path, logs):
    cache = build_cache([logs], tmp_path / "cache", **SMALL)
    spoilt = cache.episodes[2]
    with open(tmp_path / "cache" / "rows" / "frames.memmap", "r+b") as file:
        file.seek((spoilt.first + 3) * 2 * 32 * 32 * 3 + 100)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 255]))
    assert FrameCache.open(tmp_path / "cache").check() == [spoilt.uuid]


def hold_at_twenty(done: int, total: int) -> None:
    if done >= 20:
        time.sleep(600)


def test_killed_while_building_it_goes_on(tmp_path, logs, record, elsewhere):
    for seed in range(10, 40):
        record(logs, seed, rows=8)
    out = tmp_path / "cache"
    # On a busy machine the kill might come after the end.
    process = elsewhere(build_cache, [logs], out, **SMALL, progress=hold_at_twenty)
    journal = out / "journal.jsonl"
    while process.is_alive() and not (journal.exists() and journal.stat().st_size > 1500):
        time.sleep(0.001)
    process.kill()
    process.join()
    with pytest.raises(ValueError, match="no finished cache"):
        FrameCache.open(out)
    # What a power cut may leave: a torn line, and rows that never reached the disk.
    lines = journal.read_text().splitlines(keepends=True)
    lost = json.loads(lines[0])["stretches"][0]
    with open(out / "rows" / "frames.memmap", "r+b") as file:
        file.seek(lost["first"] * 2 * 32 * 32 * 3)
        file.write(bytes(1000))
    journal.write_text("".join(lines) + '{"source": "torn')
    seen: list[int] = []
    cache = build_cache([logs], out, **SMALL, progress=lambda done, total: seen.append(total))
    assert seen[0] == 34 - (len(lines) - 1), "what was whole is kept, what was lost is decoded again"
    assert cache.check() == []
    assert_same(cache, build_cache([logs], tmp_path / "fresh", **SMALL))


def test_two_processes_build_one_cache(tmp_path, logs, elsewhere):
    both = [elsewhere(build_cache, [logs], tmp_path / "cache", **SMALL) for _ in range(2)]
    for process in both:
        process.join(timeout=280)
        assert process.exitcode == 0
    assert len((tmp_path / "cache" / "journal.jsonl").read_text().splitlines()) == 4, (
        "each episode was decoded once"
    )
    assert_same(FrameCache.open(tmp_path / "cache"), build_cache([logs], tmp_path / "alone", **SMALL))


FATAL = """
import os
class Fatal:
    '''A reader in which one episode kills the process, as a damaged file may kill a C library.'''
    def __init__(self, reader, key): self.reader, self.key = reader, key
    def open(self, key):
        if key == self.key: os._exit(139)
        return self.reader.open(key)
"""


def test_parallel_build_survives_what_kills_a_worker(tmp_path, logs, monkeypatch):
    (tmp_path / "fatal_reader.py").write_text(FATAL)
    monkeypatch.syspath_prepend(tmp_path)
    from fatal_reader import Fatal  # pyright: ignore[reportMissingImports]

    out = tmp_path / "cache"
    cache = build_cache([logs], tmp_path / "alone", **SMALL)
    for part in ("rows", "objects"):
        (out / part).mkdir(parents=True)
    source = open_log(logs)
    jobs = [("logs", e.key, 0) for e in cache.episodes]
    readers = {"logs": Fatal(source.reader, jobs[1][1])}
    results = dict(run_jobs(jobs, readers, out, cache.settings, 0, 1))  # type: ignore[arg-type]
    assert results.keys() == set(jobs)
    assert results[jobs[1]].reason == "kills the reader"  # type: ignore[union-attr]
    assert sorted(results[j][0].rows for j in jobs if j != jobs[1]) == [12, 20, 20]  # type: ignore[index]
