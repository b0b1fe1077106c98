"""What a person sees on the screen: pages in a browser, recordings in Rerun's own viewer and in a browser."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time

import numpy as np
import psutil
import pytest

from agent.imagine_report import report_imagination
from agent.seeing import run_recording, screens
from agent.seeing.viewer import HERE, free_port, open_viewer, running_rerun
from agent.session import open_session, play_session
from agent.settings import ConfiguratorSettings, EnvConfig, SessionConfig, View

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEPS = 6


@pytest.fixture(scope="module")
def played(tiny_model, tmp_path_factory):
    config = SessionConfig(
        model=str(tiny_model), task="grasp", seed=3, budget_steps=STEPS, env=EnvConfig(image_size_px=32),
        configurator=ConfiguratorSettings(mode="planner"),
    )  # fmt: skip
    session = open_session(config)
    try:
        return play_session(session, config, tmp_path_factory.mktemp("run"), say=lambda text: None)
    finally:
        session.arm.close()


@pytest.fixture(scope="module")
def pages(played, tiny_model, collected, tmp_path_factory):
    out = tmp_path_factory.mktemp("imagined")
    looked = report_imagination(collected, str(tiny_model), out, episodes=3, horizon=4, start=-1)
    return {"run": played.files["report"], "imagine": looked.files["report"]}


@pytest.fixture(scope="module")
def browser():
    with screens.browser() as opened:
        yield opened


DEVICES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1200, "height": 900}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["run", "imagine"])
def test_a_page_in_a_browser(browser, pages, tmp_path, name, device, scheme):
    page = browser.new_page(viewport=DEVICES[device], color_scheme=scheme)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
    page.goto(pages[name].as_uri())
    page.wait_for_function("[...document.images].every(i => i.complete)")
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 100)")
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.readyState > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it runs over the right edge"
    assert page.evaluate("Math.min(...[...document.querySelectorAll('p,li,td')].map(e => parseFloat(getComputedStyle(e).fontSize)))") >= 14  # fmt: skip
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    picture = np.asarray(screens.Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    ground = picture[-5:, :5].mean()
    assert ground > 240 if scheme == "light" else ground < 60
    drawn = abs(picture - picture[-5, 2]).sum(-1) > 60
    assert 0.05 < drawn.mean() < 0.95
    assert np.diff(drawn.any(1).nonzero()[0]).max() < 250, "a hole in the page"
    page.close()
    assert wrong == []


@pytest.mark.parametrize("name", ["run", "imagine"])
def test_a_page_on_paper(browser, pages, tmp_path, name):
    """Printed from a dark screen it is dark on white, and what was folded away is there."""
    page = browser.new_page(viewport=DEVICES["desk"], color_scheme="dark")
    page.goto(pages[name].as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("Math.min(...[...document.querySelectorAll('details pre')].map(e => e.getBoundingClientRect().height))") > 8, "folded away (0 px; a line has 14)"  # fmt: skip
    paper = page.pdf(path=str(tmp_path / "page.pdf"), format="A4")
    assert paper.startswith(b"%PDF")
    assert len(paper) > 50_000
    page.close()


def parts(picture):
    """What shows nothing yet, of the arm, the cameras and the plots."""
    height, width = picture.shape[:2]
    boxes = {
        "arm": (0.06, 0.70, 0.02, 0.42, 300),
        "cameras": (0.06, 0.54, 0.46, 0.98, 400),
        "plots": (0.60, 0.92, 0.46, 0.98, 40),
    }
    return [
        name
        for name, (top, bottom, left, right, colours) in boxes.items()
        if len(np.unique(picture[int(top * height) : int(bottom * height) : 2, int(left * width) : int(right * width)].reshape(-1, 3), axis=0)) < colours
    ]  # fmt: skip


def test_the_recording_in_the_viewer(played, tmp_path):
    """The blueprint's views are there, each shows something, and the viewer complains of nothing."""
    wrong = screens.photograph_viewer(
        played.files["recording"], tmp_path / "viewer.png", timeline="step", at=STEPS - 1, good=lambda p: not parts(p)
    )  # fmt: skip
    assert parts(np.asarray(screens.Image.open(tmp_path / "viewer.png").convert("RGB"))) == []
    assert wrong == []


def test_the_recording_in_a_browser(played, browser, tmp_path):
    wrong = screens.photograph_web_viewer(
        browser, played.files["recording"], tmp_path / "web.png", good=lambda p: not parts(p)
    )  # fmt: skip
    assert parts(np.asarray(screens.Image.open(tmp_path / "web.png").convert("RGB"))) == []
    assert wrong == []


