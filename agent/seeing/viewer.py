"""Rerun's viewer, opened beside a run; it listens on this machine alone unless told otherwise."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = "127.0.0.1"
MEMORY_LIMIT = "2GB"  # what is older is forgotten by the viewer; the file keeps it
PATIENCE_S = 60.0
# Rerun's programs report their use and ask for newer versions.  A robot's viewer talks to nobody: reports are not
# made where CI is set, and whatever else would go out meets a proxy that is not there.
KEEPS_TO_ITSELF: Mapping[str, str] = {"CI": "1"} | {
    name: value
    for key, value in (("https_proxy", "http://127.0.0.1:9"), ("no_proxy", ""))
    for name in (key, key.upper())
}


def rerun_program() -> str:
    return str(Path(sys.executable).with_name("rerun"))


def start_rerun(
    words: Sequence[str], *, stderr: Any = subprocess.DEVNULL, also: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Rerun's program, which keeps to itself, in a group of its own: what `rerun` names starts another program.

    `also` is added to its environment.
    """
    return subprocess.Popen(
        [rerun_program(), *words], stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
        env={**os.environ, **KEEPS_TO_ITSELF, **(also or {})},
    )  # fmt: skip


def end_rerun(started: subprocess.Popen[bytes], *, patience_s: float = 10.0) -> None:
    """End the whole group: asked first, then made to."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(patience_s)


@contextlib.contextmanager
def running_rerun(
    words: Sequence[str], *, also: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Rerun's program for as long as it is needed, whatever happens meanwhile."""
    started = start_rerun(words, also=also)
    try:
        yield started
    finally:
        end_rerun(started)


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
        viewer = start_rerun([*words, *options], stderr=said)
        try:
            wrong = _wait_for(viewer, address, port)
        except BaseException:
            end_rerun(viewer)
            raise
        if wrong:
            end_rerun(viewer)
            said.seek(0)
            last = said.read().decode(errors="replace").strip().split("\n")[-1] or "it said nothing"
            raise ValueError(
                f"view=live: Rerun's viewer {wrong} ({last}); it needs a screen.  Without one: view=file, and open the "
                "recording on another machine"
            )
    return f"rerun+http://{_reached_at(address)}:{port}/proxy"


def _wait_for(viewer: subprocess.Popen[bytes], address: str, port: int) -> str:
    """Until it listens; what went wrong, or nothing."""
    deadline = time.monotonic() + PATIENCE_S
    while not _listens(address, port):
        ended = viewer.poll()
        if ended is not None:
            return f"ended with status {ended}"
        if time.monotonic() > deadline:
            return f"did not listen in {PATIENCE_S:.0f} s"
        time.sleep(0.1)
    return ""


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
