from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.checks import Damaged
from data.source import open_log

FIXTURES = Path(__file__).parents[2] / "fixtures"
ROWS = np.arange(20)
VIEWS = {"exterior_1_left": 0, "wrist_left": 1}


def test_the_scene_of_these_tests_is_the_truth_file(scene):
    truth = json.loads((FIXTURES / "lerobot_tiny.truth.json").read_text())
    for ep, about in enumerate(truth["episodes"]):
        np.testing.assert_allclose(about["cartesian_position"], scene.euler_pose(ep, ROWS), atol=1e-6)
        np.testing.assert_allclose(about["joints"], scene.joints(ep, ROWS), atol=1e-6)
        np.testing.assert_allclose(about["gripper_closed01"], scene.closedness(ROWS))


def assert_scene(episode, scene, ep: int) -> None:
    pose = scene.euler_pose(ep, ROWS)
    assert len(episode) == 20
    np.testing.assert_allclose(episode.ee_position, pose[:, :3], atol=1e-6)
    scene.assert_rotations(episode.ee_quaternion, pose[:, 3:], 2e-6)
    np.testing.assert_allclose(episode.closedness, scene.closedness(ROWS), atol=1e-6)
    np.testing.assert_allclose(episode.joints, scene.joints(ep, ROWS), atol=1e-6)
    np.testing.assert_allclose(episode.time_s, ROWS / 15, atol=1e-9)
    assert episode.task == f"push the square in lane {ep}"
    for camera, frames in episode.frames.items():
        assert len(frames) == 20
        for t in (0, 9, 19):
            scene.assert_frame(frames.read([t])[0], ep, t, VIEWS[camera])


@pytest.mark.parametrize("name", ["lerobot_tiny", "lerobot_v21_tiny", "lerobot_v3_image_split_tiny"])
def test_every_version_is_read_to_its_truth(log_copy, scene, name):
    log = open_log(log_copy(name))
    assert log.format == "lerobot"
    assert log.keys == ["episode_000000", "episode_000001"]
    for ep, key in enumerate(log.keys):
        episode = log.open(key)
        assert set(episode.frames) == (set(VIEWS) if name == "lerobot_tiny" else {"exterior_1_left"})
        assert_scene(episode, scene, ep)
        assert episode.commanded is not None
        np.testing.assert_allclose(episode.commanded[:-1, 6], scene.closedness(ROWS + 1)[:-1], atol=1e-6)


def test_actions_that_are_poses_are_the_commands(log_copy, scene):
    episode = open_log(log_copy("lerobot_tiny")).open("episode_000001")
    wanted = scene.euler_pose(1, ROWS + 1)
    np.testing.assert_allclose(episode.commanded[:-1, :3], wanted[:-1, :3], atol=1e-6)


def test_our_camera_names_find_the_ports_names(log_copy):
    episode = open_log(log_copy("lerobot_tiny"), cameras=["exterior_left", "wrist"]).open("episode_000000")
    assert list(episode.frames) == ["exterior_left", "wrist"]


def test_joints_only_uses_forward_kinematics(log_copy):
    log = open_log(log_copy("lerobot_v21_tiny"))
    root = log.path
    for file in (root / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.drop_columns(["observation.state.cartesian_position"]), file)
    episode = open_log(root).open("episode_000000")
    assert episode.meta["tool"] == "tcp"
    # Joints move 0.01 rad a row: the tool moves, smoothly.
    step = np.linalg.norm(np.diff(episode.ee_position, axis=0), axis=1)
    assert 0 < step.min() <= step.max() < 0.02


def test_partial_download_is_named(log_copy):
    root = log_copy("lerobot_v3_image_split_tiny")
    shutil.rmtree(root / "data" / "chunk-001")
    report = open_log(root).check()
    assert report.accepted == ["episode_000000"]
    assert [f.reason for f in report.skipped] == ["no data file"]


def test_missing_video_is_named(log_copy):
    root = log_copy("lerobot_v21_tiny")
    next((root / "videos").rglob("episode_000001.mp4")).unlink()
    report = open_log(root).check()
    assert report.accepted == ["episode_000000"]
    assert [f.reason for f in report.skipped] == ["camera missing"]


def test_unknown_names_list_the_keys_and_the_nearest(log_copy):
    root = log_copy("lerobot_v21_tiny")
    for file in (root / "data").rglob("*.parquet"):
        table = pq.read_table(file).drop_columns(["observation.state"])
        names = [n.replace("cartesian_position", "cartesian_pos") for n in table.column_names]
        pq.write_table(table.rename_columns(names), file)
    with pytest.raises(Damaged) as caught:
        open_log(root).open("episode_000000")
    assert "observation.state.cartesian_pos" in caught.value.remedy
    mapped = open_log(root, key_map={"pose": "observation.state.cartesian_pos"}).open("episode_000000")
    assert len(mapped) == 20