def test_a_live_viewer_is_open_to_this_machine_alone_and_shows_the_run(tiny_model, tmp_path, monkeypatch):
    """Rerun by itself listens on every network."""
    from rerun.experimental import ViewerClient

    monkeypatch.setenv("VK_ICD_FILENAMES", str(screens.software_vulkan()))
    opened = []

    def headless(address):
        opened.append(open_viewer(address, options=["--headless", "--window-size", screens.WINDOW]))
        return opened[0]

    monkeypatch.setattr(run_recording, "open_viewer", headless)
    config = SessionConfig(
        model=str(tiny_model), task="reach", seed=3, budget_steps=4, env=EnvConfig(image_size_px=32), view=View.live,
        configurator=ConfiguratorSettings(mode="planner"),
    )  # fmt: skip
    session = open_session(config)
    try:
        played = play_session(session, config, tmp_path, say=lambda text: None)
        port = int(opened[0].split(":")[-1].partition("/")[0])
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        mine = [c for c in listening if c.laddr.port == port]
        viewers = [psutil.Process(c.pid) for c in mine if c.pid is not None]
        assert [c.laddr.ip for c in mine] == [HERE]
        others = {c.laddr.ip for c in listening if c.pid in {v.pid for v in viewers}}
        assert others == {HERE}, "no other door either"
        client = ViewerClient.connect(opened[0])
        shot = tmp_path / "live.png"
        for _ in range(30):
            client.save_screenshot(str(shot))
            if parts(np.asarray(screens.Image.open(shot).convert("RGB"))) == []:
                break
            time.sleep(2)
        assert parts(np.asarray(screens.Image.open(shot).convert("RGB"))) == []
        assert played.files["recording"].stat().st_size > 100_000, "the file is written as well"
    finally:
        session.arm.close()
        for viewer in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "rerun" in viewer.name() or "rerun" in " ".join(viewer.cmdline()):
                    viewer.kill()


def rerun_processes():
    """Those that this process started, or that were left behind by one that it started."""
    return [p for p in psutil.process_iter(["cmdline"]) if "rerun_cli" in " ".join(p.info["cmdline"] or [])]


def test_nothing_is_left_running(played, browser, tmp_path):
    """`rerun` is a script that starts another program: ending the script alone left that one at work."""
    before = {p.pid for p in rerun_processes()}

    def looks(_):
        raise ZeroDivisionError("while looking")

    with pytest.raises(ZeroDivisionError):
        screens.photograph_viewer(
            played.files["recording"], tmp_path / "a.png", timeline="step", at=0, good=looks
        )
    with pytest.raises(ZeroDivisionError):
        screens.photograph_web_viewer(browser, played.files["recording"], tmp_path / "b.png", good=looks)
    assert not browser.contexts, "a page is left open"
    assert {p.pid for p in rerun_processes()} <= before


def test_a_viewer_talks_to_nobody(played, tmp_path, monkeypatch):
    """By itself it reports its use, from the second start on, and asks for newer versions."""
    settings = tmp_path / ".config" / "rerun" / "analytics.json"
    settings.parent.mkdir(parents=True)
    known = {"analytics_enabled": True, "analytics_id": "0" * 32, "config_file_path": str(settings)}
    settings.write_text(json.dumps({**known, "data_dir_path": str(tmp_path / "data"), "metadata": {}}))
    for name in [n for n in os.environ if n.startswith("XDG_")]:
        monkeypatch.delenv(name)
    asked = []
    with socket.create_server(
        (HERE, 0)
    ) as door:  # stands where nobody should be, and writes down what is asked

        def listen():
            with contextlib.suppress(OSError):
                while True:
                    guest, _ = door.accept()
                    asked.append(guest.recv(200).decode(errors="replace").split("\r\n")[0])
                    guest.close()

        threading.Thread(target=listen, daemon=True).start()
        heard = f"http://{HERE}:{door.getsockname()[1]}"
        also = {"HOME": str(tmp_path), "VK_ICD_FILENAMES": str(screens.software_vulkan())}
        words = ["--headless", "--bind", HERE, "--port", str(free_port()), str(played.files["recording"])]
        with running_rerun(words, also={**also, "https_proxy": heard, "HTTPS_PROXY": heard}):
            for _ in range(60):
                time.sleep(1)
                outside = [
                    c.raddr.ip
                    for p in psutil.Process().children(recursive=True)
                    for c in p.net_connections("inet")
                    if c.raddr and c.raddr.ip != HERE
                ]
                assert outside == []
                if any("api.github.com" in line for line in asked):
                    break
    assert asked, "it goes through the proxy that it is given: without one it would go out"
    assert not any("tel.rerun.io" in line for line in asked), "it reports its use"
    assert not any((tmp_path / "data").rglob("*.json"))


def test_an_address_that_is_not_ours_is_refused():
    with pytest.raises(ValueError, match=r"view_address=203\.0\.113\.7: nothing can listen there"):
        open_viewer("203.0.113.7")
