"""The pages of `forearm imagine`: figures, words and one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.source import open_log

from .build import load_mind
from .imagining import actions_from, axis_check, encode, imagine_from, landscapes_at, roll_outs
from .recorded import longest_stretch
from .seeing import figures as draw
from .seeing.report import Report


def report_imagination(
    data: Path, model: str, out: Path, *, episodes: int, horizon: int, start: int
) -> tuple[dict[str, Any], list[str], Path]:
    """Numbers, sentences and the page."""
    mind, log = load_mind(model), open_log(data)
    context = getattr(mind.model, "context", 3)
    accepted = log.check().accepted[:episodes]
    found = [encode(mind.model, longest_stretch(log.open(key), mind.model.conventions)) for key in accepted]
    found = [e for e in found if len(e.stretch.frames) > context + 1]
    if not found:
        raise ValueError(f"{data}: no usable episode is longer than {context + 1} model steps")
    rolled = roll_outs(mind.model, found, horizon=horizon, context=context)
    check = axis_check(mind.model, found, context=context)
    first = next(e for e in found if len(e.stretch.frames) >= context + horizon)
    last_start = len(first.stretch.frames) - horizon - 1
    if start < 0:
        moves = first.stretch.actions[:, :3].norm(dim=-1).numpy()
        windows = [moves[t : t + horizon].sum() for t in range(context - 1, last_start + 1)]
        start = context - 1 + int(np.argmax(windows))
    if not context - 1 <= start <= last_start:
        raise ValueError(f"start is {start}; in this episode it goes from {context - 1} to {last_start}")
    surfaces = landscapes_at(mind.model, first, start, context=context)
    true = actions_from(mind.model, first, start, 1)[0, 0, 0].numpy()
    latents, _ = imagine_from(mind.model, first, start, horizon, context=context)

    report = Report("Imagined against real", f"{model} on {len(found)} episodes of {data}")
    ratio, wrong = rolled.figures["copy_ratio"], rolled.figures["wrong_ratio"]
    words = [
        f"one step ahead the model errs {ratio[0]:.2f} times as much as assuming that nothing changes, "
        f"{horizon} steps ahead {ratio[-1]:.2f} times",
        f"with other actions it would err {wrong[0]:.1f} and {wrong[-1]:.1f} times as much: it listens to its actions"
        if wrong[0] > 1.1
        else f"with other actions it would err {wrong[0]:.2f} times as much: it hardly listens to its actions",
        f"the hand is imagined to {1000 * rolled.position_m[0]:.0f} mm one step ahead, {1000 * rolled.position_m[-1]:.0f} mm after {horizon}",
        *check.words,
    ]
    report.lines(words)
    strip = _strip(mind, first, start, horizon, latents, out)
    if strip is not None:
        report.heading("What it imagines")
        report.picture(
            strip, "Above the frames that came, below what was imagined, decoded for people.", plot=False
        )
    report.heading("Error by horizon")
    report.picture(draw.horizon_figure(rolled, out / "horizons.png"))
    report.heading("Energy landscape")
    report.picture(draw.landscape_figure(surfaces, true, out / "landscapes.png"))
    report.heading("Axis check")
    report.picture(draw.axis_figure(check, out / "axes.png"))
    figures = {
        **rolled.figures,
        "axis_matrix": check.matrix.tolist(),
        "axis_residual_m": check.residual_m,
        "camera_yaw_error_deg": check.yaw_error_deg,
        "landscape_miss_m": _miss(surfaces[0], true),
    }
    report.details("Numbers", figures)
    return figures, words, report.write(out / "report.html")


def _miss(surface: Any, true: np.ndarray) -> float:
    low = surface.lowest()[0].numpy()
    return float(np.hypot(low[0] - true[surface.axes[0]], low[1] - true[surface.axes[1]]))


@torch.no_grad()
def _strip(mind: Any, first: Any, start: int, horizon: int, latents: torch.Tensor, out: Path) -> Path | None:
    decoder = mind.heads.get("decoder")
    if decoder is None:
        return None
    dreamt = (decoder(latents) * 255).byte().numpy()  # [H, V, size, size, 3]
    real = first.stretch.frames[start + 1 : start + 1 + horizon].numpy()
    rows = []
    for view, name in enumerate(mind.model.conventions.cameras):
        rows += [(f"{name}\nreal", real[:, view]), ("imagined\n(decoded)", dreamt[:, view])]
    return draw.filmstrip(rows, out / "filmstrip.png")
