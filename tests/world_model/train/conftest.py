import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from data.cache import FrameCache
from data.cache_jobs import CacheSettings, Stretch


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The toy recipe, loader and child process (toy.py beside this file)."""
    spec = importlib.util.spec_from_file_location("train_toy", Path(__file__).with_name("toy.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_cache(tmp_path) -> Callable[..., FrameCache]:
    """A cache of a world in which a square is pushed to a corner of a 32 px picture, episode after episode."""

    def make(episodes: int = 20, rows: int = 12, seed: int = 0) -> FrameCache:
        rng = np.random.default_rng(seed)
        count = episodes * rows
        place = np.zeros((count, 2))
        for e in range(episodes):
            place[e * rows] = rng.uniform(0, 24, 2)
            corner = 24.0 * rng.integers(0, 2, 2)
            for t in range(1, rows):
                before = place[e * rows + t - 1]
                place[e * rows + t] = before + np.clip(corner - before, -3, 3)
        frames = np.zeros((count, 1, 32, 32, 3), np.uint8)
        for i, (y, x) in enumerate(place.astype(int)):
            frames[i, 0, y : y + 8, x : x + 8] = (250, 90, 40)
        poses = torch.zeros(count, 7)
        poses[:, :2] = torch.from_numpy(place / 100)
        actions = torch.zeros(count, 7)
        actions[:-1] = poses[1:] - poses[:-1]
        actions[rows - 1 :: rows] = float("nan")
        columns = {"frames": torch.from_numpy(frames), "poses": poses, "actions": actions,
                   "times": torch.arange(count, dtype=torch.float64) / 5}  # fmt: skip
        found = [Stretch(first=e * rows, rows=rows, crc=seed, uuid=f"episode-{e}", run=0, source="", key=str(e))
                 for e in range(episodes)]  # fmt: skip
        settings = CacheSettings(cameras=("exterior_left",), image_size=32, crop="square", period_s=0.2)
        return FrameCache(tmp_path / "cache", settings, TensorDict(columns, [count]), found)

    return make
