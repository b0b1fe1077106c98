"""Pictures for people: error by horizon, energy landscapes, filmstrips, the axis check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from agent.imagining import AXES, AxisCheck, RollOuts
from planners.landscape import Landscape

INK, REAL, DREAM, WARN = "#22303c", "#2a7f62", "#3b6fb5", "#c8553d"
STYLE: dict[Any, Any] = {
    "font.size": 11, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white",
    "axes.titleweight": "bold", "axes.titlesize": 11, "savefig.dpi": 130, "figure.constrained_layout.use": True,
}  # fmt: skip


def save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, pil_kwargs={"quality": 90} if path.suffix == ".jpg" else {"optimize": True})
    return path


def horizon_figure(rolled: RollOuts, path: Path) -> Path:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4))
        left, right = figure.subplots(1, 2)
        steps = np.arange(1, len(rolled.latent) + 1)
        left.plot(steps, rolled.copy_last, color=INK, ls=":", label="nothing changes")
        left.plot(steps, rolled.wrong_actions, color=WARN, ls="--", label="other actions")
        left.plot(steps, rolled.latent, color=DREAM, lw=2.4, marker="o", ms=4, label="imagined")
        left.set(
            title="Error of the imagined latent", xlabel="steps ahead", ylabel="mean square", ylim=(0, None)
        )
        left.legend(frameon=False)
        if rolled.hand_m is not None and rolled.hand_seen_m is not None:
            read, seen = 1000 * np.array(rolled.hand_m), 1000 * np.array(rolled.hand_seen_m)
            right.plot(
                steps, read, color=DREAM, lw=2.4, marker="o", ms=4, label="read from what was imagined"
            )
            right.plot(steps, seen, color=REAL, lw=1.6, ls="--", label="read from what came")
            right.legend(frameon=False, loc="lower right")
        else:
            right.plot(steps, 1000 * np.array(rolled.position_m), color=DREAM, lw=2.4, marker="o", ms=4)
        for panel in (left, right):
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        right.set(
            title="Error of the imagined hand", xlabel="steps ahead", ylabel="millimetres", ylim=(0, None)
        )
        return save(figure, path)


def landscape_figure(found: Sequence[Landscape], true: np.ndarray, path: Path, *, columns: int = 3) -> Path:
    """One panel a pair of axes; the cross is the true action, the ring the energy's minimum."""
    with mpl.rc_context(STYLE):
        across = min(columns, len(found))
        down = -(-len(found) // across)
        figure = Figure(figsize=(3.1 * across, 2.95 * down + 0.3))
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for spare in panels[len(found) :]:
            spare.set_visible(False)
        for axes, panel in zip(found, panels, strict=False):
            first, second = axes.axes
            scale = [100.0 if a != 6 else 1.0 for a in axes.axes]
            x, y = axes.first.numpy() * scale[0], axes.second.numpy() * scale[1]
            energy = axes.energies[0].numpy().T
            panel.contourf(x, y, energy, levels=18, cmap="viridis")
            panel.contour(x, y, energy, levels=9, colors="white", linewidths=0.4, alpha=0.5)
            low = axes.lowest()[0].numpy()
            marks: dict[str, Any] = {"clip_on": False, "zorder": 5, "mew": 2.5}
            at = true[first] * scale[0], true[second] * scale[1]
            panel.plot(
                *at,
                "x",
                color="white",
                ms=11,
                path_effects=[withStroke(linewidth=4.5, foreground=INK)],
                **marks,
            )
            panel.plot(low[0] * scale[0], low[1] * scale[1], "o", mfc="none", mec=WARN, ms=13, **marks)
            units = ["cm" if a != 6 else "0 open, 1 closed" for a in axes.axes]
            panel.set(xlabel=f"{AXES[first]} [{units[0]}]", ylabel=f"{AXES[second]} [{units[1]}]")
            panel.spines[:].set_visible(False)
        figure.suptitle(
            "Energy around the true action, dark is low: cross = true, ring = minimum", fontsize=11
        )
        return save(figure, path)


def axis_figure(check: AxisCheck, path: Path) -> Path:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.3))
        true, seen = 100 * check.true.numpy(), 100 * check.inferred.numpy()
        for axis, panel in enumerate(figure.subplots(1, 3)):
            panel.axline((0, 0), slope=1, color=INK, lw=0.8, ls=":")
            panel.plot(true[:, axis], seen[:, axis], "o", color=DREAM, ms=5, alpha=0.65, mec="none")
            panel.set(
                title=f"along {'xyz'[axis]}",
                xlabel="true move [cm]",
                xlim=(-8, 8),
                ylim=(-8, 8),
                aspect="equal",
            )
            if axis == 0:
                panel.set_ylabel("move of least energy [cm]")
        return save(figure, path)


@dataclass(kw_only=True)
class Row:
    """A row of pictures uint8 [T, H, W, 3]: `kind` is real, dream or near; `notes` stand below each."""

    label: str
    frames: np.ndarray
    kind: str = "real"
    notes: Sequence[str] = ()


