"""Collected logs: the same whoever records them, never half of anything."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from agent.collect import CollectSettings, collect, episode_uuid, recorded
from agent.settings import EnvConfig
from data.source import open_log

SETTINGS = CollectSettings(steps=12, env=EnvConfig(image_size_px=32))


def contents(folder: Path) -> dict[str, bytes]:
    files = [
        p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")
    ]  # no reader's index
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.fixture
def copied(collected, tmp_path):
    return Path(shutil.copytree(collected, tmp_path / "log"))


def test_episodes_are_whole_and_readable(collected):
    log = open_log(collected)
    report = log.check()
    assert len(report.accepted) == 3, report
    episode = log.open(report.accepted[0])
    assert len(episode) == 12
    assert episode.frames["wrist"].read([3]).shape == (1, 32, 32, 3)
    assert episode.commanded is not None
    assert set(episode.objects) == {"object"}


def test_pictures_can_be_as_wide_as_droids(tmp_path):
    settings = CollectSettings(steps=4, env=EnvConfig(image_size_px=36, image_width_px=64))
    collect(tmp_path, episodes=1, workers=1, settings=settings)
    log = open_log(tmp_path)
    episode = log.open(log.check().accepted[0])
    assert episode.frames["exterior_left"].read([3]).shape == (1, 36, 64, 3)
    assert episode.frames["exterior_left"].read([3]).std() > 10


def test_two_workers_record_the_same_bytes(collected, tmp_path):
    collect(tmp_path / "two", episodes=3, workers=2, settings=SETTINGS)
    one, two = contents(collected), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_it_goes_on_with_what_is_missing(copied):
    gone = next(copied.rglob(f"metadata_{episode_uuid(SETTINGS, 1)}.json")).parent
    before = contents(copied)
    shutil.rmtree(gone)
    seen = []
    tallies = collect(
        copied,
        episodes=3,
        workers=1,
        settings=SETTINGS,
        progress=lambda done, wanted, _: seen.append((done, wanted)),
    )
    assert [t.seed for t in tallies] == [1]
    assert seen == [(3, 3)]
    assert contents(copied) == before


def test_episodes_of_other_seeds_are_not_counted_as_progress(copied):
    seen = []
    collect(copied, episodes=1, workers=1, seed=70, settings=SETTINGS, progress=lambda *s: seen.append(s[:2]))
    assert seen == [(1, 1)]


def test_a_log_below_a_hidden_folder_counts(collected, tmp_path):
    hidden = shutil.copytree(collected, tmp_path / ".cache" / "log")
    assert len(recorded(hidden)) == 3


def _collect_for_ever(out: Path) -> None:
    collect(out, episodes=500, workers=1, settings=SETTINGS)


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    out = tmp_path / "log"
    process = multiprocessing.get_context("spawn").Process(target=_collect_for_ever, args=(out,))
    process.start()
    deadline = time.monotonic() + 300
    while not any(
        f.startswith(".unfinished-") for _, folders, _ in os.walk(out) for f in folders
    ) or not recorded(out):
        assert time.monotonic() < deadline, "nothing was recorded in five minutes"
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    done = recorded(out)
    report = open_log(out).check()
    assert len(report.accepted) == len(done)
    assert {finding.reason for finding in report.skipped} <= {"unfinished"}
