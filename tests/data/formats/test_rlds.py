from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from data.checks import Damaged
from data.formats.tfrecord import crc32c
from data.source import open_log

SHARD = "droid_tiny/1.0.0/droid_tiny-train.tfrecord-00000-of-00001"
VIEWS = {"exterior_image_1_left": 0, "wrist_image_left": 1, "exterior_image_2_left": 2}


def test_episodes_are_read_to_their_truth(log_copy, scene):
    log = open_log(log_copy("rlds_tiny"))
    assert log.format == "rlds"
    assert log.keys == [f"{SHARD}:0", f"{SHARD}:1"]
    for ep, key in enumerate(log.keys):
        episode = log.open(key)
        rows = np.arange(len(episode))
        pose, after = scene.euler_pose(ep, rows), scene.euler_pose(ep, rows + 1)
        assert len(episode) == 20
        np.testing.assert_allclose(episode.ee_position, pose[:, :3], atol=1e-6)
        scene.assert_rotations(episode.ee_quaternion, pose[:, 3:], 2e-6)
        np.testing.assert_allclose(episode.closedness, scene.closedness(rows), atol=1e-6)
        np.testing.assert_allclose(episode.joints, scene.joints(ep, rows), atol=1e-6)
        np.testing.assert_allclose(episode.commanded[:, :3], after[:, :3], atol=1e-6)
        np.testing.assert_allclose(episode.commanded[:, 6], scene.closedness(rows + 1), atol=1e-6)
        assert episode.task == f"push the square in lane {ep}"
        for camera, view in VIEWS.items():
            for t in (0, 11, 19):
                scene.assert_frame(episode.frames[camera].read([t])[0], ep, t, view)


def test_checksum_of_known_values():
    # RFC 3720, B.4.
    assert crc32c(b"\x00" * 32) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", [255, 511, 512, 4096, 70_001, 1_100_003])
def test_checksum_in_lanes_is_the_checksum_byte_by_byte(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    started = time.thread_time()
    assert crc32c(data) == crc ^ 0xFFFFFFFF
    assert time.thread_time() - started < 2.0


def test_one_flipped_byte_is_found(log_copy):
    root = log_copy("rlds_tiny")
    data = bytearray((root / SHARD).read_bytes())
    data[5000] ^= 1
    (root / SHARD).write_bytes(data)
    report = open_log(root).check()
    assert report.accepted == [f"{SHARD}:1"]
    assert [f.reason for f in report.skipped] == ["wrong checksum"]


def test_a_cut_file_keeps_its_first_record(log_copy):
    root = log_copy("rlds_tiny")
    data = (root / SHARD).read_bytes()
    first = struct.unpack("<Q", data[:8])[0] + 16
    (root / SHARD).write_bytes(data[: first + 1000])
    log = open_log(root)
    assert len(log.open(f"{SHARD}:0")) == 20
    with pytest.raises(Damaged, match="truncated tfrecord"):
        log.open(f"{SHARD}:1")
