"""A training process keeps what it frees: asking the system for it at every step takes a tenth of the time."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from world_model.train.memory import keep_freed_memory
assert sys.argv[1] == "usual" or keep_freed_memory()
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(50_000_000, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(3)
print(faults(5))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_what_was_freed_is_used_again_without_asking_the_system() -> None:
    usual, keeping = (
        int(
            subprocess.run(
                [sys.executable, "-P", "-c", FAULTS, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("usual", "keeping")
    )
    assert usual > 100  # 125 huge pages, or 60,000 usual ones
    assert keeping < usual / 10
