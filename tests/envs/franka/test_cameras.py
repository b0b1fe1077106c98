"""What a camera can do wrong is named, and nothing else is."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from conftest_helpers import until

from envs.arm import ArmError
from envs.franka.cameras import CameraFault, VideoSource, WatchedCamera, open_camera

FAULTS = {
    "frozen": "frozen",
    "black": "black",
    "half": r"wrong size.*\(48, 32, 3\)",
    "wrong size": r"wrong size.*\(96, 64, 3\)",
    "unplugged": "no such device",
    "stalled": "late",
}


def refusal(watched: WatchedCamera, max_age_s: float) -> str:
    """Why the newest frame is not taken; nothing where it is."""
    try:
        watched.latest(max_age_s)
    except CameraFault as error:
        return str(error)
    return ""


@pytest.mark.parametrize("mode", FAULTS)
def test_faults_are_refused_and_pass_when_mended(camera, mode: str) -> None:
    """Only a camera that stalls may be called late: the rest have all the time that a busy machine takes."""
    source, watched = camera
    max_age_s = 0.3 if mode == "stalled" else 60.0
    frame, taken_s = watched.latest(60.0)
    assert frame.shape == (48, 64, 3)
    assert taken_s <= time.monotonic()
    source.mode = mode
    until(lambda: re.search(FAULTS[mode], refusal(watched, max_age_s)))
    assert sum(watched.report()["faults"].values()) >= 1
    mended_s = time.monotonic()
    source.mode = "good"
    until(lambda: not refusal(watched, 60.0) and watched.taken_s > mended_s)


def test_a_recording_stands_in_at_its_own_rate(tmp_path: Path) -> None:
    import av

    path = tmp_path / "recording.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in (80, 120, 160):
            picture = np.full((48, 64, 3), value, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    source = VideoSource(path)
    begun = time.monotonic()
    means = [source.read()[0].mean() for _ in range(7)]
    assert time.monotonic() - begun > 0.99 * 6 / 25
    np.testing.assert_allclose(means, [80, 120, 160, 80, 120, 160, 80], atol=6)
    camera = open_camera(f"video:{path}", name="wrist", size=32)
    frame, _ = camera.latest(60.0)
    assert frame.shape == (32, 32, 3)
    assert (camera.info.height, camera.info.width) == (32, 32)
    camera.close()
    source.close()


def test_unknown_cameras_are_named() -> None:
    with pytest.raises(ArmError, match=r"v4l:\.\.\., realsense"):
        open_camera("usb:0", name="a")
    with pytest.raises(ArmError, match="no video"):
        open_camera("video:/nowhere.mp4", name="a")
