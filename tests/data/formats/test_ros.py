from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from data.checks import Damaged
from data.formats.cdr import Cdr, picture
from data.formats.ros_topics import slerp
from data.source import open_log

PHASE_ROWS = 0.007 * 15  # the camera's phase, in steps of the scene


def assert_bag(episode, scene, ep: int, frames: list[int]) -> None:
    assert len(episode) == len(frames)
    u = np.array(frames) + PHASE_ROWS
    # The scene's first row has roll -pi, every other continues from pi: the same rotation.
    pose = scene.euler_pose(ep, u)
    np.testing.assert_allclose(episode.ee_position, pose[:, :3], atol=2e-5)
    scene.assert_rotations(episode.ee_quaternion, pose[:, 3:], 1e-4)
    np.testing.assert_allclose(episode.joints, scene.joints(ep, u), atol=2e-5)
    np.testing.assert_allclose(episode.closedness, scene.closedness(u), atol=1e-6)
    np.testing.assert_allclose(episode.commanded[:, 6], scene.closedness(u), atol=1e-6)
    np.testing.assert_allclose(episode.time_s, (np.array(frames) - frames[0]) / 15, atol=1e-6)
    for i, t in enumerate(frames):
        for camera, view in (("exterior", 0), ("wrist", 1)):
            scene.assert_frame(episode.frames[camera].read([i])[0], ep, t, view)


def test_mcap_is_read_to_its_truth(log_copy, scene):
    root = log_copy("mcap_ros2_tiny")
    truth = json.loads((root / "truth.json").read_text())
    log = open_log(root)
    assert log.format == "ros2"
    assert log.keys == ["episode_000.mcap", "episode_001.mcap"]
    assert_bag(log.open("episode_000.mcap"), scene, 0, list(range(19)))
    assert_bag(log.open("episode_001.mcap"), scene, 1, [t for t in range(19) if t != 9])
    episode = log.open("episode_000.mcap")
    camera = episode.cameras["exterior"]
    np.testing.assert_allclose(camera.K.reshape(-1), truth["camera_K"])
    known = truth["base_T_exterior_cam"]
    np.testing.assert_allclose(camera.base_T_cam[:3, 3], known["translation"], atol=1e-9)
    turn = Rotation.from_matrix(camera.base_T_cam[:3, :3]) * Rotation.from_quat(known["rotation_xyzw"]).inv()
    assert turn.magnitude() < 1e-6
    assert episode.task == "push the square in lane 0"


def test_sqlite_bag_is_the_same_as_the_mcap(log_copy, scene):
    log = open_log(log_copy("rosbag2_sqlite_tiny"))
    assert log.keys == ["."]
    assert_bag(log.open("."), scene, 0, list(range(19)))


def test_a_recorder_killed_late_leaves_what_it_had_written(log_copy, tmp_path):
    from mcap.reader import make_reader
    from mcap.writer import Writer

    source = log_copy("mcap_ros2_tiny") / "episode_000.mcap"
    target = tmp_path / "cut" / "episode.mcap"
    target.parent.mkdir()
    with open(source, "rb") as stream, open(target, "wb") as out:
        writer = Writer(out, chunk_size=4096)
        writer.start()
        schemas: dict[int, int] = {}
        channels: dict[int, int] = {}
        for schema, channel, message in make_reader(stream).iter_messages():
            if schema.id not in schemas:
                schemas[schema.id] = writer.register_schema(schema.name, schema.encoding, schema.data)
            if channel.id not in channels:
                channels[channel.id] = writer.register_channel(channel.topic, "cdr", schemas[schema.id])
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time, message.sequence
            )
        writer.finish()
    data = target.read_bytes()
    target.write_bytes(data[: int(len(data) * 0.7)])
    log = open_log(target.parent)
    report = log.check()
    assert report.accepted == ["episode.mcap"]
    assert [f.reason for f in report.flagged] == ["unfinished bag"]
    assert 5 < len(log.open("episode.mcap")) < 19


def test_damaged_lists_at_the_end_hide_no_topic(log_copy, scene):
    """The library reads them without their checksum: without the hand's topic its place was worked out from joints."""
    root = log_copy("mcap_ros2_tiny")
    bag = root / "episode_000.mcap"
    data = bag.read_bytes()
    place = data.rindex(b"geometry_msgs/")
    bag.write_bytes(data[:place] + bytes(280) + data[place + 280 :])
    log = open_log(root)
    report = log.check(thorough=True)
    assert report.accepted == ["episode_000.mcap", "episode_001.mcap"]
    assert ["checksum of its summary is wrong" in str(f.value) for f in report.flagged] == [True]
    assert_bag(log.open("episode_000.mcap"), scene, 0, list(range(19)))


def test_a_bag_of_one_cut_chunk_is_named(log_copy):
    root = log_copy("mcap_ros2_tiny")
    data = (root / "episode_001.mcap").read_bytes()
    (root / "episode_001.mcap").write_bytes(data[: len(data) // 2])
    report = open_log(root).check()
    assert report.accepted == ["episode_000.mcap"]
    assert [f.reason for f in report.skipped] == ["truncated mcap"]


def test_topics_by_key_map(log_copy):
    root = log_copy("mcap_ros2_tiny")
    shutil.rmtree(root / "x", ignore_errors=True)
    log = open_log(root, key_map={"camera.hand": "/camera/wrist/image_raw"})
    assert list(log.open("episode_000.mcap").frames) == ["hand"]
    wrong = open_log(root, key_map={"pose": "/franka/ee_pos"})
    with pytest.raises(Damaged, match="/franka/ee_pose") as caught:
        wrong.open("episode_000.mcap")
    assert "/franka/joint_states" in str(caught.value.value)


def test_joint_states_alone_become_poses(log_copy):
    root = log_copy("mcap_ros2_tiny")
    log = open_log(root)
    known = log.open("episode_000.mcap")
    from data.formats.ros_topics import Topics

    assert known.meta["tool"] == "tcp"
    original = Topics.pose
    try:
        Topics.pose = lambda self: None
        from data.survey import open_checked

        episode, _ = open_checked(log.reader, "episode_000.mcap")
    finally:
        Topics.pose = original
    assert 0.3 < np.linalg.norm(episode.ee_position[0]) < 0.9


def test_slerp_is_scipys():
    rng = np.random.default_rng(0)
    rotations = Rotation.random(20, rng=rng)
    times = np.cumsum(rng.uniform(0.01, 0.2, 20))
    clock = rng.uniform(times[0], times[-1], 200)
    mine = Rotation.from_quat(slerp(clock, times, rotations.as_quat() * rng.choice([-1, 1], (20, 1))))
    assert (mine * Slerp(times, rotations)(clock).inv()).magnitude().max() < 1e-6


def test_pictures_in_rows_with_padding():
    import struct

    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    rows = b"".join(row.tobytes() + b"\xaa" * 3 for row in pixels)
    body = struct.pack("<iII", 1, 2, 4) + b"cam\0" + struct.pack("<II", 2, 3)
    body += struct.pack("<I", 5) + b"bgr8\0" + b"\0" + b"\0" * (-(len(body) + 10) % 4)
    body += struct.pack("<II", 12, len(rows)) + rows
    message = b"\x00\x01\x00\x00" + body
    np.testing.assert_array_equal(picture("sensor_msgs/msg/Image", message), pixels[..., ::-1])
    with pytest.raises(ValueError, match="claimed"):
        Cdr(message[:20]).take("u1", 100)
