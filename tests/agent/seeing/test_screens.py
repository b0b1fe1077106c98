"""What a person sees on the screen: the page in a browser, the recording in Rerun's own viewer."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rerun.experimental import ViewerClient

from agent.session import open_session, play_session
from agent.settings import ConfiguratorSettings, EnvConfig, SessionConfig

pytestmark = pytest.mark.slow
STEPS = 6


@pytest.fixture(scope="module")
def played(tiny_model, tmp_path_factory):
    config = SessionConfig(
        model=str(tiny_model), task="grasp", seed=3, budget_steps=STEPS, env=EnvConfig(image_size_px=32),
        configurator=ConfiguratorSettings(mode="planner"),
    )  # fmt: skip
    session = open_session(config)
    try:
        return play_session(session, config, tmp_path_factory.mktemp("run"), say=lambda text: None)
    finally:
        session.arm.close()


def photograph(page, out, *, dark, width):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "no Chromium on this machine: apt-get install chromium"
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},1600",
            *(["--force-dark-mode"] if dark else []), f"--screenshot={out}", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return np.asarray(Image.open(out).convert("RGB")).astype(int)


@pytest.mark.parametrize("width", [500, 1200])
def test_the_page_in_a_browser_light_and_dark(played, width, tmp_path):
    page = played.files["report"]
    light = photograph(page, tmp_path / "light.png", dark=False, width=width)
    dark = photograph(page, tmp_path / "dark.png", dark=True, width=width)
    assert light.shape == dark.shape == (1600, width, 3)
    assert light[-5:, :5].mean() > 240, "a light page has a light ground"
    assert dark[-5:, :5].mean() < 60, "a dark page has a dark ground"
    for picture in (light, dark):
        ground = picture[-5, 2]
        drawn = abs(picture - ground).sum(-1) > 60
        assert 0.05 < drawn.mean() < 0.9
        assert drawn[:, -4:].mean() < 0.02, "nothing runs over the right edge"
        assert np.ptp(drawn.any(1).nonzero()[0]) > 800, "words, film and plots below each other"


def test_the_recording_in_the_viewer(played, tmp_path, monkeypatch):
    """The blueprint's views are there and each shows something."""
    software = next(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"), None)
    assert software, "no software Vulkan on this machine: apt-get install mesa-vulkan-drivers"
    monkeypatch.setenv("VK_ICD_FILENAMES", str(software))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    viewer = ViewerClient.spawn(
        headless=True, port=port, executable_path=str(Path(sys.executable).with_name("rerun"))
    )
    try:
        viewer.open(str(played.files["recording"]))
        viewer.set_time("step", sequence=STEPS - 1)
        deadline = time.monotonic() + 60  # data come in after the window is there
        blank = ["everything"]
        while blank and time.monotonic() < deadline:
            time.sleep(2)
            viewer.save_screenshot(str(tmp_path / "viewer.png"))
            blank = blank_parts(np.asarray(Image.open(tmp_path / "viewer.png").convert("RGB")))
    finally:
        viewer.quit()
    assert blank == []


def blank_parts(picture):
    """Which parts of the blueprint show nothing yet."""
    height, width = picture.shape[:2]
    parts = {
        "arm": picture[height // 20 : height // 2, : width // 2],
        "camera": picture[height // 16 : height // 4, int(0.61 * width) : int(0.72 * width)],
        "plots": picture[int(0.57 * height) : int(0.73 * height), int(0.62 * width) : int(0.72 * width)],
    }
    needed = {"arm": 400, "camera": 100, "plots": 60}
    return [
        name for name, part in parts.items() if len(np.unique(part.reshape(-1, 3), axis=0)) < needed[name]
    ]
