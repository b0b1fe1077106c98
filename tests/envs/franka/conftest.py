"""A fake controller, a client of our own, and a driver between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data.types import Camera
from envs.fake_fci.spawn import FakeFranka
from envs.franka.cameras import WatchedCamera
from envs.franka.client import Settings
from envs.franka.driver import FrankaDriver

FIXTURES = Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

from conftest_helpers import PATIENCE_S  # noqa: E402

RELAXED_S = 0.1  # robot time stands still that long for a client that gets no processor


@pytest.fixture(scope="session")
def pool() -> Iterator[dict[int, FakeFranka]]:
    started: dict[int, FakeFranka] = {}
    yield started
    for one in started.values():
        one.close()


@pytest.fixture
def fake(pool: dict[int, FakeFranka]) -> Callable[..., FakeFranka]:
    """The fake controller of a version, as after switching on."""

    def start(version: int = 10) -> FakeFranka:
        if version not in pool:
            pool[version] = FakeFranka(version=version, relaxed_s=RELAXED_S)
        pool[version].do("reset")
        return pool[version]

    return start


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FrankaDriver]]:
    monkeypatch.setenv("PYTHONPATH", str(FIXTURES) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    made: list[FrankaDriver] = []

    def make(robot: FakeFranka, **options: object) -> FrankaDriver:
        extra = {"version": robot.version}
        given: dict = {
            "client": "minimal_client:MinimalClient",
            "dry_run": False,
            "confirm": True,
            "speed": 1.0,
        }
        given |= {"patience_s": PATIENCE_S, "settings": Settings(host=robot.host, extra=extra)} | options
        made.append(FrankaDriver(**given))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Scripted:
    """A camera whose pictures a test decides, 50 a second."""

    def __init__(self, height: int = 48, width: int = 64) -> None:
        import time

        self.shape, self.mode, self._time, self._random = (
            (height, width, 3),
            "good",
            time,
            np.random.default_rng(0),
        )
        self.closing = False
        self._last = self._picture()

    def _picture(self) -> np.ndarray:
        return self._random.integers(60, 200, self.shape, dtype=np.uint8)

    def read(self) -> tuple[np.ndarray, float]:
        self._time.sleep(0.02)
        while self.mode == "stalled" and not self.closing:
            self._time.sleep(0.02)
        if self.mode == "unplugged":
            raise OSError("no such device")
        if self.mode != "frozen":
            self._last = self._picture()
        frame = self._last
        if self.mode == "black":
            frame = np.zeros_like(frame)
        elif self.mode == "half":
            frame = frame[:, : frame.shape[1] // 2]
        elif self.mode == "wrong size":
            frame = np.repeat(frame, 2, axis=0)
        return frame, self._time.monotonic()

    def close(self) -> None:
        self.mode = "closed"


@pytest.fixture
def camera() -> Iterator[tuple[Scripted, WatchedCamera]]:
    source = Scripted()
    watched = WatchedCamera(source, Camera(name="exterior_left", width=64, height=48), frozen_s=0.2)
    yield source, watched
    source.closing = True
    watched.close()


@pytest.fixture
def free_tcp_port_of_loopback() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
