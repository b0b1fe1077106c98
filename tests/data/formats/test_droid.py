from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.checks import Damaged
from data.source import open_log

GOOD = "1.0.1/LAB/success/2023-05-15/Mon_May_15_00:51:15_2023"
VIEWS = {"exterior_right": 0, "wrist": 1, "exterior_left": 2}


def test_good_episodes_are_read_to_their_truth(log_copy, scene):
    root = log_copy("droid_raw_tiny")
    truth = json.loads((root / "truth.json").read_text())
    log = open_log(root)
    assert log.format == "droid"
    for ep, about in enumerate(truth["episodes"]):
        episode = log.open(about["dir"])
        rows = np.arange(min(about["mp4_frames"].values()))
        assert len(episode) == len(rows)
        np.testing.assert_allclose(episode.ee_position, scene.euler_pose(ep, rows)[:, :3], atol=1e-9)
        scene.assert_rotations(episode.ee_quaternion, scene.euler_pose(ep, rows)[:, 3:], 1e-7)
        np.testing.assert_allclose(episode.closedness, scene.closedness(rows))
        np.testing.assert_allclose(episode.joints, scene.joints(ep, rows), atol=1e-9)
        assert episode.commanded is not None
        np.testing.assert_allclose(episode.commanded[:, :3], scene.euler_pose(ep, rows + 1)[:, :3], atol=1e-9)
        np.testing.assert_allclose(episode.commanded[:, 6], scene.closedness(rows + 1))
        assert episode.meta["uuid"] == about["uuid"]
        assert episode.task == f"push the square in lane {ep}"
        assert episode.success is True
        for camera, view in VIEWS.items():
            assert len(episode.frames[camera]) == len(rows)
            for t in (0, 7, len(rows) - 1):
                scene.assert_frame(episode.frames[camera].read([t])[0], ep, t, view)
        assert Path(episode.frames["exterior_left"].path).stem == about["left_serial"]  # type: ignore[attr-defined]


def test_time_is_the_recorded_clock_not_the_mp4_header(log_copy):
    episode = open_log(log_copy("droid_raw_tiny")).open(GOOD)
    assert np.median(np.diff(episode.time_s)) == pytest.approx(1 / 14.2, abs=2e-3)
    assert episode.time_s[-1] == pytest.approx(1.338, abs=2e-3)


def test_damaged_episodes_are_named_as_their_maker_broke_them(log_copy):
    root = log_copy("droid_raw_tiny")
    reasons = {}
    for key in json.loads((root / "truth.json").read_text())["damaged"]:
        with pytest.raises(Damaged) as caught:
            open_log(root).open(key)
        assert caught.value.remedy
        reasons[key.rsplit("_", 2)[1]] = caught.value.reason
    assert reasons == {
        "17:15:03": "no recordings",
        "17:20:03": "no metadata",
        "17:25:03": "truncated hdf5",
        "17:30:03": "truncated mp4",
    }


def test_a_damaged_camera_may_be_left_out(log_copy):
    root = log_copy("droid_raw_tiny")
    key = "1.0.1/LAB/success/2023-05-28/Sun_May_28_17:30:03_2023"
    episode = open_log(root, cameras=["wrist", "exterior_right"]).open(key)
    assert list(episode.frames) == ["wrist", "exterior_right"]


def test_uncalibrated_and_without_intrinsics_is_still_read(log_copy):
    root = log_copy("droid_raw_tiny")
    with h5py.File(root / GOOD / "trajectory.h5", "a") as file:
        del file["observation/camera_extrinsics"], file["observation/camera_intrinsics"]
    episode = open_log(root).open(GOOD)
    assert all(camera.K is None and camera.base_T_cam is None for camera in episode.cameras.values())
    assert episode.cameras["wrist"].moving


def test_pauses_can_be_dropped(log_copy):
    root = log_copy("droid_raw_tiny")
    whole, cut = (open_log(root, pauses=choice).open(GOOD) for choice in ("keep", "drop"))
    kept = np.flatnonzero(~whole.meta["paused"])
    assert kept[0] == 2  # its first two rows were skipped
    np.testing.assert_array_equal(cut.ee_position, whole.ee_position[kept])
    np.testing.assert_array_equal(cut.frames["wrist"].read([0]), whole.frames["wrist"].read([2]))


def test_without_metadata_on_request(log_copy):
    root = log_copy("droid_raw_tiny")
    key = "1.0.1/LAB/success/2023-05-28/Sun_May_28_17:20:03_2023"
    episode = open_log(root, incomplete=True).open(key)
    assert set(episode.frames) == {"wrist", "exterior_left", "exterior_right"}
    assert episode.success is True  # from its folder


def test_a_shifted_frame_clock_is_named(log_copy):
    root = log_copy("droid_raw_tiny")
    file = root / GOOD / "recordings/MP4/17225336_timestamps.json"
    times = json.loads(file.read_text())
    file.write_text(json.dumps(times[:5] + times[6:]))
    with pytest.raises(Damaged) as caught:
        open_log(root).open(GOOD)
    assert caught.value.reason == "frames and rows disagree"
    assert caught.value.row == 5


def test_joints_alone_become_poses(log_copy):
    root = log_copy("droid_raw_tiny")
    with h5py.File(root / GOOD / "trajectory.h5", "a") as file:
        del file["observation/robot_state/cartesian_position"]
    episode = open_log(root).open(GOOD)
    assert episode.meta["tool"] == "tcp"
    assert 0.3 < np.linalg.norm(episode.ee_position[0]) < 0.9


def test_an_unfinished_folder_is_named(log_copy):
    root = log_copy("droid_raw_tiny")
    shutil.copytree(root / GOOD, root / "1.0.1/LAB/.unfinished-2023-05-15-1-abc")
    log = open_log(root)
    assert len(log) == 7
    with pytest.raises(Damaged, match="unfinished"):
        log.open("1.0.1/LAB/.unfinished-2023-05-15-1-abc")
