"""Files with bytes flipped, cut, swapped or blanked: read right or skipped with a reason, and nothing hangs or dies.

A few per format in `make test`, 2,000 per format in `make test-all`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.cutting import fitted
from data.formats.pictures import close_hdf5
from data.sandbox import LIMIT_S, shared
from data.source import open_log
from data.survey import open_checked
from data.types import Episode
from data.video import close_videos, write_video

FIXTURES = Path(__file__).parents[2] / "fixtures"
DROID = "droid_raw_tiny/1.0.1/LAB/success/2023-05-15/Mon_May_15_00:51:15_2023"
FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    "droid": (DROID, {}),
    "lerobot_v3": ("lerobot_tiny", {}),
    "lerobot_v3_images": ("lerobot_v3_image_split_tiny", {}),
    "lerobot_v21": ("lerobot_v21_tiny", {}),
    "robomimic": ("robomimic_tiny", {}),
    "libero": ("libero_layout_tiny", {}),
    "aloha": ("aloha_act_tiny", {"kinematics": "viperx_300s"}),
    "rlds": ("rlds_tiny", {}),
    "mcap": ("mcap_ros2_tiny", {}),
    "sqlite": ("rosbag2_sqlite_tiny", {}),
    "folder": ("", {}),
}
CHECKSUMMED = ("rlds", "mcap", "folder")  # a changed byte of their numbers cannot go unnoticed
FEW = 200 // len(FORMATS) + 1
MANY = 2000


def make_folder(target: Path) -> None:
    rng = np.random.default_rng(1)
    pictures = [np.full((16, 16, 3), 10 * i, np.uint8) for i in range(10)]
    write_video(target / "a" / "frames" / "top.mp4", pictures, 10)
    np.savez(
        target / "a" / "episode.npz",
        time_s=np.arange(10) * 0.1,
        position=np.array([0.4, 0, 0.3]) + np.cumsum(rng.normal(0, 0.004, (10, 3)), 0),
        quaternion=np.tile([1.0, 0, 0, 0], (10, 1)),
        closedness=np.zeros(10),
    )
    (target / "a" / "about.json").write_text('{"task": "x", "success": true}')


def damage(file: Path, rng: np.random.Generator) -> str:
    data = bytearray(file.read_bytes())
    kind = str(rng.choice(["flip", "flip", "cut", "swap", "blank"]))
    size = len(data)
    # Half of the time near the beginning, where the structure is.
    reach = size if rng.random() < 0.5 else min(size, 2048)
    if kind == "cut":
        data = data[: rng.integers(0, size)]
    elif kind == "flip":
        for at in rng.integers(0, reach, rng.integers(1, 20)):
            data[at] ^= rng.integers(1, 256)
    else:
        length = int(min(rng.integers(1, 512), size))
        at, to = (int(rng.integers(0, max(1, n - length + 1))) for n in (reach, size))
        block = data[at : at + length]
        data[at : at + length] = data[to : to + length] if kind == "swap" else bytes(length)
        if kind == "swap":
            data[to : to + len(block)] = block
    file.write_bytes(data)
    return kind


def lay_out(name: str, root: Path) -> None:
    """A log of a format, whole."""
    source, _ = FORMATS[name]
    if source:
        shutil.copytree(FIXTURES / source, root / "a" if name == "droid" else root)
    else:
        make_folder(root)


_undamaged: dict[str, dict[str, Episode]] = {}


def undamaged(name: str, place: Path) -> dict[str, Episode]:
    """The episodes of a format before anything happened to them."""
    if name not in _undamaged:
        lay_out(name, place / f"{name}-whole")
        log = open_log(place / f"{name}-whole", **FORMATS[name][1])
        _undamaged[name] = {key: log.open(key) for key in log.check().accepted}
        assert _undamaged[name]
    return _undamaged[name]


def assert_as_written(episode: Episode, known: Episode, where: str) -> None:
    """Every number is what it was, of as many rows as are left."""
    for field in ("time_s", "ee_position", "ee_quaternion", "closedness", "joints", "commanded"):
        seen, there = getattr(episode, field), getattr(known, field)
        assert (seen is None) == (there is None), where
        if seen is not None:
            np.testing.assert_allclose(seen, there[: len(episode)], atol=1e-9, err_msg=f"{where}, {field}")


def files_of(root: Path) -> list[Path]:
    return sorted(f for f in root.rglob("*") if f.is_file() and "truth" not in f.name and not f.is_symlink())


def worked_s() -> float:
    """Seconds of the processor, of this process and of those that open files for it: the clock knows how busy it is."""
    child, total = shared()._child, time.process_time()
    try:
        started = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split() if child else []
        for pid in [child.pid if child else 0, *map(int, started)]:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except OSError:  # one that has just died has been counted by who started it, or will be
        pass
    return total


def one(name: str, seed: int, place: Path) -> str:
    """Damage one file of a log and look at it; returns what came of it."""
    options = FORMATS[name][1]
    rng = np.random.default_rng([seed, len(name)])
    root = place / f"{name}-{seed}"
    lay_out(name, root)
    files = files_of(root)
    target = files[int(rng.integers(len(files)))]
    kind = damage(target, rng)
    where = f"{name} seed {seed}: {kind} in {target.relative_to(root)}"
    before = worked_s()
    try:
        log = open_log(root, **options)
        report = log.check(thorough=True)
    except ValueError as error:  # no longer a log of any kind, which the message says
        if str(root) not in str(error):
            raise AssertionError(where) from error
        return "no log"
    took = worked_s() - before
    assert took < (LIMIT_S + 1) * (len(log) + 2), where
    for finding in report.skipped:
        assert finding.reason, where
        assert finding.remedy, where
        assert finding.file, where
    for key in report.accepted:
        episode, _ = open_checked(log.reader, key)
        if name in CHECKSUMMED or target.suffix == ".mp4":
            assert_as_written(episode, undamaged(name, place)[key], where)
        for values in (episode.time_s, episode.ee_position, episode.ee_quaternion, episode.closedness):
            assert np.isfinite(values).all(), where
        assert (np.diff(episode.time_s) > 0).all(), where
        assert np.abs(np.linalg.norm(episode.ee_quaternion, axis=1) - 1).max() < 1e-3, where
        for frames in episode.frames.values():
            pictures = frames.read(range(len(episode)))
            assert pictures.dtype == np.uint8, where
            assert pictures.shape[0] == len(episode), where
            small = fitted(frames, range(0, len(episode), 5), size=16, crop="droid_train")
            assert small.shape[1:] == (16, 16, 3), where
    close_videos()
    close_hdf5()
    shutil.rmtree(root)
    return "; ".join(sorted({f.reason for f in report.skipped})) or "read"


@pytest.fixture(scope="module", autouse=True)
def _child():
    """The child process has been started: importing takes it seconds, which is not the files' doing."""
    assert shared().ask("recognise", str(FIXTURES / "lerobot_tiny"), file="") == "lerobot"


@pytest.mark.parametrize("name", FORMATS)
def test_some_damaged_files(name, tmp_path):
    outcomes = Counter(one(name, seed, tmp_path) for seed in range(FEW))
    assert outcomes.total() == FEW


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FORMATS)
def test_many_damaged_files(name, tmp_path):
    many = int(os.environ.get("FOREARM_FUZZ", MANY))
    outcomes = Counter(one(name, 10_000 + seed, tmp_path) for seed in range(many))
    print(name, outcomes.most_common())
    assert outcomes.total() == many
    assert len(outcomes) > 2  # damage was done, and told apart
