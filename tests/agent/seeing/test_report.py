"""Pages that open from disk with no network, and figures that show something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from agent.imagining import AxisCheck, RollOuts
from agent.seeing import figures as draw
from agent.seeing.report import Report
from data.video import write_video
from planners.actions import ActionSpace
from planners.landscape import Landscape


def not_blank(path):
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert min(picture.shape[:2]) > 120
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, path
    ink = (picture.min(-1) < 200).mean()
    assert ink > 0.005, f"{path} is {ink:.2%} ink"
    return picture


def rolled(horizon=6):
    ramp = [0.1 * (h + 1) for h in range(horizon)]
    return RollOuts(
        latent=ramp, copy_last=[3 * r for r in ramp], wrong_actions=[4 * r for r in ramp], position_m=ramp,
        closedness=ramp, starts=5,
    )  # fmt: skip


@pytest.fixture
def figures(tmp_path):
    axis = torch.linspace(-0.075, 0.075, 11)
    bowl = (axis[:, None] - 0.03).square() + (axis[None] + 0.03).square()
    surface = Landscape(axes=(0, 1), first=axis, second=axis, energies=bowl[None], terms={})
    moves = torch.randn(20, 3) * 0.03
    check = AxisCheck(matrix=torch.eye(3), yaw_error_deg=0.0, inferred=moves, true=moves, residual_m=0.0)
    frames = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    return {
        "horizon": draw.horizon_figure(rolled(), tmp_path / "h.png"),
        "landscape": draw.landscape_figure([surface] * 2, np.array([0.03, -0.03, 0, 0, 0, 0, 0.0]), tmp_path / "l.png"),
        "axes": draw.axis_figure(check, tmp_path / "a.png"),
        "strip": draw.filmstrip([draw.Row(label="real", frames=frames), draw.Row(label="imagined", frames=frames[:3], kind="dream", notes=["0.1"] * 3)], tmp_path / "f.png", columns=["1", "2"]),
        "curve": draw.curve_figure({"one": ([0, 1, 2], [0, 4, 1])}, tmp_path / "c.png", title="t", xlabel="x", ylabel="y"),
    }  # fmt: skip


def test_figures_show_something(figures):
    for path in figures.values():
        not_blank(path)


def test_the_ring_lies_on_the_cross_where_the_minimum_is_true(figures):
    """The cross is white and the ring orange: both near the same place in each panel."""
    picture = np.asarray(Image.open(figures["landscape"]).convert("RGB")).astype(int)
    panel = picture[:, : picture.shape[1] // 2]
    orange = (abs(panel - [200, 85, 61]).sum(-1) < 30).nonzero()
    assert len(orange[0]) > 20
    row, column = int(orange[0].mean()), int(orange[1].mean())
    around = panel[row - 6 : row + 7, column - 6 : column + 7]
    assert (around.min(-1) > 230).any(), "no cross inside the ring"


def test_figures_leave_the_rest_of_matplotlib_alone(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw.horizon_figure(rolled(), tmp_path / "h.png")
    assert dict(mpl.rcParams) == before


def test_a_page_holds_all_that_it_shows(figures, read_page, tmp_path):
    film = tmp_path / "film.mp4"
    write_video(film, np.zeros((4, 32, 32, 3), np.uint8), fps=5)
    page = Report("A <title> & more", "what came of it")
    page.heading("Success")
    page.table([{"task": "<b>", "rate": 0.5}, {"task": "b", "rate": 1.0}], bar="rate")
    page.table([])
    page.text("5 < 6 & so on")
    page.lines(["one", "<two>"])
    page.picture(figures["curve"], 'a "caption"')
    page.video(film, "moves")
    page.gallery([(film, "first"), (film, "second")])
    page.details("Numbers", {"a": 1, "b": tmp_path, "many": [0.123456789, 1e-7]})
    read = read_page(page.write(tmp_path / "report.html"))
    words = " ".join(read.words)
    for text in (
        "A <title> & more",
        "what came of it",
        "<b>",
        "50%",
        "5 < 6 & so on",
        "<two>",
        'a "caption"',
        "second",
        "many: [0.12346, 1.0e-07]",
    ):
        assert text in words, text
    assert [tag for tag, _ in read.shown] == ["img"] + 3 * ["video", "img"], "each film has a still for paper"
    assert "b" not in read.tags, "words became markup"
    text = (tmp_path / "report.html").read_text()
    assert text.count('poster="data:image/jpeg') == 3, "a film shows something before it is played"
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_page_tells_settings_and_not_what_a_planner_remembers(tmp_path, read_page):
    """The page of an evaluation used to list a planner's cache of tensors."""
    space = ActionSpace()
    space._cache["low"] = torch.zeros(3)
    page = Report("t")
    page.made_with({"planner": {"space": space}})
    words = " ".join(read_page(page.write(tmp_path / "report.html")).words)
    assert "gripper" in words
    assert "_cache" not in words


def test_only_long_words_are_broken_into_lines(tmp_path):
    page = Report("t")
    page.table(
        [{"task": "grasp", "failures": "1 timed out, 2 never lifted"}, {"task": "reach", "failures": ""}]
    )
    text = page.write(tmp_path / "report.html").read_text()
    assert text.count('<td class="words">') == 2
    assert "<td>grasp</td>" in text


def test_what_a_page_cannot_hold_is_named(tmp_path):
    (tmp_path / "x.gif").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.gif: a report can hold \.png, \.jpg"):
        Report("t").picture(tmp_path / "x.gif")
