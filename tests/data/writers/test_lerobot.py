"""LeRobot datasets of ours: laid out as LeRobot lays them out, the same numbers back, whole after every kill."""

from __future__ import annotations

import contextlib
import json
import random
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.source import open_log
from data.types import ArrayFrames, Episode
from data.writers.lerobot import LeRobotWriter


def episode(number: int, rows: int = 12, size: int = 32, **changes) -> Episode:
    rng = np.random.default_rng(number)
    quaternion = rng.normal(size=(rows, 4)) * 0.05 + [1, 0, 0, 0]
    level = (30 + 14 * np.arange(rows)[:, None, None, None] + 3 * number) % 240
    frames = np.broadcast_to(level, (rows, size, size, 3)).astype(np.uint8)
    values = {
        "frames": {"exterior_left": ArrayFrames(frames), "wrist": ArrayFrames(frames[::-1])},
        "time_s": np.arange(rows) / 10 + rng.uniform(0, 0.01, rows) * (np.arange(rows) > 0),
        "ee_position": rng.normal(size=(rows, 3)) * 0.01 + [0.4, 0, 0.3],
        "ee_quaternion": quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True),
        "closedness": np.linspace(0, 1, rows),
        "joints": rng.normal(size=(rows, 7)),
        "commanded": np.concatenate(
            [rng.normal(size=(rows, 6)) * 0.02 + [0.4, 0, 0.3, 3, 0, 0], np.ones((rows, 1))], 1
        ),
        "task": f"task {number % 2}",
        "success": number % 3 == 0,
        "meta": {"uuid": f"e{number}", "tool": "tcp", "nominal_hz": 10.0},
    }
    return Episode(**(values | changes))


def assert_same_numbers(one: Episode, two: Episode, *, levels: float = 3.0) -> None:
    for name in ("ee_position", "closedness", "joints", "commanded"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=1e-6, err_msg=name)
    np.testing.assert_allclose(one.time_s, two.time_s, atol=1e-9)
    dots = np.abs((one.ee_quaternion * two.ee_quaternion).sum(1))
    np.testing.assert_allclose(dots, 1, atol=1e-6)
    assert (one.task, one.success, one.meta["uuid"], one.meta["tool"]) == (
        two.task, two.success, two.meta["uuid"], two.meta["tool"],
    )  # fmt: skip
    assert one.frames.keys() == two.frames.keys()
    rows = range(len(one))
    for camera in one.frames:
        seen, known = (e.frames[camera].read(rows).astype(int) for e in (one, two))
        assert np.abs(seen - known).mean(axis=(1, 2, 3)).max() < levels, f"{camera}: not the same frame"


def by_uuid(root: Path) -> dict[str, Episode]:
    log = open_log(root)
    return {e.meta["uuid"]: e for e in (log.reader.open(key) for key in log.keys)}


def test_numbers_come_back_from_many_files(tmp_path):
    with LeRobotWriter(tmp_path / "set", fps=10, episodes_per_file=3) as writer:
        for number in range(7):
            writer.add(episode(number, rows=8 + number))
    found = by_uuid(tmp_path / "set")
    assert sorted(found) == [f"e{n}" for n in range(7)]
    for number in range(7):
        assert_same_numbers(found[f"e{number}"], episode(number, rows=8 + number))
    assert len(list((tmp_path / "set" / "videos").rglob("*.mp4"))) == 2 * 3
    assert not list((tmp_path / "set").glob(".unfinished*"))


