"""How fast clips come, against straightforward loaders on the same files in one run, and how fast folders open.

OpenCV and decord are compared with where they are installed (pip install opencv-python-headless decord).
Prints ratios, which survive a busy machine better than times; writes benchmarks/results/data.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import loaders as ways
from benchmarks.loaders import BESIDE, FRAMES, ONCE, Clip, Fit, Loader
from data.cache import build_cache
from data.clips import ClipDataset
from data.index import NAME
from data.types import Camera, Observation
from data.video import VideoWriter
from data.workers import side_by_side
from data.writers.droid import DroidWriter

RESULTS = Path(__file__).parent / "results" / "data.json"


def picture(step: int, seed: int, height: int, width: int) -> np.ndarray:
    """A smooth background with texture, and a square that moves, so that the codec has work."""
    y, x = np.mgrid[:height, :width]
    texture = np.random.default_rng(seed).integers(
        0, 24, (height // 8 + 1, width // 8 + 1, 1), dtype=np.int16
    )
    image = np.stack([x * 200 // width, y * 200 // height, (x + y + 2 * step) % 200], -1).astype(np.int16)
    image += np.kron(texture, np.ones((8, 8, 1), np.int16))[:height, :width]
    side = height // 5
    left, top = (5 * step + 31 * seed) % (width - side), (2 * step + 17 * seed) % (height - side)
    image[top : top + side, left : left + side] = (230, 60, 40)
    return image.clip(0, 255).astype(np.uint8)


def small_log(root: Path, episodes: int, rows: int) -> list[Path]:
    """Episodes as our recorders write them: 180x320 H.264, 15 Hz."""
    camera = [Camera(name="exterior_left", width=320, height=180)]
    for seed in range(episodes):
        with DroidWriter(root, lab="B", task="t", cameras=camera, hz=15, uuid=f"b{seed}") as writer:
            for t in range(rows):
                pose = np.array([0.4 + 0.0002 * t, 0, 0.3, 3.1, 0, 0, 0])
                frame = {"exterior_left": picture(t, seed, 180, 320)}
                writer.add(
                    Observation(frames=frame, pose=pose, commanded=pose, joints=np.zeros(7), time_s=t / 15),
                    pose,
                )
            writer.finish(success=True)
    return sorted(root.rglob("*.mp4"))


def large_videos(root: Path, files: int, rows: int) -> list[Path]:
    """1280x720 mp4v with a keyframe every 12 frames, as OpenCV writes them for DROID."""
    for seed in range(files):
        with VideoWriter(root / f"{seed}.mp4", 60, gop=12, codec="mpeg4") as writer:
            for t in range(rows):
                writer.add(picture(t, seed, 720, 1280))
    return sorted(root.glob("*.mp4"))


def compare(
    loaders: dict[str, Loader], files: list[Path], rows: int, *, stride: int, rounds: int, clips: int
) -> dict[str, Any]:
    """Clips per second, of the clock and of the processor, on the same clips in turns; medians over the rounds.

    On a busy machine the clock favours loaders that start more threads; the processor's seconds are fair.
    """
    rng = np.random.default_rng(0)
    clock: dict[str, list[float]] = {name: [] for name in loaders}
    processor: dict[str, list[float]] = {name: [] for name in loaders}
    reference = loaders["ours"]((files[0], 5, stride)).astype(int)
    for name, load in loaders.items():
        if name != "cache":
            apart = np.abs(load((files[0], 5, stride)).astype(int) - reference).mean()
            assert apart < 6, f"{name} gives other frames ({apart:.1f} levels apart)"
    for _ in range(rounds):
        starts = rng.integers(rows - FRAMES * stride, size=clips)
        chosen = [(files[i], int(s), stride) for i, s in zip(rng.integers(len(files), size=clips), starts)]
        for name, load in loaders.items():
            start, used = time.perf_counter(), time.process_time()
            if name == BESIDE:
                side_by_side(lambda clip: load(clip).size, chosen)  # noqa: B023  # as a dataset reads its batch
            else:
                for clip in chosen:
                    load(clip)
            clock[name].append(clips / (time.perf_counter() - start))
            processor[name].append(clips / (time.process_time() - used))
    rates = {
        kind: {name: round(statistics.median(values), 2) for name, values in found.items()}
        for kind, found in (("clips per second", clock), ("clips per second of processor", processor))
    }
    return rates | {f"ratios of {kind}": ratios(found) for kind, found in rates.items()}


def ratios(rates: dict[str, float]) -> dict[str, float]:
    """Our rate over each other's; the cache's over the better of those that open once per clip."""
    found = {f"ours / {n}": rates["ours"] / r for n, r in rates.items() if n not in ("ours", BESIDE, "cache")}
    once = [r for n, r in rates.items() if n in ONCE]
    if once:
        for name in ("ours", BESIDE, "cache"):
            if name in rates:
                found[f"{name} / better of one open per clip"] = rates[name] / max(once)
    return {name: round(ratio, 2) for name, ratio in found.items()}


def clips(folder: Path, *, rounds: int, quick: bool) -> dict[str, Any]:
    missing: set[str] = set()

    def loaders(fit: Fit | None) -> dict[str, Loader]:
        found = ways.ours(fit)
        for find in (ways.opencv, ways.decord):
            try:
                found |= find(fit)
            except ImportError as error:
                missing.add(str(error.name))
        return found

    rows = 60 if quick else 200
    small = sorted((folder / "log").rglob("*.mp4")) or small_log(folder / "log", 4 if quick else 16, rows)
    cache = build_cache(
        [folder / "log"], folder / "cache", cameras=("exterior_left",), image_size=128, period_s=0.2
    )
    dataset = ClipDataset(cache, length=FRAMES, split="all")
    number = np.random.default_rng(1)

    def cached(clip: Clip) -> np.ndarray:
        return dataset.batch(number.integers(len(dataset), size=1))["frames"].numpy()

    large = sorted((folder / "large").glob("*.mp4")) or large_videos(
        folder / "large", 2 if quick else 6, rows
    )
    found: dict[str, Any] = {}
    for stride, spacing in ((1, "in a row"), (3, "0.2 s apart at 15 Hz")):
        for name, files, fit, more, clips in (
            ("180x320 h264", small, None, {"cache": cached}, 12 if quick else 48),
            ("180x320 h264", small, Fit(128, "square"), {}, 12 if quick else 48),
            ("1280x720 mp4v", large, None, {}, 4 if quick else 12),
            ("1280x720 mp4v", large, Fit(128, "square"), {}, 4 if quick else 12),
            ("1280x720 mp4v", large, Fit(256, "droid_train"), {}, 4 if quick else 12),
        ):
            found[f"{FRAMES} frames {spacing}, {name}{f' to {fit}' if fit else ''}"] = compare(
                loaders(fit) | more, files, rows, stride=stride, rounds=rounds, clips=clips
            )
    return {"not installed": sorted(missing)} | found


def central_log(root: Path, episodes: int) -> None:
    """A LeRobot dataset whose lists name many episodes."""
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / folder).mkdir(parents=True)
    feature = {"dtype": "float32", "shape": [6], "names": ["x", "y", "z", "roll", "pitch", "yaw"]}
    info = {
        "codebase_version": "v3.0", "fps": 15, "chunks_size": 1000, "video_path": None,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": {"observation.state.cartesian_position": feature},
    }  # fmt: skip
    (root / "meta" / "info.json").write_text(json.dumps(info))
    numbers = list(range(episodes))
    zero = [0] * episodes
    table = {
        "episode_index": numbers, "tasks": [[f"task {i % 40}"] for i in numbers], "length": [300] * episodes,
        "data/chunk_index": zero, "data/file_index": zero,
    }  # fmt: skip
    pq.write_table(pa.table(table), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")


def folder_log(root: Path, episodes: int) -> None:
    """Raw DROID: a folder, a trajectory and metadata for each; the trajectories are links to a few files."""
    camera = [Camera(name="wrist", width=32, height=32, moving=True)]
    with DroidWriter(root / "one", lab="B", task="t", cameras=camera, hz=15, uuid="one") as writer:
        pose = np.zeros(7)
        for t in range(30):
            frame = {"wrist": np.zeros((32, 32, 3), np.uint8)}
            writer.add(
                Observation(frames=frame, pose=pose, commanded=pose, joints=np.zeros(7), time_s=t / 15), pose
            )
        model = writer.finish(success=True)
    about = json.loads(next(model.glob("metadata_*.json")).read_text())
    video = next(model.rglob("*.mp4"))
    source = model / "trajectory.h5"
    for number in range(episodes):
        day = (
            root
            / "log"
            / "B"
            / "success"
            / f"2023-{1 + number // 2800 % 12:02d}-{1 + number // 100 % 28:02d}"
        )
        folder = day / f"episode_{number:06d}"
        (folder / "recordings" / "MP4").mkdir(parents=True)
        if number % 20_000 == 0:  # a file system limits the links of one file
            source = shutil.copy(model / "trajectory.h5", root / f"{number}.h5")
        os.link(source, folder / "trajectory.h5")
        os.link(video, folder / "recordings" / "MP4" / video.name) if number < 20_000 else None
        (folder / f"metadata_{number}.json").write_text(json.dumps(about | {"uuid": f"u{number}"}))


OPEN = """
import os, sys, time
from pathlib import Path
from data.source import open_log
def worked_s(pid):  # of a process and of those that it started
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(map(worked_s, started))
def peak_mb():  # not getrusage: it remembers the parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
def shares_mb(pid):  # of a process and of those that it started; what they share counts once
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(l.split()[1]) / 1024 for l in lines if l.startswith("Pss:")) + sum(map(shares_mb, started))
before = peak_mb()
start, used = time.perf_counter(), worked_s(os.getpid())
log = open_log(sys.argv[1])
log.refresh()
taken, used = time.perf_counter() - start, worked_s(os.getpid()) - used
print(len(log), taken, used, before, peak_mb(), shares_mb(os.getpid()))
"""


def opened(root: Path) -> tuple[int, float, float, float, float, float]:
    """In a fresh process: episodes, seconds of the clock and of the processor, memory [MB]: peak before and after,
    and of all processes together in the end.
    """
    command = [sys.executable, "-c", OPEN, str(root)]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    count, *numbers = output.stdout.split()
    return int(count), *map(float, numbers)  # type: ignore[return-value]


def index(folder: Path, *, episodes: int, folders: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, make, root, count in (
        ("central metadata", central_log, folder / "central", episodes),
        ("one hdf5 each", folder_log, folder / "folders" / "log", folders),
    ):
        if not root.exists():
            make(root if make is central_log else root.parent, count)
        for remembered in root.glob(f"{NAME}*"):
            remembered.unlink()
        built, built_s, built_used_s, _, built_mb, all_mb = opened(root)
        again, reopened_s, reopened_used_s, base_mb, reopened_mb, _ = opened(root)
        assert built == again == count, f"{name}: {built} and {again} episodes, {count} were made"
        found[name] = {
            "episodes": count,
            "built per second": round(count / built_s),
            "built per second of processor, the child's start included": round(count / built_used_s),
            "reopened, seconds": round(reopened_s, 3),
            "reopened, seconds of processor": round(reopened_used_s, 3),
            "peak MB building": round(built_mb),
            "MB with the processes that open files": round(all_mb),
            "peak MB reopening": round(reopened_mb),
            "of which libraries, MB": round(base_mb),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=50_000, help="of the dataset with central lists")
    parser.add_argument("--folders", type=int, default=50_000, help="of the log with an HDF5 file for each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a minute in all, to see that it runs")
    parser.add_argument("--only", choices=("clips", "index"))
    parser.add_argument("--place", type=Path, help="a folder for the files, which stay for the next run")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {
        "date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "machine": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0], "h5py": h5py.__version__,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() if options.place is None else nullcontext(options.place) as place:
        folder = Path(place)
        if options.only != "index":
            results["clips"] = clips(
                folder, rounds=2 if options.quick else options.rounds, quick=options.quick
            )
        if options.only != "clips":
            results["index"] = index(
                folder,
                episodes=500 if options.quick else options.episodes,
                folders=500 if options.quick else options.folders,
            )
    print(json.dumps(results, indent=1))
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
