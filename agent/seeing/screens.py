"""What a person would see on a screen: a page in a browser, a recording in Rerun's viewers; all without a screen.

`python -m agent.seeing.screens` says whether this machine can, and if not what it lacks.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from .viewer import HERE, free_port, running_rerun

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
    words = ["--headless", "--hide-welcome-screen", "--window-size", WINDOW]
    words += ["--bind", HERE, "--port", str(port)]
    with running_rerun(words, also={"VK_ICD_FILENAMES": str(software_vulkan())}):
        deadline = time.monotonic() + patience_s
        client = _patiently(lambda: ViewerClient.connect(f"rerun+http://127.0.0.1:{port}/proxy"), deadline)
        _patiently(lambda: client.open(str(recording)), deadline)
        while True:
            time.sleep(2)
            # Again and again: what is still being loaded moves the time on.
            _patiently(lambda: client.set_time(timeline, sequence=at, play_state="paused"), deadline)
            time.sleep(1)
            _patiently(lambda: client.save_screenshot(str(out)), deadline)
            if good(np.asarray(Image.open(out).convert("RGB"))) or time.monotonic() > deadline:
                return [str(entry) for entry in client.get_logs() if _bad(str(entry))]


def photograph_web_viewer(
    opened: Any, recording: Path, out: Path, *, good: Callable[[np.ndarray], bool], patience_s: float = 180
) -> list[str]:
    """The same viewer in a browser (from `browser`).  Returns errors of the page.

    A page has no settings by which it would keep to itself: what it asks of the world is answered with nothing.
    """
    data, web = free_port(), free_port()
    words = [str(recording), "--serve-web", "--bind", HERE]
    words += ["--port", str(data), "--web-viewer-port", str(web)]
    errors: list[str] = []
    with running_rerun(words), opened.new_page(viewport={"width": 1600, "height": 900}) as page:
        page.route(lambda url: urlsplit(url).hostname != HERE, _answer_nothing)
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
                return errors


def _answer_nothing(route: Any) -> None:
    route.fulfill(status=200, headers={"access-control-allow-origin": "*"}, body="{}")


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