def test_a_dataset_is_continued(tmp_path):
    for numbers in ((0, 1), (2, 3, 4)):
        with LeRobotWriter(tmp_path, fps=10) as writer:
            for number in numbers:
                writer.add(episode(number))
    found = by_uuid(tmp_path)
    for number in range(5):
        assert_same_numbers(found[f"e{number}"], episode(number))
    info = json.loads((tmp_path / "meta" / "info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (5, 60, 2)
    assert info["splits"] == {"train": "0:5"}


def test_layout_is_lerobots_own(tmp_path, fixtures):
    with LeRobotWriter(tmp_path, fps=15) as writer:
        writer.add(episode(0))
        writer.add(episode(1))
    theirs, ours = (
        json.loads((p / "meta" / "info.json").read_text()) for p in (fixtures / "lerobot_tiny", tmp_path)
    )
    assert theirs.keys() == ours.keys()
    for name in ("codebase_version", "data_path", "video_path", "chunks_size", "fps", "splits"):
        assert theirs[name] == ours[name], name
    camera = "observation.images.exterior_1_left"
    assert (
        theirs["features"][camera]["info"].keys()
        == ours["features"]["observation.images.wrist"]["info"].keys()
    )
    for place in (
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/tasks.parquet",
    ):
        one, two = (pq.read_schema(root / place) for root in (fixtures / "lerobot_tiny", tmp_path))
        for name in one.names:
            for old, new in ((camera, "observation.images.exterior_left"), ("wrist_left", "wrist")):
                name_here = name.replace(old, new)
                if name_here != name:
                    break
            ours_type = str(two.field(name_here).type).replace("large_", "").replace("item:", "element:")
            theirs_type = str(one.field(name).type).replace("large_", "").replace("item:", "element:")
            whole_numbers = "stats/" in name and "int64" in theirs_type
            assert ours_type == theirs_type or whole_numbers, f"{name}: {ours_type}, theirs {theirs_type}"
    rows = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet").to_pydict()
    assert rows["frame_index"] == [*range(12), *range(12)]
    assert rows["index"] == list(range(24))
    assert rows["task_index"] == [0] * 12 + [1] * 12


def test_statistics_are_those_of_the_whole(tmp_path):
    with LeRobotWriter(tmp_path, fps=10, episodes_per_file=2) as writer:
        for number in range(5):
            writer.add(episode(number, rows=5 + 4 * number))
    stats = json.loads((tmp_path / "meta" / "stats.json").read_text())
    table = np.concatenate([episode(n, rows=5 + 4 * n).joints for n in range(5)])
    known = stats["observation.state.joint_position"]
    np.testing.assert_allclose(known["mean"], table.mean(0), atol=1e-6)
    np.testing.assert_allclose(known["std"], table.std(0), atol=1e-6)
    np.testing.assert_allclose(known["max"], table.max(0), atol=1e-6)
    assert known["count"] == [len(table)]
    assert np.shape(stats["observation.images.wrist"]["mean"]) == (3, 1, 1)
    assert 0 < stats["observation.images.wrist"]["mean"][0][0][0] < 1


def test_episodes_that_differ_are_refused(tmp_path):
    with LeRobotWriter(tmp_path, fps=10) as writer:
        writer.add(episode(0))
        with pytest.raises(
            ValueError, match=r"observation.images.exterior_left is \[16, 16, 3\] in episode 'e1'"
        ):
            writer.add(episode(1, size=16))
        with pytest.raises(ValueError, match="action is None in episode 'e1'"):
            writer.add(episode(1, commanded=None))
        writer.add(episode(2))
    assert sorted(by_uuid(tmp_path)) == ["e0", "e2"]
    with pytest.raises(ValueError, match="has 10 frames a second, asked for 5"):
        LeRobotWriter(tmp_path, fps=5)


def write_all(root: Path, numbers: range) -> None:
    with LeRobotWriter(root, fps=10, episodes_per_file=2) as writer:
        for number in numbers:
            writer.add(episode(number, rows=4, size=16))


def test_stopped_after_any_step_of_publishing(tmp_path, monkeypatch):
    move = LeRobotWriter._move
    for steps in range(12):
        root, left = tmp_path / str(steps), steps

        def a_few(self: LeRobotWriter, file: Path, place: str) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            move(self, file, place)

        monkeypatch.setattr(LeRobotWriter, "_move", a_few)
        with contextlib.suppress(KeyboardInterrupt):
            write_all(root, range(2))
        monkeypatch.setattr(LeRobotWriter, "_move", move)
        listed = list(root.glob("meta/episodes/*/*.parquet"))
        if listed:
            assert sorted(by_uuid(root)) == ["e0", "e1"], f"stopped after {steps} steps"
        write_all(root, range(2, 4))
        assert sorted(by_uuid(root)) == [*(["e0", "e1"] if listed else []), "e2", "e3"]
    assert left > 0, "the last round was not stopped"


def kill_at_random_moments(elsewhere, root: Path, count: int) -> None:
    rng = random.Random(count)
    for number in range(count):
        files = len(list(root.glob("meta/episodes/*/*.parquet")))
        process = elsewhere(write_all, root, range(1000 * number, 1000 * (number + 1)))
        while len(list(root.glob("meta/episodes/*/*.parquet"))) == files and process.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.join()
        assert process.exitcode == -9, "it was still at work"
    found = by_uuid(root)
    assert len(found) >= 2 * count
    for uuid, seen in found.items():
        assert_same_numbers(seen, episode(int(uuid[1:]), rows=4, size=16))
    write_all(root, range(990_000, 990_003))
    assert len(by_uuid(root)) == len(found) + 3, "and the dataset can be continued"


def test_killed_at_any_moment(tmp_path, elsewhere):
    kill_at_random_moments(elsewhere, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_fifty_moments(tmp_path, elsewhere):
    kill_at_random_moments(elsewhere, tmp_path, 50)


def test_two_processes_write_one_dataset(tmp_path, elsewhere):
    both = [elsewhere(write_all, tmp_path, numbers) for numbers in (range(0, 9), range(100, 109))]
    for process in both:
        process.join(timeout=280)
        assert process.exitcode == 0
    found = by_uuid(tmp_path)
    assert sorted(int(u[1:]) for u in found) == [*range(9), *range(100, 109)]
    for uuid, seen in found.items():
        assert_same_numbers(seen, episode(int(uuid[1:]), rows=4, size=16))
    index = [
        i
        for f in sorted((tmp_path / "data").rglob("*.parquet"))
        for i in pq.read_table(f)["index"].to_pylist()
    ]
    assert sorted(index) == list(range(18 * 4)), "rows are numbered without gaps"
