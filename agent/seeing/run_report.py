"""The HTML page of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.play import Played

from . import figures as draw
from .report import Report


def write_run_report(played: Played, out: Path, *, title: str, ending: str, facts: dict[str, Any]) -> Path:
    """Words, film, curves and numbers of a run."""
    report = Report(title, ending)
    report.video(played.files["video"], "The scene, the cameras (left) and what they should see (right).")
    steps = played.outcome.steps
    decided = [s for s in steps if s.decision is not None]
    if decided:
        index = [s.index for s in decided]
        names = sorted({name for s in decided for name in s.decision.plan.terms})  # pyright: ignore[reportOptionalMemberAccess]
        curves = {
            name: (index, [float(s.decision.plan.terms[name][0]) for s in decided])  # pyright: ignore[reportOptionalMemberAccess]
            for name in names
        }
        report.heading("Energy, term by term")
        report.picture(
            draw.curve_figure(
                curves, out / "energy.png", title="Energy of the plan", xlabel="step", ylabel="energy"
            )
        )
        to_go = {"steps to go": ([s.index for s in steps], [s.steps_to_go for s in steps])}
        report.picture(
            draw.curve_figure(
                to_go,
                out / "progress.png",
                title="The critic's estimate",
                xlabel="step",
                ylabel="steps to go",
            )
        )
    reasons = [f"step {s.index}: {reason}" for s in steps for reason in [*s.choice.reasons, *s.notes]]
    if reasons:
        report.heading("Decisions")
        report.lines(reasons)
    report.details("Numbers", facts)
    return report.write(out / "report.html")
