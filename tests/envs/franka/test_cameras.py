"""What a camera can do wrong is named, and nothing else is."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from envs.arm import ArmError
from envs.franka.cameras import CameraFault, VideoSource, open_camera

FAULTS = {
    "frozen": "frozen",
    "black": "black",
    "half": r"wrong size.*\(48, 32, 3\)",
    "wrong size": r"wrong size.*\(96, 64, 3\)",
    "unplugged": "no such device",
    "stalled": "late",
}


@pytest.mark.parametrize("mode", FAULTS)
def test_faults_are_refused_and_pass_when_mended(camera, mode: str) -> None:
    source, watched = camera
    frame, taken_s = watched.latest(1.0)
    assert frame.shape == (48, 64, 3)
    assert 0 <= time.monotonic() - taken_s < 1.0
    source.mode = mode
    time.sleep(0.5)
    with pytest.raises(CameraFault, match=FAULTS[mode]):
        watched.latest(0.3)
    assert sum(watched.report()["faults"].values()) >= 1
    source.mode = "good"
    time.sleep(0.3)
    watched.latest(1.0)


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
    assert time.monotonic() - begun > 0.8 * 6 / 25
    np.testing.assert_allclose(means, [80, 120, 160, 80, 120, 160, 80], atol=6)
    camera = open_camera(f"video:{path}", name="wrist", size=32)
    frame, _ = camera.latest(2.0)
    assert frame.shape == (32, 32, 3)
    assert (camera.info.height, camera.info.width) == (32, 32)
    camera.close()
    source.close()


def test_unknown_cameras_are_named() -> None:
    with pytest.raises(ArmError, match=r"v4l:\.\.\., realsense"):
        open_camera("usb:0", name="a")
    with pytest.raises(ArmError, match="no video"):
        open_camera("video:/nowhere.mp4", name="a")
