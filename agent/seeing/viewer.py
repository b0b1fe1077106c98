"""Rerun's viewer, opened beside a run; it listens on this machine alone unless told otherwise."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = "127.0.0.1"
MEMORY_LIMIT = "2GB"  # what is older is forgotten by the viewer; the file keeps it
PATIENCE_S = 60.0


def rerun_program() -> str:
    return str(Path(sys.executable).with_name("rerun"))


def how_to_open(recording: Path) -> str:
    """The line that shows a recording; without an address Rerun would listen on every network."""
    return f"rerun --bind {HERE} {shlex.quote(str(recording))}"


def open_viewer(address: str = HERE, *, options: Sequence[str] = ()) -> str:
    """Open a viewer of its own at `address` and a free port; returns where a recording is sent to.

    It stays when the run is over, as the person who looks wants it.
    """
    port = free_port(address)
    words = ["--port", str(port), "--bind", address, "--memory-limit", MEMORY_LIMIT, "--hide-welcome-screen"]
    with tempfile.TemporaryFile() as said:
        viewer = subprocess.Popen(
            [rerun_program(), *words, *options],
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not _listens(address, port):
            ended = viewer.poll()
            if ended is None and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            if ended is None:
                viewer.kill()
            said.seek(0)
            last = said.read().decode(errors="replace").strip().split("\n")[-1] or "it said nothing"
            how = (
                f"ended with status {ended}" if ended is not None else f"did not listen in {PATIENCE_S:.0f} s"
            )
            raise ValueError(
                f"view=live: Rerun's viewer {how} ({last}); it needs a screen.  Without one: view=file, and open the "
                "recording on another machine"
            )
    return f"rerun+http://{_reached_at(address)}:{port}/proxy"


def free_port(address: str = HERE) -> int:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family) as free:
            free.bind((address, 0))
            return int(free.getsockname()[1])
    except (OSError, ValueError) as error:
        raise ValueError(
            f"view_address={address}: nothing can listen there ({error}); {HERE} is this machine alone, 0.0.0.0 every "
            "network it is in"
        ) from None


def _reached_at(address: str) -> str:
    """Where this machine reaches what listens at `address`."""
    known = ipaddress.ip_address(address)
    if known.is_unspecified:
        return HERE if known.version == 4 else "[::1]"
    return address if known.version == 4 else f"[{address}]"


def _listens(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(1.0)
        return client.connect_ex((_reached_at(address).strip("[]"), port)) == 0
