from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from data.checks import Damaged
from data.source import open_log

BASE = np.array([-0.56, 0.0, 0.912])


def test_robomimic_is_read_to_its_truth_in_both_frames(log_copy):
    root = log_copy("robomimic_tiny")
    truth = json.loads((root / "truth.json").read_text())
    log, world = open_log(root / "lift_image.hdf5"), open_log(root / "lift_image.hdf5", frame="world")
    assert log.format == "robomimic"
    assert log.keys == ["demo_1", "demo_2"]
    for key, about in truth["demos"].items():
        episode, in_world = log.open(key), world.open(key)
        assert len(episode) == about["num_samples"]
        assert np.diff(episode.time_s) == pytest.approx(1 / truth["control_hz"])
        for row, end in ((0, "first"), (-1, "last")):
            xyz = np.array(about[f"eef_pos_{end}"])
            np.testing.assert_allclose(in_world.ee_position[row], xyz, atol=1e-6)
            np.testing.assert_allclose(episode.ee_position[row], xyz - BASE, atol=1e-6)
            q0, q1 = about[f"gripper_qpos_{end}"]
            assert episode.closedness[row] == pytest.approx(1 - (q0 - q1) / 0.08, abs=1e-4)
        quaternion = np.array(about["eef_quat_xyzw_first"])
        turn = Rotation.from_quat(episode.ee_quaternion[0]) * Rotation.from_quat(quaternion).inv()
        assert turn.magnitude() < 1e-4
        frame = episode.frames["agentview"].read([0])[0]
        assert frame.mean() == pytest.approx(about["agentview_mean_frame0"])
        action = np.array(about["action_first"])
        assert episode.commanded is not None
        np.testing.assert_allclose(
            episode.commanded[0, :3] - episode.ee_position[0], action[:3] * 0.05, atol=1e-9
        )
        assert episode.commanded[0, 6] == (action[6] + 1) / 2
        camera = episode.cameras["agentview"]
        assert camera.K is not None
        assert camera.base_T_cam is not None
        known = truth["camera_info"]["agentview"]
        np.testing.assert_allclose(camera.K, known["intrinsics"], atol=1e-6)
        np.testing.assert_allclose(
            camera.base_T_cam[:3, 3], np.array(known["extrinsics"])[:3, 3] - BASE, atol=1e-6
        )
        assert episode.cameras["robot0_eye_in_hand"].moving
        assert "cube" in episode.objects


def test_robomimic_object_pose_is_the_one_observed(log_copy):
    root = log_copy("robomimic_tiny")
    with h5py.File(root / "lift_image.hdf5") as file:
        seen = file["data/demo_1/obs/object"][:, :3]
    episode = open_log(root, frame="world").open("lift_image.hdf5/demo_1")
    np.testing.assert_allclose(episode.objects["cube"][:, :3], seen, atol=2e-3)


def test_robomimic_other_quaternion_by_key_map(log_copy):
    root = log_copy("robomimic_tiny")
    about = json.loads((root / "truth.json").read_text())["demos"]["demo_1"]
    log = open_log(root, key_map={"quaternion": "robot0_eef_quat_site"}, frame="world")
    quaternion = log.open("lift_image.hdf5/demo_1").ee_quaternion[0]
    assert abs(quaternion @ np.array(about["eef_quat_site_xyzw_first"])) == pytest.approx(1, abs=1e-6)


def test_demos_are_sorted_by_number(log_copy):
    root = log_copy("robomimic_tiny")
    with h5py.File(root / "lift_image.hdf5", "a") as file:
        file.copy("data/demo_1", "data/demo_10")
    assert open_log(root / "lift_image.hdf5").keys == ["demo_1", "demo_2", "demo_10"]


def test_demonstrations_without_pictures_say_what_to_do(log_copy):
    root = log_copy("robomimic_tiny")
    with h5py.File(root / "lift_image.hdf5", "a") as file:
        del file["data/demo_2/obs"]
    with pytest.raises(Damaged, match="rendered"):
        open_log(root / "lift_image.hdf5").open("demo_2")


def test_libero_is_read_to_its_truth_upright(log_copy):
    root = log_copy("libero_layout_tiny")
    truth = json.loads((root / "truth.json").read_text())
    log = open_log(root)
    assert log.format == "libero"
    for demo, about in truth["demos"].items():
        episode = log.open(f"lift_demo.hdf5/{demo}")
        assert len(episode) == about["num_samples"]
        assert episode.task == "lift the cube"
        assert episode.meta["frame"] == "world"  # its model file does not say where the base is
        for row, end in ((0, "first"), (-1, "last")):
            state = np.array(about[f"ee_states_{end}"])
            np.testing.assert_allclose(episode.ee_position[row], state[:3], atol=1e-6)
            turn = Rotation.from_quat(episode.ee_quaternion[row]) * Rotation.from_rotvec(state[3:]).inv()
            assert turn.magnitude() < 1e-5
            q0, q1 = about[f"gripper_states_{end}"]
            assert episode.closedness[row] == pytest.approx(1 - (q0 - q1) / 0.08, abs=1e-4)
        as_stored = (
            open_log(root, flip="none").open(f"lift_demo.hdf5/{demo}").frames["agentview"].read([0])[0]
        )
        assert as_stored[:8].mean() == pytest.approx(about["top_row_mean"])
        assert as_stored[-8:].mean() == pytest.approx(about["bottom_row_mean"])
        upright = episode.frames["agentview"].read([0])[0]
        np.testing.assert_array_equal(upright, as_stored[::-1])


