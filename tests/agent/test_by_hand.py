"""Demonstrations by keyboard: what is kept is a whole episode, what is thrown away leaves nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agent.arms import EnvConfig
from agent.by_hand import collect_by_hand
from agent.collect import CollectSettings
from data.formats.droid import DroidReader

SETTINGS = CollectSettings(steps=30, env=EnvConfig(image_size_px=32, cameras=["exterior_left"]))


def test_a_person_records_two_episodes_and_throws_one_away(tmp_path: Path):
    keys = iter("wwx" + "aaf q\n" + "rr\n" + "x")
    shown: list[str] = []
    tallies = collect_by_hand(
        tmp_path, episodes=3, seed=5, settings=SETTINGS, read_key=lambda: next(keys), show=shown.append
    )
    assert [t.seed for t in tallies] == [5, 6]
    assert any("thrown away" in text for text in shown)
    reader = DroidReader(tmp_path)
    episodes = [reader.open(key) for key in reader.list()]
    assert sorted(len(e) for e in episodes) == [3, 6]
    long = max(episodes, key=len)
    assert long.commanded is not None
    np.testing.assert_allclose(np.diff(long.commanded[:, 1])[0], 0.03, atol=1e-6)
    assert long.commanded[-2, 6] == 1.0
    assert not [p for p in tmp_path.rglob("*") if p.is_dir() and p.name.startswith(".") and any(p.iterdir())]


def test_input_that_ends_at_once_leaves_nothing(tmp_path: Path):
    tallies = collect_by_hand(
        tmp_path, episodes=2, settings=SETTINGS, read_key=lambda: "", show=lambda text: None
    )
    assert tallies == []
    assert DroidReader(tmp_path).list() == []