def filmstrip(
    rows: Sequence[Row], path: Path, *, columns: Sequence[str] = (), title: str = "", size: int = 128
) -> Path:
    """Rows of pictures under each other; green frames are real, blue ones imagined."""
    with mpl.rc_context(STYLE):
        count = max(len(row.frames) for row in rows)
        noted = sum(bool(row.notes) for row in rows)
        high = 1.22 * len(rows) + 0.2 * noted + (0.28 if columns else 0.05) + (0.35 if title else 0.0)
        figure = Figure(figsize=(1.5 + 1.22 * count, high))
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.03, wspace=0.01, hspace=0.01)
        panels = figure.subplots(len(rows), count, squeeze=False)
        for row, line in zip(rows, panels, strict=True):
            colour = {"real": REAL, "dream": DREAM, "near": REAL}[row.kind]
            for index, panel in enumerate(line):
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set(visible=index < len(row.frames), color=colour, linewidth=2.2)
                if row.kind == "near":
                    panel.spines[:].set(linestyle=(0, (2, 1.5)))
                if index < len(row.frames):
                    panel.imshow(_sized(row.frames[index], size), interpolation="antialiased")
                if index < len(row.notes):
                    panel.set_xlabel(row.notes[index], fontsize=8.5, labelpad=2)
            line[0].set_ylabel(row.label, rotation=0, ha="right", va="center", labelpad=8, color=colour)
        for panel, text in zip(panels[0], columns, strict=False):
            panel.set_title(text, fontsize=9.5, fontweight="normal", pad=4)
        if title:
            figure.suptitle(title, fontsize=11)
        return save(figure, path)


def features_figure(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]], columns: Sequence[str], path: Path
) -> Path:
    """Maps whose colours are the first three principal components, the same in every map: uint8 [h, w, 3] each."""
    pictures = [
        Row(label=label, frames=_stacked(found), kind="real" if "imagined" not in label else "dream")
        for label, found in rows
    ]
    return filmstrip(pictures, path, columns=columns)


def components_figure(real: np.ndarray, imagined: np.ndarray, path: Path) -> Path:
    """The first three principal components of a latent, [T, 3] each: as it came and as it was imagined."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.9))
        for axis, panel in enumerate(figure.subplots(1, 3)):
            steps = np.arange(len(real))
            panel.plot(steps, real[:, axis], color=REAL, lw=2.4, label="came")
            panel.plot(steps, imagined[:, axis], color=DREAM, lw=1.8, marker="o", ms=4, label="imagined")
            panel.set(title=f"component {axis + 1}", xlabel="steps ahead")
            panel.axvline(0, color=INK, lw=0.8, ls=":")
            if axis == 0:
                panel.legend(frameon=False)
        return save(figure, path)


def futures_figure(paths: np.ndarray, true: np.ndarray, spread: np.ndarray, path: Path) -> Path:
    """Imagined paths of the hand [Z, H, 3] for several z, seen from above, and how far their latents disagree [H]."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4))
        left, right = figure.subplots(1, 2)
        for index, found in enumerate(paths):
            left.plot(100 * found[:, 0], 100 * found[:, 1], color=DREAM, lw=1.4, alpha=0.6, marker="o", ms=3,
                      label="imagined, one line a z" if index == 0 else None)  # fmt: skip
        left.plot(100 * true[:, 0], 100 * true[:, 1], color=REAL, lw=2.4, label="came")
        left.set(title="The hand, from above", xlabel="x [cm]", ylabel="y [cm]", aspect="equal")
        left.legend(frameon=False)
        right.plot(np.arange(1, len(spread) + 1), spread, color=WARN, lw=2.4, marker="o", ms=4)
        right.set(
            title="How far the futures disagree",
            xlabel="steps ahead",
            ylabel="deviation of the latent",
            ylim=(0, None),
        )
        return save(figure, path)


DASHES = ("-", "--", ":", "-.")


def curve_figure(
    curves: dict[str, Any],
    path: Path,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    limit: float | None = None,
    top: float | None = None,
    looks: dict[str, tuple[int, int]] | None = None,
) -> Path:
    """Named curves: name -> (x, y); several have a legend, many have it below them.

    `limit` is drawn across, and is always in sight; `top` ends the axis; `looks` are numbers of colour and dash.
    """
    many = len(curves) > 5
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 3.4 + 0.13 * len(curves) * many))
        panel = figure.subplots()
        for name, (x, y) in curves.items():
            look: dict[str, Any] = (
                {} if looks is None else {"color": f"C{looks[name][0]}", "ls": DASHES[looks[name][1] % 4]}
            )
            panel.plot(x, y, lw=2, label=name, **look)
        if limit is not None:
            panel.axhline(limit, color=WARN, lw=1.2, ls="--")
        panel.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if limit is not None or top is not None or all(np.min(y) >= 0 for _, y in curves.values()):
            panel.set_ylim(0, top)
        if many:
            figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
        elif len(curves) > 1:
            panel.legend(frameon=False, fontsize=9)
        return save(figure, path)


def _sized(frame: np.ndarray, size: int) -> np.ndarray:
    """At least so large, each pixel repeated."""
    times = max(1, -(-size // frame.shape[0]))
    return frame.repeat(times, 0).repeat(times, 1)


def _stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    side = max(p.shape[0] for p in pictures)
    return np.stack([p.repeat(side // p.shape[0], 0).repeat(side // p.shape[1], 1) for p in pictures])
