"""Small recordings that the tests of this room share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from data.types import Camera, Observation
from data.writers.droid import DroidWriter

CAMERAS = [
    Camera(name="exterior_left", width=64, height=48, K=np.diag([60.0, 60.0, 1.0]), base_T_cam=np.eye(4)),
    Camera(name="wrist", width=64, height=48, moving=True),
]


def picture(step: int, seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth scene with a square that moves: codecs keep it to within a few levels."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 2 + 5 * seed, y * 3, (x + y) // 2 + 3 * step], -1)
    left = (4 + 2 * step + 7 * seed) % (width - 12)
    base[10:22, left : left + 12] = (230, 40, 40)
    return base.clip(0, 255).astype(np.uint8)


def observation(step: int, seed: int, period_s: float = 0.2) -> Observation:
    """Row `step` of the made-up episode `seed`; every number differs from every other."""
    turn = 0.02 * step
    pose = np.array(
        [0.4 + 0.002 * step, 0.01 * seed, 0.3 - 0.003 * step, np.pi - 0.01 * step, turn / 3, turn, 0.1]
    )
    pose[6] = min(1.0, 0.05 * step)
    return Observation(
        frames={"exterior_left": picture(step, seed), "wrist": picture(step, seed + 3)},
        pose=pose,
        commanded=pose,
        joints=np.linspace(-1, 1, 7) + 0.01 * step,
        time_s=5.0 + step * period_s,
    )


def commanded(step: int, seed: int) -> np.ndarray:
    pose = observation(step, seed).pose + np.array([0.002, 0, -0.003, 0, 0, 0.02, 0])
    pose[6] = float(step >= 8)
    return pose


def cube(step: int, seed: int) -> np.ndarray:
    return np.array([0.5, 0.02 * seed, 0.02 + 0.001 * step, 0, 0, 0, 1.0])


Record = Callable[..., Path]
Elsewhere = Callable[..., BaseProcess]


@pytest.fixture(scope="session")
def elsewhere() -> Elsewhere:
    """elsewhere(function, *arguments) runs it in a process of its own.

    It is forked by one that has imported what it needs and has no threads: forking this one can hang.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "data.cache", "data.source", "data.writers.droid", "data.writers.lerobot"]
    )

    def start(function: Callable[..., object], *arguments: object, **named: object) -> BaseProcess:
        process = context.Process(target=function, args=arguments, kwargs=named)
        process.start()
        return process

    return start


@pytest.fixture(scope="session")
def record() -> Record:
    """record(root, seed, rows=20, period_s=0.2, skip=()) writes one episode in DROID's layout."""

    def one(root: Path, seed: int, rows: int = 20, period_s: float = 0.2, skip: tuple[int, ...] = ()) -> Path:
        with DroidWriter(
            root, lab="SIM", task="lift", cameras=CAMERAS, hz=1 / period_s, uuid=f"episode-{seed:03d}",
            start_s=1_700_000_000.0,
        ) as writer:  # fmt: skip
            for step in range(rows):
                if step not in skip:
                    writer.add(
                        observation(step, seed, period_s),
                        commanded(step, seed),
                        objects={"cube": cube(step, seed)},
                    )
            return writer.finish(success=seed % 2 == 0, extra_meta={"seed": seed})

    return one


@pytest.fixture(scope="session")
def truth() -> dict[str, Callable[..., np.ndarray]]:
    """What `record` wrote, by function of step and seed."""
    return {"pose": lambda t, s: observation(t, s).pose, "commanded": commanded, "cube": cube, "picture": picture,
            "joints": lambda t, s: observation(t, s).joints}  # fmt: skip


@pytest.fixture
def logs(tmp_path: Path, record: Record) -> Path:
    """Four episodes of 20, 20, 20 and 12 rows."""
    for seed, rows in enumerate((20, 20, 20, 12)):
        record(tmp_path / "logs", seed, rows=rows)
    return tmp_path / "logs"