def test_libero_commands_are_those_of_the_next_row(log_copy):
    root = log_copy("libero_layout_tiny")
    with h5py.File(root / "lift_demo.hdf5") as file:
        actions = file["data/demo_0/actions"][()]
    episode = open_log(root).open("lift_demo.hdf5/demo_0")
    assert episode.commanded is not None
    change = episode.commanded[:-1, :3] - episode.ee_position[:-1]
    np.testing.assert_allclose(change, actions[1:, :3] * 0.05, atol=1e-9)


def test_aloha_is_refused_with_the_reason_unless_the_arm_is_named(log_copy):
    root = log_copy("aloha_act_tiny")
    log = open_log(root)
    assert log.format == "aloha"
    with pytest.raises(Damaged, match="forward kinematics") as caught:
        log.open("episode_0.hdf5")
    assert "viperx_300s" in caught.value.remedy


def test_aloha_is_read_to_its_truth(log_copy):
    root = log_copy("aloha_act_tiny")
    truth = json.loads((root / "truth.json").read_text())
    for arm, first in (("left", 0), ("right", 7)):
        episode = open_log(root, kinematics="viperx_300s", arm=arm).open("episode_0.hdf5")
        assert len(episode) == 30
        assert np.diff(episode.time_s) == pytest.approx(truth["dt_s"])
        assert episode.joints is not None
        np.testing.assert_allclose(episode.joints[0], truth["qpos_row0"][first : first + 6], atol=1e-6)
        assert episode.closedness[0] == pytest.approx(1 - truth["qpos_row0"][first + 6], abs=1e-5)
        assert episode.commanded is not None
        assert episode.commanded[29, 6] == pytest.approx(1 - truth["action_row29"][first + 6], abs=1e-5)
        frame = episode.frames["top"].read([0])[0]
        assert frame.shape == (48, 64, 3)
        assert frame.mean() == pytest.approx(truth["image_mean_frame0"])


def test_a_franka_in_alohas_layout_with_jpeg_rows(tmp_path: Path):
    rng = np.random.default_rng(0)
    pictures = [np.full((24, 32, 3), (200, 30, i), np.uint8) for i in range(6)]
    start = np.array([0.4, 0, 0.3, np.pi - 0.1, 0, 0])
    pose = start + np.cumsum(rng.normal(0, 0.005, (6, 6)), 0)
    with h5py.File(tmp_path / "episode_3.hdf5", "w") as file:
        rows = file.create_dataset("observations/rgb_images/camera_top", (6,), h5py.vlen_dtype(np.uint8))
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / "p.jpg", quality=95)
            rows[i] = np.frombuffer((tmp_path / "p.jpg").read_bytes(), np.uint8)
        file["puppet/end_effector"] = pose
        file["puppet/joint_position"] = np.concatenate([rng.normal(0, 0.1, (6, 7)), np.ones((6, 1))], 1)
    episode = open_log(tmp_path).open("episode_3.hdf5")
    np.testing.assert_allclose(episode.ee_position, pose[:, :3])
    assert episode.closedness.max() == 0
    assert np.abs(episode.frames["camera_top"].read([5])[0].mean((0, 1)) - [200, 30, 5]).max() < 4


def test_a_truncated_file_of_many_demos_is_named_and_the_others_are_read(log_copy):
    root = log_copy("robomimic_tiny")
    shutil.copy(root / "lift_image.hdf5", root / "second.hdf5")
    with open(root / "second.hdf5", "r+b") as file:
        file.truncate(100_000)
    report = open_log(root).check()
    assert len(report.accepted) == 2
    assert [f.reason for f in report.skipped] == ["truncated hdf5"]


def test_a_wrong_key_lists_what_there_is(log_copy):
    root = log_copy("robomimic_tiny")
    log = open_log(root / "lift_image.hdf5", key_map={"position": "robot0_ee_pos"})
    with pytest.raises(Damaged) as caught:
        log.open("demo_1")
    assert "robot0_eef_pos" in caught.value.remedy
    assert "robot0_gripper_qpos" in str(caught.value.value)
