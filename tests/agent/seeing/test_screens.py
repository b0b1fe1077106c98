"""What a person sees on the screen: pages in a browser, recordings in Rerun's own viewer and in a browser."""

from __future__ import annotations

import numpy as np
import pytest

from agent.imagine_report import report_imagination
from agent.seeing import screens
from agent.session import open_session, play_session
from agent.settings import ConfiguratorSettings, EnvConfig, SessionConfig

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
    assert page.evaluate("Math.min(...[...document.querySelectorAll('details pre')].map(e => e.getBoundingClientRect().height))") > 40  # fmt: skip
    paper = page.pdf(format="A4")
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
