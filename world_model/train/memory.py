"""What a training process does with memory that it no longer needs."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names in malloc.h
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep it for the next step; whether the C library does so.

    glibc gives large blocks back to the system and asks for them again: on a CPU 50,000 page faults a step of the
    compact recipe, a tenth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _MOST))
