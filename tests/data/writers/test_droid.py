"""What is recorded in DROID's layout: readable by DROID's rules, complete or not there, the same numbers back."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.checks import Damaged
from data.source import open_log
from data.types import Camera, Observation
from data.writers.droid import UNFINISHED, DroidWriter, serials_of


def datasets(file: Path) -> dict[str, tuple]:
    found: dict[str, tuple] = {}
    with h5py.File(file) as h5:
        h5.visititems(
            lambda n, i: (
                found.update({n: (i.shape[1:], i.dtype.kind)}) if isinstance(i, h5py.Dataset) else None
            )
        )
    return found


def test_numbers_come_back(tmp_path, record, truth):
    record(tmp_path, 2, rows=25)
    log = open_log(tmp_path)
    assert log.format == "droid"
    episode = log.open(log.keys[0])
    pose = np.stack([truth["pose"](t, 2) for t in range(25)])
    np.testing.assert_allclose(episode.ee_position, pose[:, :3], atol=1e-12)
    np.testing.assert_allclose(episode.closedness, pose[:, 6], atol=1e-12)
    np.testing.assert_allclose(episode.joints, [truth["joints"](t, 2) for t in range(25)], atol=1e-12)
    np.testing.assert_allclose(episode.commanded, [truth["commanded"](t, 2) for t in range(25)], atol=1e-12)
    np.testing.assert_allclose(episode.objects["cube"], [truth["cube"](t, 2) for t in range(25)], atol=1e-12)
    np.testing.assert_allclose(episode.time_s, np.arange(25) * 0.2, atol=1e-3)
    assert (episode.task, episode.success, episode.meta["uuid"]) == ("lift", True, "episode-002")
    assert sorted(episode.frames) == ["exterior_left", "wrist"], "camera names survive"
    np.testing.assert_allclose(episode.cameras["exterior_left"].K, np.diag([60.0, 60.0, 1.0]))
    np.testing.assert_allclose(episode.cameras["exterior_left"].base_T_cam, np.eye(4), atol=1e-12)
    for camera, shift in (("exterior_left", 0), ("wrist", 3)):
        seen = episode.frames[camera].read(range(25)).astype(int)
        expected = np.stack([truth["picture"](t, 2 + shift) for t in range(25)])
        assert np.abs(seen - expected).mean() < 3, "within codec loss"
        assert np.abs(seen - expected)[..., 0].max(axis=(1, 2)).mean() < 90, "and no frame is another's"


def test_layout_is_droids_own(tmp_path, record, fixtures):
    folder = record(tmp_path, 0)
    droid = (
        fixtures / "droid_raw_tiny" / "1.0.1" / "LAB" / "success" / "2023-05-15" / "Mon_May_15_00:51:15_2023"
    )
    theirs, ours = datasets(droid / "trajectory.h5"), datasets(folder / "trajectory.h5")
    # Torques and the controller's internals are unknown to us: absent is honest, zeros are not.
    unknown = (
        "action/robot_state",
        "torque",
        "target_",
        "controller_latency",
        "command_successful",
        "_right",
        "gripper_offset",
    )
    serials = {
        "25047636": serials_of(["exterior_left"])["exterior_left"],
        "17225336": serials_of(["wrist"])["wrist"],
    }
    for name, kind in theirs.items():
        for old, new in serials.items():
            name = name.replace(old, new)
        if "24013089" in name or any(u in name for u in unknown) or f"{serials['17225336']}_left" in name:
            continue
        assert ours[name] == kind, name
    assert {p.name for p in folder.iterdir()} == {"metadata_episode-000.json", "recordings", "trajectory.h5"}
    about = json.loads((folder / "metadata_episode-000.json").read_text())
    known = json.loads(next(droid.glob("metadata_*.json")).read_text())
    missing = set(known) - set(about)
    assert {k for k in missing if "svo" not in k and "ext2" not in k} == {
        "right_mp4_path",
        "wrist_cam_extrinsics",
    }
    assert (tmp_path / "SIM" / about["left_mp4_path"]).exists()
    assert about["ext1_cam_serial"] == serials["25047636"]
    assert folder.parent.parent == tmp_path / "SIM" / "success"
    assert time.mktime(time.strptime(folder.name, "%a_%b_%d_%H:%M:%S_%Y")) == 1_700_000_000.0


def test_serials_are_stable_and_differ():
    assert serials_of(["exterior_left", "wrist"]) == {"exterior_left": "25009259", "wrist": "56539882"}
    many = serials_of([f"camera{i}" for i in range(3000)])
    assert len(set(many.values())) == 3000
    assert all(len(s) == 8 and s.isdigit() for s in many.values())


def test_moving_cameras_are_written_where_they_were(tmp_path):
    cameras = [Camera(name="wrist", width=16, height=16, moving=True)]
    shown = [np.eye(4) + np.eye(4, k=3) * step for step in range(5)]
    with DroidWriter(tmp_path, lab="REAL", task="t", cameras=cameras, hz=10) as writer:
        for step in range(5):
            seen = Observation(
                frames={"wrist": np.zeros((16, 16, 3), np.uint8)}, pose=np.zeros(7), commanded=np.zeros(7),
                joints=np.zeros(7), time_s=0.1 * step, frame_times_s={"wrist": 0.1 * step - 0.02},
                gripper_force_n=float(step),
            )  # fmt: skip
            writer.add(seen, np.zeros(7), base_T_cam={"wrist": shown[step]})
        folder = writer.finish(success=False)
    serial = serials_of(["wrist"])["wrist"]
    with h5py.File(folder / "trajectory.h5") as h5:
        np.testing.assert_allclose(h5[f"observation/camera_extrinsics/{serial}_left"][:, 0], np.arange(5))
        np.testing.assert_allclose(h5["observation/robot_state/gripper_force_n"][:], np.arange(5))
        received = h5[f"observation/timestamp/cameras/{serial}_frame_received"][:]
        state = h5["observation/timestamp/robot_state/read_start"][:]
        np.testing.assert_array_equal(state - received, 20)
    assert folder.parent.parent.name == "failure"


def test_what_makes_no_sense_is_refused(tmp_path, record):
    camera = [Camera(name="wrist", width=8, height=8)]
    good = Observation(
        frames={"wrist": np.zeros((8, 8, 3), np.uint8)}, pose=np.zeros(7), commanded=np.zeros(7),
        joints=np.zeros(7), time_s=0.0,
    )  # fmt: skip
    with DroidWriter(tmp_path, lab="A", task="t", cameras=camera, hz=5) as writer:
        with pytest.raises(ValueError, match="row 0: a commanded pose is 7 finite numbers"):
            writer.add(good, np.full(7, np.nan))
        with pytest.raises(ValueError, match="needs at least one row"):
            writer.finish(success=True)
        writer.add(good, np.zeros(7), objects={"cube": np.zeros(7)})
        with pytest.raises(ValueError, match=r"row 1: objects are \[\], they were \['cube'\]"):
            writer.add(good, np.zeros(7))
        good.frames = {"front": good.frames["wrist"]}
        with pytest.raises(ValueError, match=r"no frame of camera 'wrist'; it has \['front'\]"):
            writer.add(good, np.zeros(7), objects={"cube": np.zeros(7)})
        with pytest.raises(ValueError, match="may not replace"):
            writer.finish(success=True, extra_meta={"uuid": "x"})
    assert list((tmp_path / "A").iterdir()) == [], "left without finish, nothing stays"


def record_many(root: Path, who: str, rows: int, count: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
    camera = [Camera(name="wrist", width=32, height=32)]
    for number in range(count):
        with DroidWriter(
            root, lab="SIM", task="t", cameras=camera, hz=5, uuid=f"{who}-{number:04d}", start_s=1.7e9
        ) as writer:
            for t in range(rows):
                pose = np.array([0.4 + 0.001 * t, 0, 0.3, 3.1, 0, 0, 0])
                seen = Observation(
                    frames={"wrist": frames[t]}, pose=pose, commanded=pose, joints=np.zeros(7), time_s=t / 5
                )
                writer.add(seen, pose)
            writer.finish(success=True)


def whole_or_named(root: Path, rows: int) -> tuple[int, int]:
    """How many folders open with all their rows and frames, and how many are named as unfinished; others fail."""
    log = open_log(root)
    whole = named = 0
    for key in log.keys:
        if UNFINISHED in key:
            with pytest.raises(Damaged, match="unfinished"):
                log.reader.open(key)
            named += 1
            continue
        episode = log.reader.open(key)
        assert len(episode) == len(episode.frames["wrist"]) == rows
        episode.frames["wrist"].read([0, rows - 1])
        whole += 1
    return whole, named


def kill_at_random_moments(elsewhere, root: Path, count: int, least_named: int) -> None:
    rng = random.Random(count)
    for number in range(count):
        process = elsewhere(record_many, root, f"k{number}", 6, 10_000)
        while not list(root.glob(f"SIM/success/*/*/metadata_k{number}-*.json")) and process.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.join()
    whole, named = whole_or_named(root, 6)
    assert whole >= count
    assert least_named <= named <= count, "nearly every kill met a recorder at work"


def test_killed_at_any_moment(tmp_path, elsewhere):
    kill_at_random_moments(elsewhere, tmp_path, 5, least_named=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_fifty_moments(tmp_path, elsewhere):
    kill_at_random_moments(elsewhere, tmp_path, 50, least_named=26)


def test_two_processes_record_into_one_folder(tmp_path, elsewhere):
    both = [elsewhere(record_many, tmp_path, who, 4, 15) for who in "ab"]
    for process in both:
        process.join(timeout=280)
        assert process.exitcode == 0
    assert whole_or_named(tmp_path, 4) == (30, 0)
    uuids = {p.name for p in tmp_path.rglob("metadata_*.json")}
    assert len(uuids) == 30, "episodes of the same second lie side by side"
