"""A log rewritten and read again holds the same numbers, whatever format it began in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from data.convert import convert, write_droid
from data.poses import rotation_from_quaternion
from data.source import open_log
from data.types import Episode

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOGS = {
    "droid": ("droid_raw_tiny", {}),
    "lerobot": ("lerobot_tiny", {}),
    "robomimic": ("robomimic_tiny", {}),
    "libero": ("libero_layout_tiny", {}),
    "rlds": ("rlds_tiny", {}),
    "ros2": ("mcap_ros2_tiny", {}),
    "aloha": ("aloha_act_tiny", {"kinematics": "viperx_300s"}),
}


def assert_same(old: Episode, new: Episode, *, exact: float, frames: bool = True) -> None:
    import torch

    np.testing.assert_allclose(new.time_s, old.time_s, atol=1e-8)
    np.testing.assert_allclose(new.ee_position, old.ee_position, atol=exact)
    turns = [rotation_from_quaternion(torch.from_numpy(e.ee_quaternion.copy())) for e in (old, new)]
    assert float((turns[0] - turns[1]).abs().max()) < 10 * exact
    np.testing.assert_allclose(new.closedness, old.closedness, atol=exact)
    assert (new.task or None, new.success) == (old.task or None, old.success)
    assert (new.meta["tool"], new.meta["uuid"]) == (old.meta["tool"], old.meta["uuid"].replace("/", "+"))
    if old.commanded is None:
        assert new.commanded is None
    else:
        assert new.commanded is not None
        np.testing.assert_allclose(new.commanded[:, :3], old.commanded[:, :3], atol=exact)
        np.testing.assert_allclose(new.commanded[:, 6], old.commanded[:, 6].clip(0, 1), atol=exact)
    assert list(new.frames) == list(old.frames) or not frames
    for name, source in old.frames.items():
        rows = [0, len(old) // 2, len(old) - 1]
        apart = np.abs(new.frames[name].read(rows).astype(int) - source.read(rows))
        assert apart.mean() < 4  # codec loss


@pytest.mark.parametrize("name", LOGS)
def test_into_droid(name, tmp_path):
    folder, options = LOGS[name]
    shutil.copytree(FIXTURES / folder, tmp_path / "old")
    old = open_log(tmp_path / "old", **options)
    report = convert(old, tmp_path / "new")
    new = open_log(tmp_path / "new")
    assert new.format == "droid"
    assert len(new) == len(report.accepted) > 0
    by_uuid = {episode.meta["uuid"]: episode for episode in map(new.open, new.keys)}
    for key in report.accepted:
        before = old.open(key)
        after = by_uuid[before.meta["uuid"].replace("/", "+")]
        assert_same(before, after, exact=1e-9)
        if before.joints is not None and before.joints.shape[1] == 7:
            np.testing.assert_allclose(after.joints, before.joints, atol=1e-9)
        else:
            assert after.joints is None
        assert set(after.objects) == set(before.objects)
        for track, poses in before.objects.items():
            np.testing.assert_allclose(after.objects[track], poses, atol=1e-9)
        for camera in before.cameras.values():
            for what in ("K", "base_T_cam"):
                known = getattr(camera, what)
                if known is not None:
                    np.testing.assert_allclose(getattr(after.cameras[camera.name], what), known, atol=1e-9)
    validation = {key for split in [old.split(report.accepted)[1]] for key in split}
    held = {new.entries[key].uuid for key in new.split(new.check().accepted)[1]}
    if all("/" not in old.entries[key].uuid for key in report.accepted):
        assert held == {old.entries[key].uuid for key in validation}


@pytest.mark.parametrize("name", ["droid", "robomimic"])
def test_into_lerobot(name, tmp_path):
    folder, options = LOGS[name]
    shutil.copytree(FIXTURES / folder, tmp_path / "old")
    old = open_log(tmp_path / "old", **options)
    report = convert(old, tmp_path / "new", format="lerobot")
    new = open_log(tmp_path / "new")
    assert new.format == "lerobot"
    assert len(new) == len(report.accepted)
    for key, number in zip(report.accepted, new.keys, strict=True):
        before, after = old.open(key), new.open(number)
        after.meta["uuid"] = after.meta["uuid"].replace("/", "+")
        assert_same(before, after, exact=1e-6)  # the format's own columns are float32


def test_writing_again_and_again_does_not_darken(tmp_path):
    first = open_log(FIXTURES / "droid_raw_tiny")
    key = next(k for k in first.keys if "00:51:15" in k)
    before = old = first.reader.open(key)
    for generation in range(3):
        write_droid(old, tmp_path / str(generation), uuid="u")
        log = open_log(tmp_path / str(generation))
        old = log.reader.open(log.keys[0])
    rows = range(len(before))
    for name, frames in before.frames.items():
        change = old.frames[name].read(rows).astype(float) - frames.read(rows)
        assert abs(change.mean()) < 0.5, f"{name} is {change.mean():.2f} of 255 brighter after three copies"


def test_a_stopped_conversion_goes_on(tmp_path):
    shutil.copytree(FIXTURES / "lerobot_tiny", tmp_path / "old")
    old = open_log(tmp_path / "old")
    write_droid(old.open("episode_000000"), tmp_path / "new")
    convert(old, tmp_path / "new")
    new = open_log(tmp_path / "new")
    assert sorted(entry.uuid for entry in new.entries.values()) == ["episode_000000", "episode_000001"]


def test_unknown_targets_are_refused(tmp_path):
    shutil.copytree(FIXTURES / "lerobot_tiny", tmp_path / "old")
    log = open_log(tmp_path / "old")
    with pytest.raises(ValueError, match="droid, lerobot"):
        convert(log, tmp_path / "new", format="rlds")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        convert(log, tmp_path / "full", format="lerobot")


def test_a_target_that_cannot_be_written_is_no_fault_of_the_log(tmp_path):
    shutil.copytree(FIXTURES / "lerobot_tiny", tmp_path / "old")
    (tmp_path / "file").touch()
    log = open_log(tmp_path / "old")
    for format in ("droid", "lerobot"):
        with pytest.raises(OSError, match=r"cannot be written.*choose another folder"):
            convert(log, tmp_path / "file" / "new", format=format)
