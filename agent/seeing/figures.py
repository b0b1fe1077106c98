"""Pictures for people: error by horizon, energy landscapes, filmstrips, the axis check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from agent.imagining import AXES, AxisCheck, RollOuts
from planners.landscape import Landscape

INK, REAL, DREAM, WARN = "#22303c", "#2a7f62", "#3b6fb5", "#c8553d"
STYLE: dict[Any, Any] = {
    "font.size": 11, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white",
    "axes.titleweight": "bold", "axes.titlesize": 11, "savefig.dpi": 130, "figure.constrained_layout.use": True,
}  # fmt: skip


def save(figure: Figure, path: Path) -> Path:
    figure.savefig(path)
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
        right.plot(steps, 1000 * np.array(rolled.position_m), color=DREAM, lw=2.4, marker="o", ms=4)
        right.set(
            title="Error of the imagined hand", xlabel="steps ahead", ylabel="millimetres", ylim=(0, None)
        )
        return save(figure, path)


def landscape_figure(found: Sequence[Landscape], true: np.ndarray, path: Path) -> Path:
    """One panel a pair of axes; the cross is the true action, the ring the energy's minimum."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(found), 3.3))
        for axes, panel in zip(found, figure.subplots(1, len(found), squeeze=False)[0], strict=True):
            first, second = axes.axes
            scale = [100.0 if a != 6 else 1.0 for a in axes.axes]
            x, y = axes.first.numpy() * scale[0], axes.second.numpy() * scale[1]
            energy = axes.energies[0].numpy().T
            panel.contourf(x, y, energy, levels=18, cmap="viridis")
            panel.contour(x, y, energy, levels=9, colors="white", linewidths=0.4, alpha=0.5)
            low = axes.lowest()[0].numpy()
            panel.plot(true[first] * scale[0], true[second] * scale[1], "x", color="white", ms=11, mew=2.5)
            panel.plot(low[0] * scale[0], low[1] * scale[1], "o", mfc="none", mec=WARN, ms=12, mew=2.5)
            units = ["cm" if a != 6 else "closedness" for a in axes.axes]
            panel.set(xlabel=f"{AXES[first]} [{units[0]}]", ylabel=f"{AXES[second]} [{units[1]}]")
            panel.set_title(f"{AXES[first]} and {AXES[second]}")
            panel.spines[:].set_visible(False)
        figure.suptitle("Energy around the true action: cross = true, ring = minimum", fontsize=11)
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


def filmstrip(
    rows: Sequence[tuple[str, np.ndarray]], path: Path, *, title: str = "", size: int = 112
) -> Path:
    """Rows of frames uint8 [T, H, W, 3] under each other, with a label each."""
    with mpl.rc_context(STYLE):
        count = max(len(frames) for _, frames in rows)
        figure = Figure(figsize=(1.35 + count * 1.22, 1.3 * len(rows) + (0.35 if title else 0.05)))
        panels = figure.subplots(len(rows), count, squeeze=False)
        for (label, frames), line in zip(rows, panels, strict=True):
            for index, panel in enumerate(line):
                panel.set_xticks([])
                panel.set_yticks([])
                for spine in panel.spines.values():
                    spine.set_visible(False)
                if index < len(frames):
                    panel.imshow(_sized(frames[index], size), interpolation="nearest")
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        if title:
            figure.suptitle(title, fontsize=11)
        return save(figure, path)


def curve_figure(curves: dict[str, Any], path: Path, *, title: str, xlabel: str, ylabel: str) -> Path:
    """Named curves: name -> (x, y)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 3.4))
        panel = figure.subplots()
        for name, (x, y) in curves.items():
            panel.plot(x, y, lw=2, label=name)
        panel.set(title=title, xlabel=xlabel, ylabel=ylabel)
        panel.legend(frameon=False, fontsize=9)
        return save(figure, path)


def _sized(frame: np.ndarray, size: int) -> np.ndarray:
    step = max(1, round(size / frame.shape[0]))
    return frame.repeat(step, 0).repeat(step, 1)
