"""One process at a time in a folder that several may fill."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is in the folder, and keep them out.  Who is killed keeps nobody out."""
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: another process is writing there, waiting", folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
