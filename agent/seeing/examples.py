"""The pictures in docs/pictures, made anew: `python -P -m agent.seeing.examples [MODEL [FOLDER]]` (or `make pictures`)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from agent.choices import TaskName
from agent.collect import CollectSettings, collect
from agent.imagine_report import report_imagination
from agent.session import ending, open_session, play_session
from agent.settings import SessionConfig

from .screens import browser, photograph_viewer

HOUSE = Path(__file__).resolve().parents[2]
DEMO_SEED = 3
SEED = 15000  # no training saw it
MOMENTS = 6
GAP_PX = 10


def demo_pictures(model: str, work: Path, out: Path) -> None:
    """The demo: six moments of its film, its filmstrip, and its recording as the viewer shows it."""
    config = SessionConfig(model=model, task=TaskName.pick_place, final_only=True, seed=DEMO_SEED)
    session = open_session(config)
    try:
        played = play_session(session, config, work, say=lambda _: None)
    finally:
        session.arm.close()
    print(f"demo      {ending(played)}")
    _contact_sheet(played.files["video"], out / "demo.png")
    shutil.copy(work / "filmstrip.jpg", out / "run.jpg")
    thought = [s.index for s in played.outcome.steps if s.decision is not None and s.decision.plan.clouds]
    at = thought[len(thought) // 2] if thought else len(played.outcome.steps) // 3

    def full(picture: np.ndarray) -> bool:
        return len(np.unique(picture[::4, ::4].reshape(-1, 3), axis=0)) > 3000

    viewer = work / "viewer.png"
    try:
        photograph_viewer(played.files["recording"], viewer, timeline="step", at=at, good=full)
        Image.open(viewer).convert("RGB").save(out / "viewer.jpg", quality=88)
    except Exception as error:
        print(f"viewer    no picture of it: {error}")
    _photograph_page(played.files["report"], out / "report.jpg")


def imagined_pictures(model: str, work: Path, out: Path) -> None:
    """Imagined against real on episodes that no training saw."""
    collect(work / "log", episodes=8, workers=1, seed=SEED, settings=CollectSettings())
    looked = report_imagination(work / "log", model, work, episodes=8, horizon=8, start=-1)
    for line in looked.words:
        print(f"imagine   {line}")
    names = {
        "filmstrip.jpg": "imagined.jpg", "horizons.png": "horizons.png", "landscapes.png": "landscapes.png",
        "axes.png": "axes.png", "features.png": "features.png", "differences.jpg": "differences.jpg",
        "components.png": "components.png",
    }  # fmt: skip
    for source, name in names.items():
        shutil.copy(work / source, out / name)


def _contact_sheet(video: Path, out: Path) -> None:
    """Six moments in two rows, at half size, with room between them."""
    from data.video import VideoFrames

    frames = VideoFrames(video)
    wanted = [int(i) for i in np.linspace(0, len(frames) - 1, MOMENTS).round()]
    small = []
    for frame in frames.read(wanted):
        picture = Image.fromarray(frame)
        small.append(
            np.asarray(picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS))
        )
    across, (height, width) = MOMENTS // 2, small[0].shape[:2]
    sheet = Image.new(
        "RGBA", (across * (width + GAP_PX) - GAP_PX, 2 * (height + GAP_PX) - GAP_PX), (255, 255, 255, 0)
    )
    for i, picture in enumerate(small):
        place = (i % across * (width + GAP_PX), i // across * (height + GAP_PX))
        sheet.paste(Image.fromarray(picture), place)
    sheet.save(out, optimize=True)


def _photograph_page(page: Path, out: Path) -> None:
    """The head of a page, light and dark, side by side."""
    shots = []
    try:
        with browser() as opened:
            for scheme in ("light", "dark"):
                shown = opened.new_page(viewport={"width": 760, "height": 1000}, color_scheme=scheme)
                shown.goto(page.as_uri())
                shown.wait_for_function("[...document.images].every(i => i.complete)")
                shot = out.with_name(f".{scheme}.png")
                shown.screenshot(path=str(shot))
                shots.append(np.asarray(Image.open(shot).convert("RGB")))
                shot.unlink()
    except Exception as error:
        print(f"report    no picture of it: {error}")
        return
    Image.fromarray(np.concatenate(shots, 1)).save(out, quality=86)


def main(words: list[str]) -> None:
    model = words[0] if words else "forearm-panda"
    out = Path(words[1]) if len(words) > 1 else HOUSE / "docs" / "pictures"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("imagine", imagined_pictures), ("demo", demo_pictures)):
            work = Path(folder) / name
            work.mkdir()
            make(model, work, out)
    print(f"pictures  {out}")


if __name__ == "__main__":
    main(sys.argv[1:])
