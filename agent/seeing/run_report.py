"""The HTML page of one run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.play import Played

from . import figures as draw
from .imagery import grown, painted
from .nearest import RealFrames
from .report import Report

MOMENTS = 8


def write_run_report(
    played: Played,
    out: Path,
    *,
    title: str,
    ending: str,
    facts: dict[str, Any],
    configuration: Any,
    mind: Any = None,
) -> Path:
    """Words, film, curves and numbers of a run."""
    report = Report(title, ending)
    report.lines(in_words(played, None if mind is None else mind.heads.get("body")))
    report.video(played.files["video"], "The scene, the cameras (left) and what they should see (right).")
    strip = run_strip(played, out, mind) if mind is not None else None
    if strip is not None:
        report.heading("What came, and what was imagined")
        report.picture(
            strip,
            "Green frames are real. Blue ones are imagined one step before, painted by the decoder, which no plan ever "
            "sees. Dashed: the nearest real frame of this run to what was imagined, with its distance (1 is that of two "
            "random frames).",
            plot=False,
        )  # fmt: skip
    steps = played.outcome.steps
    decided = [(s.index, s.decision) for s in steps if s.decision is not None]
    if decided:
        index = [i for i, _ in decided]
        names = sorted({name for _, d in decided for name in d.plan.terms})
        curves = {name: (index, [float(d.plan.terms[name][0]) for _, d in decided]) for name in names}
        silent = [name for name, (_, y) in curves.items() if max(abs(v) for v in y) < 5e-3]
        curves = {name: xy for name, xy in curves.items() if name not in silent} or curves
        report.heading("Energy, term by term")
        energy = draw.curve_figure(
            curves, out / "energy.png", title="Energy of the plan", xlabel="step", ylabel="energy"
        )  # fmt: skip
        report.picture(energy, f"Zero at every step: {', '.join(silent)}." if silent else "")
        to_go = {"steps to go": ([s.index for s in steps], [s.steps_to_go for s in steps])}
        felt = [(s.index, s.surprise) for s in steps if s.surprise is not None]
        report.heading("Steps to go, as the critic sees it")
        progress = draw.curve_figure(
            to_go, out / "progress.png", title="Steps to the goal", xlabel="step", ylabel="steps to go"
        )  # fmt: skip
        report.picture(progress)
        if felt:
            report.heading("Surprise")
            surprise = draw.curve_figure(
                {"surprise": ([i for i, _ in felt], [v for _, v in felt])}, out / "surprise.png", limit=1.0,
                title="What came, against what was imagined", xlabel="step", ylabel="of what is normal",
            )  # fmt: skip
            report.picture(surprise, "Above the dashed line the agent plans afresh, far above it stops.")
    reasons = [*played.brief]
    reasons += [f"step {s.index}: {reason}" for s in steps for reason in [*s.choice.reasons, *s.notes]]
    if reasons:
        report.heading("Decisions")
        report.lines(reasons)
    report.details("Numbers", facts)
    report.made_with(configuration)
    return report.write(out / "report.html")


def in_words(played: Played, body: Any = None) -> list[str]:
    """What a reader wants to know first.  `body` reads the hand's place off a latent."""
    steps = played.outcome.steps
    words = []
    decided = [s.decision for s in steps if s.decision is not None]
    if decided:
        searched = sum(d.mode == "planner" for d in decided)
        improved = sum(d.improved for d in decided)
        words.append(
            f"Mode 1 reacted in {len(decided) - searched} of {len(decided)} steps; Mode 2 searched in {searched} "
            f"and found something better in {improved}"
            if searched
            else f"Mode 1 reacted in all {len(decided)} steps; Mode 2 was never asked to search"
        )
    if played.plan_ms:
        words.append(
            f"a decision took {np.median(played.plan_ms):.0f} ms (median), {max(played.plan_ms):.0f} ms at most"
        )
    told = [
        (s.decision.plan.imagined, after.percept.pose[0, :3])
        for s, after in itertools.pairwise(steps)
        if s.decision is not None
    ]
    if told:
        sent = np.median([1000 * float((ahead.poses[0, 0, 0, :3] - hand).norm()) for ahead, hand in told])
        words.append(f"the hand came within {sent:.0f} mm (median) of where it was sent")
    if told and body is not None:
        with torch.no_grad():
            read = [1000 * float((body(ahead.latents[0, 0, 0])[0] - hand).norm()) for ahead, hand in told]
        words[-1] += f", and within {np.median(read):.0f} mm of where what was imagined shows it"
    felt = [s.surprise for s in steps if s.surprise is not None]
    if felt:
        most = int(np.argmax(felt))
        words.append(f"surprise rose to {felt[most]:.1f} times the limit of what is normal" if felt[most] > 1
                     else f"nothing was surprising: {felt[most]:.1f} of the limit at most")  # fmt: skip
    return words


def run_strip(played: Played, out: Path, mind: Any) -> Path | None:
    """Some moments of a run: what came, what had been imagined for then, the nearest real frame to that."""
    steps = played.outcome.steps
    told = [(a, b) for a, b in itertools.pairwise(steps) if a.decision is not None]
    if not told:
        return None
    told = [
        told[i]
        for i in sorted({int(i) for i in np.linspace(0, len(told) - 1, min(MOMENTS, len(told))).round()})
    ]
    cameras = tuple(mind.model.conventions.cameras)
    decoder = mind.heads.get("decoder")
    dreamt = torch.stack([a.decision.plan.imagined.latents[0, 0, 0] for a, _ in told])  # pyright: ignore[reportOptionalMemberAccess]
    pictures = painted(decoder, dreamt) if decoder is not None else None
    seen = RealFrames(scale=float(mind.normalisation.get("latent_scale", 2.0)))
    near = []
    for before, (a, _) in enumerate(told):
        for step in steps[len(seen) : a.index + 1]:
            frames = np.stack([step.percept.observation.frames[c] for c in cameras])
            seen.add(step.percept.latent[0], frames, f"step {step.index}")
        near.append(seen.nearest(dreamt[before]))
    rows = []
    for view, camera in enumerate(cameras):
        came = np.stack([grown(b.percept.observation.frames[camera]) for _, b in told])
        rows.append(draw.Row(label=f"{camera}\ncame", frames=came))
        if pictures is not None:
            rows.append(draw.Row(label="imagined", frames=pictures[:, view], kind="dream"))
        notes = [f"{n.where}: {n.distance:.2f}" for n in near] if view == len(cameras) - 1 else ()
        found = np.stack([grown(n.frames[view]) for n in near])
        rows.append(draw.Row(label="nearest real", frames=found, kind="near", notes=notes))
    return draw.filmstrip(rows, out / "filmstrip.jpg", columns=[f"step {b.index}" for _, b in told])
