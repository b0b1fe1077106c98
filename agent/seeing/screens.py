"""What a person would see on a screen: a page in a browser, a recording in Rerun's viewers; all without a screen.

`python -m agent.seeing.screens` says whether this machine can, and if not what it lacks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .viewer import HERE, free_port, rerun_program

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WINDOW = "1600x900"
DRIVERS = (Path("/usr/share/vulkan/icd.d"), Path("/etc/vulkan/icd.d"))


def browser_path() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise RuntimeError("no Chromium on this machine; Debian, Ubuntu: apt-get install chromium")
    return found


def software_vulkan() -> Path:
    found = next((file for folder in DRIVERS for file in sorted(folder.glob("lvp_icd*.json"))), None)
    if found is None:
        raise RuntimeError(
            "no software Vulkan on this machine; Debian, Ubuntu: apt-get install mesa-vulkan-drivers"
        )
    return found


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium that draws WebGL in software."""
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]  (make test-all brings it)

    arguments = [
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist",
    ]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser_path(), args=arguments, timeout=180_000)
        try:
            yield opened
        finally:
            opened.close()


def photograph_viewer(
    recording: Path,
    out: Path,
    *,
    timeline: str,
    at: int,
    good: Callable[[np.ndarray], bool],
    patience_s: float = 120,
) -> list[str]:
    """Rerun's own viewer, headless; waits until its picture is `good`.  Returns what it complained about."""
    from rerun.experimental import ViewerClient

    port = free_port()
    command = [rerun_program(), "--headless", "--hide-welcome-screen", "--window-size", WINDOW]
    command += ["--bind", HERE, "--port", str(port)]
    environment = {**os.environ, "VK_ICD_FILENAMES": str(software_vulkan())}
    viewer = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + patience_s
        client = _patiently(lambda: ViewerClient.connect(f"rerun+http://127.0.0.1:{port}/proxy"), deadline)
        _patiently(lambda: client.open(str(recording)), deadline)
        _patiently(lambda: client.set_time(timeline, sequence=at), deadline)
        while True:
            time.sleep(2)
            _patiently(lambda: client.save_screenshot(str(out)), deadline)
            if good(np.asarray(Image.open(out).convert("RGB"))) or time.monotonic() > deadline:
                return [str(entry) for entry in client.get_logs() if _bad(str(entry))]
    finally:
        viewer.terminate()
        viewer.wait(20)


def photograph_web_viewer(
    opened: Any, recording: Path, out: Path, *, good: Callable[[np.ndarray], bool], patience_s: float = 180
) -> list[str]:
    """The same viewer in a browser (from `browser`).  Returns errors of the page."""
    data, web = free_port(), free_port()
    command = [rerun_program(), str(recording), "--serve-web", "--bind", HERE]
    command += ["--port", str(data), "--web-viewer-port", str(web)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    errors: list[str] = []
    try:
        page = opened.new_page(viewport={"width": 1600, "height": 900})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        deadline = time.monotonic() + patience_s
        source = f"rerun%2Bhttp://127.0.0.1:{data}/proxy"
        address = f"http://127.0.0.1:{web}/?url={source}&renderer=webgl"
        _patiently(lambda: page.goto(address, timeout=60_000), deadline)
        while True:
            page.wait_for_timeout(2000)
            page.screenshot(path=str(out), timeout=120_000)
            if good(np.asarray(Image.open(out).convert("RGB"))) or time.monotonic() > deadline:
                page.close()
                return errors
    finally:
        server.terminate()
        server.wait(10)


def _patiently(call: Callable[[], Any], deadline: float) -> Any:
    """A machine at work answers late."""
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _bad(entry: str) -> bool:
    return any(word in entry.lower() for word in ("error", "failed", "panic")) and "screenshot" not in entry


def main() -> int:
    try:
        import playwright  # pyright: ignore[reportMissingImports]

        print(f"{playwright.__name__}, {browser_path()}, {software_vulkan()}")
    except (ImportError, RuntimeError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
