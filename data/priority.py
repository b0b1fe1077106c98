"""What a library does to this process's priority, undone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def usual_priority() -> Iterator[None]:
    """Take real-time priority back that a library gave to this process.

    SVT-AV1, run by root, puts its own threads and the caller's above everything else on the machine (SCHED_FIFO 99).
    """
    tasks = Path("/proc/self/task")
    if not hasattr(os, "sched_setscheduler") or not tasks.is_dir():
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    for task in tasks.iterdir():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.sched_getscheduler(int(task.name)) != policy:
                os.sched_setscheduler(int(task.name), policy, parameters)
