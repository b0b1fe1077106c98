"""Before anything imports mujoco or torch: off-screen rendering, one thread a process.  Then what all tests share."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
# Tests run side by side; a thread pool in each of them would fight for the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HYDRA_FULL_ERROR", "0")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

HOUSE = Path(__file__).resolve().parent.parent

# What is drawn is the same every time, and how long it takes is the machine's affair, not the code's.
settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order() -> None:
    """A test that draws without a generator of its own draws the same whatever ran before it in this process."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def house() -> Path:
    """The root of the checkout."""
    return HOUSE


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Files that other software wrote, each beside the truth about it."""
    return HOUSE / "tests" / "fixtures"
