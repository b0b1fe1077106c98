"""Every kind of damage is named: in which file, at which row, with what value and which remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.checks import Damaged, check_numbers
from data.source import Log, open_log
from data.survey import examine
from data.types import Episode
from data.video import VideoFrames, write_video

FIXTURE = Path(__file__).parents[1] / "fixtures" / "droid_raw_tiny"
GOOD = "1.0.1/LAB/success/2023-05-15/Mon_May_15_00:51:15_2023"
STATE = "observation/robot_state"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """One good episode."""
    shutil.copytree(FIXTURE / GOOD, tmp_path / "logs" / "a")
    return tmp_path / "logs"


def edit(logs: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(logs / "a" / "trajectory.h5", "a") as file:
        change(file)


def scale(name: str, factor: float | np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][...] = file[name][()] * factor

    return change


def put(name: str, row: int, value: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        values = file[name][()]
        values[row] = value
        file[name][...] = values

    return change


def reverse_gripper(*names: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for name in names:
            file[name][...] = 1 - file[name][()]

    return change


def set_clock_back(file: h5py.File) -> None:
    for name in file["observation/timestamp/cameras"]:
        if name.endswith("frame_received"):
            times = file[f"observation/timestamp/cameras/{name}"][()]
            times[10:] -= 3000
            file[f"observation/timestamp/cameras/{name}"][...] = times


DEGREES = np.array([1, 1, 1, *[180 / np.pi] * 3])
MILLIMETRES = np.array([1000, 1000, 1000, 1, 1, 1])
BOTH = (f"{STATE}/gripper_position", "action/gripper_position")


@pytest.mark.parametrize(
    ("change", "reason", "row", "remedy"),
    [
        (put(f"{STATE}/cartesian_position", 7, np.nan), "not a number", 7, "Cut the episode"),
        (put(f"{STATE}/joint_positions", 3, np.inf), "not a number", 3, "Cut the episode"),
        (scale(f"{STATE}/cartesian_position", DEGREES), "degrees", 0, "angle_scale=0.0174"),
        (scale(f"{STATE}/cartesian_position", MILLIMETRES), "millimetres", 0, "position_scale=0.001"),
        (put(f"{STATE}/cartesian_position", 12, 2.5), "out of reach", 12, "cut the episode"),
        (put(f"{STATE}/gripper_position", 5, 80.0), "gripper out of range", 5, "gripper_open"),
        (reverse_gripper(BOTH[0]), "gripper polarity", None, "gripper_reverse=measured"),
        (set_clock_back, "frames and rows disagree", 10, "Record the episode again"),
    ],
)
def test_damaged_numbers_skip_the_episode(logs, change, reason, row, remedy):
    edit(logs, change)
    report = open_log(logs).check()
    assert report.accepted == []
    (finding,) = report.skipped
    assert (finding.reason, finding.row) == (reason, row)
    assert "trajectory.h5" in finding.file or ".json" in finding.file
    assert remedy.lower() in finding.remedy.lower()
    assert report.summary() == f"accepted 0, skipped 1 (1 {reason})"
    with pytest.raises(ValueError, match="nothing can be used"):
        open_log(logs).usable(report)


def test_time_going_back_where_no_second_clock_tells(logs):
    for file in (logs / "a" / "recordings" / "MP4").glob("*.json"):
        file.unlink()
    edit(logs, set_clock_back)
    (finding,) = open_log(logs).check().skipped
    assert (finding.reason, finding.row) == ("time goes back", 10)


def test_the_remedies_work(logs):
    known = open_log(logs).open("a")
    edit(logs, scale(f"{STATE}/cartesian_position", DEGREES * MILLIMETRES))
    edit(logs, scale("action/cartesian_position", DEGREES * MILLIMETRES))
    edit(logs, scale(f"{STATE}/joint_positions", 180 / np.pi))
    edit(logs, reverse_gripper(*BOTH))
    log = open_log(logs, position_scale=0.001, angle_scale=np.pi / 180, gripper_reverse="both")
    mended = log.open("a")
    for field in ("ee_position", "ee_quaternion", "closedness", "joints", "commanded"):
        np.testing.assert_allclose(getattr(mended, field), getattr(known, field), atol=1e-9)


def test_reversed_everywhere_is_flagged(logs):
    edit(logs, reverse_gripper(*BOTH))
    report = open_log(logs).check()
    assert report.accepted == ["a"]
    assert [f.reason for f in report.flagged] == ["gripper may be reversed"]
    assert "flagged 1 (1 gripper may be reversed)" in report.summary()


def gripped(rng: np.random.Generator) -> tuple[Episode, Episode]:
    """A short episode in which a gripper follows its command late and not at once, and the same measured reversed."""
    hz = float(rng.choice([5, 10, 15, 20, 50]))
    rows = int(rng.integers(4, 40))
    switches = np.cumsum(0.3 + rng.exponential(1.0, 20))
    time_s = np.arange(rows) / hz
    told = (np.searchsorted(switches, time_s) + rng.integers(2)) % 2
    delay_s, speed, stop = rng.uniform(0, 0.15), rng.uniform(1.2, 6), rng.uniform(0.4, 1.0)
    seen = np.empty(rows)
    now = float(min(told[0], stop) if rng.random() < 0.5 else rng.uniform())
    for row in range(rows):
        for fine in np.linspace(0, 1, 5, endpoint=False):
            due = told[max(0, int(row + fine - delay_s * hz))]
            now += float(np.clip(min(due, stop) - now, -0.2 * speed / hz, 0.2 * speed / hz))
        seen[row] = now
    made = [
        Episode(
            frames={}, time_s=time_s, ee_position=np.tile([0.4, 0, 0.3], (rows, 1)),
            ee_quaternion=np.tile([1.0, 0, 0, 0], (rows, 1)), closedness=closedness,
            commanded=np.column_stack([np.tile([0.4, 0, 0.3, 0, 0, 0], (rows, 1)), told]),
        )
        for closedness in (seen, 1 - seen)
    ]  # fmt: skip
    return made[0], made[1]


def test_a_short_episode_is_not_called_reversed():
    rng = np.random.default_rng(0)
    found = [[[f.reason for f in check_numbers(e, file="x")] for e in gripped(rng)] for _ in range(300)]
    assert not any("gripper polarity" in right for right, _ in found)
    moving = [wrong for (right, wrong) in found if right or wrong]
    assert sum("gripper polarity" in wrong for wrong in moving) > 0.5 * len(moving)


def test_a_drill_that_works_the_gripper_to_a_rhythm_is_not_called_reversed():
    """At a lag of half its period a gripper runs against its command: 5 rows at 5 Hz, in a drill of 10 to 12."""
    told = np.repeat([0, 1, 0, 1, 0, 1, 0, 1, 0], [3, 4, 3, 5, 5, 6, 3, 5, 6]).astype(float)
    seen = np.concatenate([[0.0], told[:-1]])  # a row later
    rows = len(told)
    reasons = []
    for closedness in (seen, 1 - seen):
        episode = Episode(
            frames={}, time_s=np.arange(rows) / 5, ee_position=np.tile([0.4, 0, 0.3], (rows, 1)),
            ee_quaternion=np.tile([1.0, 0, 0, 0], (rows, 1)), closedness=closedness,
            commanded=np.column_stack([np.tile([0.4, 0, 0.3, 0, 0, 0], (rows, 1)), told]),
        )  # fmt: skip
        reasons.append([f.reason for f in check_numbers(episode, file="x")])
    assert np.corrcoef(told[:-5], seen[5:])[0, 1] < -0.5
    assert reasons == [[], ["gripper polarity"]]


def test_a_log_without_commands_joints_or_moves_is_checked():
    episode, _ = gripped(np.random.default_rng(3))
    episode.commanded = None
    assert list(check_numbers(episode, file="x")) == []


def test_a_clock_that_stands_still_beside_a_moving_gripper():
    episode, _ = gripped(np.random.default_rng(3))
    episode.time_s[:] = 0.0
    assert "time stands still" in [f.reason for f in check_numbers(episode, file="x")]


def test_a_jump_is_flagged(logs):
    def jump(file: h5py.File) -> None:
        pose = file[f"{STATE}/cartesian_position"][()]
        pose[8:, 1] += 0.25
        file[f"{STATE}/cartesian_position"][...] = pose

    edit(logs, jump)
    (finding,) = open_log(logs).check().flagged
    assert (finding.reason, finding.row) == ("jump", 8)


def test_a_gap_in_time_is_flagged(logs):
    def gap(file: h5py.File) -> None:
        for name in file["observation/timestamp/cameras"]:
            times = file[f"observation/timestamp/cameras/{name}"][()]
            times[15:] += 700
            file[f"observation/timestamp/cameras/{name}"][...] = times

    for file in (logs / "a" / "recordings" / "MP4").glob("*.json"):
        file.unlink()
    edit(logs, gap)
    (finding,) = open_log(logs).check().flagged
    assert (finding.reason, finding.row) == ("time gap", 15)


def rewrite(logs: Path, serial: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    file = logs / "a" / "recordings" / "MP4" / f"{serial}.mp4"
    frames = VideoFrames(file).read(range(20))
    write_video(file, change(frames), 60)
    (file.parent / f"{serial}_timestamps.json").unlink()


def test_frozen_frames_are_named(logs):
    rewrite(logs, "17225336", lambda frames: np.repeat(frames[:1], 20, 0))
    (finding,) = open_log(logs).check().skipped
    assert finding.reason == "frozen frames"
    assert "camera wrist" in str(finding.value)
    assert open_log(logs, cameras=["exterior_left"]).check().accepted == ["a"]


def test_a_stalled_camera_is_flagged_when_all_frames_are_decoded(logs):
    rewrite(logs, "17225336", lambda frames: np.concatenate([frames[:8], np.repeat(frames[8:9], 12, 0)]))
    assert not open_log(logs).check().flagged
    (finding,) = open_log(logs).check(thorough=True).flagged
    assert finding.reason == "stalled camera"


@pytest.mark.parametrize(("frames", "accepted"), [(19, True), (18, True), (17, False), (26, False)])
def test_frames_and_rows_may_differ_by_two(logs, frames, accepted):
    for serial in ("17225336", "24013089", "25047636"):
        rewrite(logs, serial, lambda all_frames: np.resize(all_frames, (frames, 64, 64, 3)))
    report = open_log(logs).check()
    assert bool(report.accepted) is accepted
    if accepted:
        assert len(open_log(logs).open("a")) == min(20, frames)
    else:
        assert report.skipped[0].reason == "frames and rows disagree"


def test_a_missing_camera_is_named(logs):
    (logs / "a" / "recordings" / "MP4" / "24013089.mp4").unlink()
    (finding,) = open_log(logs).check().skipped
    assert finding.reason == "camera missing"
    assert "24013089.mp4" in finding.file


def test_short_and_duplicate_episodes(logs):
    shutil.copytree(logs / "a", logs / "b")
    report = open_log(logs).check()
    assert report.summary() == "accepted 1, skipped 1 (1 duplicate)"
    report = open_log(logs).check(min_rows=40)
    assert report.summary() == "accepted 0, skipped 2 (2 short)"


def test_the_report_file_has_what_the_line_says(logs, tmp_path):
    shutil.copytree(FIXTURE / "1.0.1", logs / "1.0.1")
    shutil.rmtree(logs / "a")
    report = open_log(logs).check()
    assert report.summary() == (
        "accepted 2, skipped 4 (1 no recordings, 1 no metadata, 1 truncated hdf5, 1 truncated mp4)"
    )
    content = json.loads(report.write(tmp_path / "out" / "report.json").read_text())
    assert content["accepted"] == 2
    for finding in content["skipped"]:
        assert {"reason", "file", "row", "value", "remedy", "episode"} <= set(finding)
        assert finding["remedy"].endswith(".")


def test_checking_again_opens_nothing(logs, monkeypatch):
    open_log(logs).check()
    monkeypatch.setattr(Log, "_ask", lambda *a, **k: pytest.fail("a file was opened"))
    log = open_log(logs)
    assert log.check().accepted == ["a"]
    assert len(log) == 1


def test_a_changed_file_is_looked_at_again(logs):
    assert open_log(logs).check().accepted == ["a"]
    edit(logs, put(f"{STATE}/cartesian_position", 7, np.nan))
    assert open_log(logs).check().accepted == []


def test_damage_crosses_processes_whole():
    import pickle

    damage = Damaged("degrees", file="x.h5", row=3, value=179.2, remedy="Set angle_scale.")
    copy = pickle.loads(pickle.dumps(damage))
    assert str(copy) == str(damage) == "degrees in x.h5, row 3: 179.2. Set angle_scale."
    assert copy.finding == damage.finding


def test_in_process_and_in_a_child_it_is_the_same(logs):
    log = open_log(logs)
    report = log.check()
    findings, summary = examine(log.reader, "a")
    assert (findings, report.accepted) == ([], ["a"])
    assert summary == log.entries["a"].summary


def test_a_good_episode_has_no_finding(logs):
    episode = open_log(logs).open("a")
    assert list(check_numbers(episode, file="x")) == []
