"""The doctor really tries things, and says what to do about what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import doctor, probes
from agent.doctor import Verdict


@pytest.mark.parametrize("probe", probes.PROBES)
def test_probes_find_what_this_environment_has(probe: str) -> None:
    found, wrong = probes.ask(probe)
    assert found, wrong


def test_codecs_come_back_as_they_went() -> None:
    found = probes.codecs()
    assert set(found) == {"h264", "mpeg4", "hevc", "av1"}
    assert isinstance(found["h264"], float)
    assert 0 < found["h264"] < 5  # grey levels; zero would mean that nothing was compressed


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="EGL is Linux's way")
def test_no_gl_is_said_with_the_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vendor library: what a bare machine looks like."""
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere.json")
    finding = doctor.rendering()
    assert finding.verdict is Verdict.bad
    assert "apt-get install" in finding.remedy
    assert "libegl1" in finding.remedy


def test_a_probe_that_dies_or_hangs_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    found, wrong = probes.ask("mujoco", timeout_s=0.01)
    assert found is None
    assert "no answer" in wrong
    monkeypatch.setattr(probes.sys, "executable", "/bin/false")
    assert probes.ask("mujoco") == (None, "exit status 1")


def test_a_damaged_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from world_model import checkpoint

    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    assert doctor.model().verdict is Verdict.bad
    folder = tmp_path / doctor.SHIPPED
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    finding = doctor.model()
    assert finding.verdict is Verdict.bad
    assert "config.json" in finding.found


def test_little_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK_GB", 1e6)
    assert doctor.disk(tmp_path).verdict is Verdict.note
    monkeypatch.setattr(doctor, "LOW_DISK_GB", 1e6)
    finding = doctor.disk(tmp_path)
    assert finding.verdict is Verdict.bad
    assert "out=DIR" in finding.remedy


def test_device_comes_with_its_reason() -> None:
    device, why = doctor.device_and_why()
    assert device in ("cpu", "cuda", "mps")
    assert len(why) > 5


def test_the_whole_table(user) -> None:
    done = user("doctor", timeout=280)
    for what in (
        "Python",
        "torch",
        "rendering",
        "MuJoCo",
        "PyBullet",
        "video",
        "Rerun",
        "real arms",
        "disk",
        "model",
    ):
        assert f"  {what} " in done.stdout, what
    assert done.returncode == (1 if "BAD" in done.stdout else 0)
    assert done.returncode == 0, done.stdout


def test_a_log_folder_is_checked(user, tmp_path: Path) -> None:
    from agent.collect import collect

    collect(tmp_path / "logs", episodes=2, workers=1)
    done = user("doctor", "data=logs")
    assert done.returncode == 0, done.stderr
    assert "accepted 2, skipped 0" in done.stdout

    video = next((tmp_path / "logs").rglob("*.mp4"))
    half = video.read_bytes()[:500]
    video.unlink()  # as a copy that was broken off leaves it
    video.write_bytes(half)
    hurt = user("doctor", "data=logs")
    assert "accepted 1, skipped 1" in hurt.stdout
    assert video.name in hurt.stdout

    (tmp_path / "empty").mkdir()
    assert user("doctor", "data=empty").returncode == 2
    assert user("doctor", "data=nowhere").returncode == 2
