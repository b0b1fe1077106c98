from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.checks import Damaged
from data.source import open_log
from data.video import write_video

T = 12


def write(folder: Path, kind: str = "video", **changes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    position = np.array([0.4, 0.0, 0.3]) + np.cumsum(rng.normal(0, 0.004, (T, 3)), 0)
    values = {
        "time_s": 100 + np.arange(T) * 0.1,
        "position": position,
        "euler": np.array([3.0, 0.1, 0.0]) + rng.normal(0, 0.01, (T, 3)),
        "closedness": np.linspace(0, 1, T),
        "commanded": np.concatenate([position, rng.normal(0, 0.1, (T, 3)), np.linspace(0, 1, T)[:, None]], 1),
        "objects/cup": np.tile([0.5, 0, 0, 0, 0, 0, 1.0], (T, 1)),
        "K/top": np.diag([50.0, 50, 1]),
    }
    values |= changes
    values = {name: value for name, value in values.items() if value is not None}
    pictures = [np.full((32, 48, 3), (20 * i, 50, 90), np.uint8) for i in range(T)]
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "video":
        write_video(folder / "frames" / "top.mp4", pictures, 10)
    elif kind == "pictures":
        (folder / "frames" / "top").mkdir(parents=True)
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / "frames" / "top" / f"{i}.png")
    else:
        values["frames/top"] = np.stack(pictures)
    np.savez(folder / "episode.npz", **values)
    (folder / "about.json").write_text(
        json.dumps({"task": "lift the cup", "success": True, "uuid": folder.name})
    )
    return values


@pytest.mark.parametrize("kind", ["video", "pictures", "array"])
def test_what_is_written_is_read(tmp_path, scene, kind):
    values = write(tmp_path / "logs" / "a", kind)
    log = open_log(tmp_path / "logs")
    assert log.format == "folder"
    assert log.keys == ["a"]
    episode = log.open("a")
    np.testing.assert_array_equal(episode.ee_position, values["position"])
    scene.assert_rotations(episode.ee_quaternion, values["euler"])
    np.testing.assert_allclose(episode.time_s, np.arange(T) * 0.1, atol=1e-12)
    np.testing.assert_array_equal(episode.closedness, values["closedness"])
    np.testing.assert_array_equal(episode.commanded, values["commanded"])
    np.testing.assert_array_equal(episode.objects["cup"], values["objects/cup"])
    np.testing.assert_array_equal(episode.cameras["top"].K, values["K/top"])
    assert (episode.task, episode.success) == ("lift the cup", True)
    means = episode.frames["top"].read([11, 0, 5]).mean((1, 2))
    assert np.abs(means - [[220, 50, 90], [0, 50, 90], [100, 50, 90]]).max() < 6


def test_quaternions_and_a_rate_instead_of_a_clock(tmp_path):
    quaternion = np.tile([1.0, 0, 0, 0], (T, 1))
    write(tmp_path / "a", "array", euler=None, time_s=None, quaternion=quaternion)
    episode = open_log(tmp_path, rate_hz=5).open("a")
    np.testing.assert_allclose(np.abs(episode.ee_quaternion[:, 0]), 1)
    np.testing.assert_allclose(np.diff(episode.time_s), 0.2)


def test_a_missing_array_is_named(tmp_path):
    write(tmp_path / "a", "array", closedness=None)
    with pytest.raises(Damaged, match="no key for closedness"):
        open_log(tmp_path).open("a")


def test_a_folder_of_nothing_known_says_what_is(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt.*Known formats: droid.*docs/logs\.md"):
        open_log(tmp_path)


def test_a_path_that_is_not_there_shows_what_is_beside_it(tmp_path):
    (tmp_path / "my_logs").mkdir()
    with pytest.raises(ValueError, match="my_logs"):
        open_log(tmp_path / "my_log")
