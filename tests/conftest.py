"""Before anything imports mujoco or torch: off-screen rendering, one thread a process.  Then what all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
# Tests run side by side; a thread pool in each of them would fight for the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HYDRA_FULL_ERROR", "0")

import pytest

HOUSE = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def house() -> Path:
    """The root of the checkout."""
    return HOUSE


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Files that other software wrote, each beside the truth about it."""
    return HOUSE / "tests" / "fixtures"
