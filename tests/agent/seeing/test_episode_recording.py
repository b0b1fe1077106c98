from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import rerun as rr
from rerun.chunk import RrdReader

from agent.inspect import as_json, bars, summarise_log, table
from agent.seeing.episode_recording import record_episode
from agent.seeing.viewer import KEEPS_TO_ITSELF
from data.checks import Finding
from data.source import open_log

FIXTURES = Path(__file__).parents[2] / "fixtures"
GOOD = "1.0.1/LAB/success/2023-05-15/Mon_May_15_00:51:15_2023"


@pytest.fixture
def log(tmp_path):
    shutil.copytree(FIXTURES / "droid_raw_tiny", tmp_path / "logs")
    return open_log(tmp_path / "logs")


def test_the_recording_is_sound_and_has_everything(log, tmp_path):
    finding = Finding(reason="jump", file="x", remedy="Cut it.", row=4)
    path = record_episode(log.open(GOOD), tmp_path / "run" / "episode.rrd", findings=[finding])
    rerun, env = Path(sys.executable).with_name("rerun"), {**os.environ, **KEEPS_TO_ITSELF}
    verified = subprocess.run([rerun, "rrd", "verify", path], capture_output=True, text=True, env=env)
    assert verified.returncode == 0, verified.stderr
    listed = subprocess.run(
        [rerun, "rrd", "print", "-v", path], capture_output=True, text=True, env=env
    ).stdout
    for entity in (
        "/world/cameras/exterior_left/picture",
        "/world/cameras/wrist/picture",
        "/world/arm/panda_hand",
        "/world/path",
        "/plots/position/x",
        "/plots/gripper/commanded",
        "/plots/actions/yaw",
        "/notes",
    ):
        assert entity in listed, entity
    assert "VideoStream" in listed
    codecs = set()
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        if "VideoStream:codec" in batch.schema.names:
            codecs |= {value for row in batch.column("VideoStream:codec").to_pylist() for value in row}
    wanted = rr.VideoCodec.AV1 if "libsvtav1" in av.codecs_available else rr.VideoCodec.H264
    assert codecs == {wanted.value}, "for H.264 the viewer wants an ffmpeg"
    assert path.stat().st_size < 3_000_000


def test_an_episode_without_joints_is_drawn_without_an_arm(log, tmp_path):
    episode = log.open(GOOD)
    episode.joints = episode.commanded = None
    assert record_episode(episode, tmp_path / "episode.rrd").exists()


def test_the_table_says_what_the_folder_holds(log):
    report = log.check()
    summary = summarise_log(log, report)
    text = "\n".join(table(summary))
    assert "episodes   2, 0.00 hours, 39 rows" in text
    assert "1 push the square in lane 0; 1 push the square in lane 1" in text
    assert "success    100 % of 2" in text
    content = as_json(summary)
    # The scene moves 1 cm in x, -0.5 cm in z and nothing in y a row, three rows to a step.
    assert content["step_mean_abs"]["x"] == pytest.approx(0.03)
    assert content["step_mean_abs"]["y"] == pytest.approx(0.0)
    assert content["step_mean_abs"]["z"] == pytest.approx(0.015)
    assert sum(content["steps"]["x"]) == sum(content["steps"]["gripper"]) > 10


def test_bars_keep_what_is_rare_visible():
    drawn = bars(np.array([0, 1, 10_000]))
    assert drawn[0] == " "
    assert drawn[1] != " "
    assert drawn[2] == "█"
