"""The page of an evaluation: the table, success against time, energy against true distance, first failures as films."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.video import write_video

from .build import load_mind
from .evaluate import NEEDS_MODEL, EvaluateSettings
from .seeing import figures as draw
from .seeing.report import Report
from .seeing.run_recording import RunRecording
from .trials import BUDGET_STEPS, Cell, World, agent_task, run_trial

SHOWN = 6  # films of failures


def write_evaluation(
    trials: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    tests: list[dict[str, Any]],
    settings: EvaluateSettings,
    out: Path,
    *,
    films: bool = True,
) -> Path:
    """Write report.html and what it shows into `out`."""
    best = max((r for r in rows if r["method"] == "both"), key=lambda r: r["rate"], default=rows[0])
    report = Report(
        "forearm: evaluation",
        f"{sum(r['episodes'] for r in rows)} trials from seed {settings.seed}; {best['task']} by {best['method']}: {best['rate']:.0%}",
    )
    report.heading("Success")
    report.table([_row(r) for r in rows], bar="rate")
    if tests:
        report.heading("Is the difference real?")
        report.lines(
            [
                f"{t['task']} ({t['goal']}, {t['split']}): both alone won {t['only_both']}, {t['against']} alone "
                f"{t['only_other']} of {t['episodes']} (McNemar p = {t['p']:.3g})"
                for t in tests
            ]
        )
    report.heading("Success against time")
    report.picture(_success_curves(trials, out))
    scatter = _energy_scatter(trials, out)
    if scatter is not None:
        report.heading("Energy against true distance")
        report.picture(scatter, "Each dot is a step: an energy worth minimising falls with the distance.")
    if films:
        found = failure_films(trials, settings, out)
        if found:
            report.heading("First failures of each kind")
            report.gallery(found)
    report.details("Rows", rows)
    report.made_with(settings)
    return report.write(out / "report.html")


def failure_films(
    trials: list[dict[str, Any]], settings: EvaluateSettings, out: Path
) -> list[tuple[Path, str]]:
    """Act the first failure of each kind again (the same seed fails the same way), filmed and recorded for Rerun."""
    folder = out / "videos"
    folder.mkdir(exist_ok=True)
    seen: set[tuple[str, str]] = set()
    films: list[tuple[Path, str]] = []
    agent = replace(settings.agent, keep_clouds=True)
    mind = None
    for trial in trials:
        cell = Cell(**trial["cell"])
        if not trial["failure"] or cell.method not in ("both", "policy", "planner") or len(films) >= SHOWN:
            continue
        if (cell.task, trial["failure"]) in seen:
            continue
        seen.add((cell.task, trial["failure"]))
        mind = mind or load_mind(settings.model)
        conventions = mind.model.conventions
        world = World(
            cell,
            conventions.image_size,
            tuple(conventions.cameras),
            conventions.period_s,
            scene=settings.scene,
        )
        path = folder / f"{cell.task}-{cell.method}-{trial['seed']}-{trial['failure'].replace(' ', '_')}.mp4"
        frames: list[np.ndarray] = []
        task = agent_task(cell, world.lay_out(cell, trial["seed"])[0], BUDGET_STEPS[cell.task])
        recording = RunRecording(
            path.with_suffix(".rrd"), task, world.arm.limits, mind=mind, truth=world.driver,
            cameras=tuple(conventions.cameras),
        )  # fmt: skip
        try:
            run_trial(cell, trial["seed"], world, mind, agent, on_step=recording, frames=frames)
        finally:
            recording.close()
            world.arm.close()
        write_video(path, np.stack(frames), fps=1.0 / conventions.period_s)
        where = f"recording: videos/{path.stem}.rrd"
        films.append((path, f"{cell.task}, {cell.method}, seed {trial['seed']}: {trial['failure']}. {where}"))
    return films


def _row(row: dict[str, Any]) -> dict[str, Any]:
    failures = ", ".join(
        f"{count} {kind}" for kind, count in sorted(row["failures"].items(), key=lambda f: -f[1])
    )
    return {
        "task": row["task"], "goal": row["goal"], "method": row["method"],
        "rate": row["rate"], "trials": f"{row['successes']}/{row['episodes']}",
        "95 %": f"{row['wilson_low']:.0%} to {row['wilson_high']:.0%}",
        "distance": f"{1000 * row['median_distance_m']:.0f} mm",
        "plan": "" if row["plan_ms_median"] is None else f"{row['plan_ms_median']:.0f} ms",
        "split": row["split"], "engine": row["engine"], "failures": failures,
    }  # fmt: skip


def _success_curves(trials: list[dict[str, Any]], out: Path) -> Path:
    methods = {t["cell"]["method"] for t in trials}
    shown = [m for m in ("both", "policy", "scripted", "random") if m in methods] or sorted(methods)
    keys = ("task", "engine", "split", "goal", "method")
    several = [k for k in keys if k in ("task", "method") or len({t["cell"][k] for t in trials}) > 1]
    groups: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        if trial["cell"]["method"] in shown:
            groups.setdefault(", ".join(trial["cell"][k] for k in several), []).append(trial)
    curves, looks = {}, {}
    kinds = list(dict.fromkeys(name.rpartition(", ")[0] for name in groups))
    for name, found in groups.items():
        kind, _, method = name.rpartition(", ")
        looks[name] = (kinds.index(kind), shown.index(method))
        steps = np.arange(BUDGET_STEPS[found[0]["cell"]["task"]] + 1)
        curves[name] = (steps, [np.mean([t["success"] and t["steps"] <= s for t in found]) for s in steps])
    return draw.curve_figure(
        curves,
        out / "success.png",
        title="Share that has succeeded",
        xlabel="step",
        ylabel="share",
        top=1.02,
        looks=looks,
    )


def _energy_scatter(trials: list[dict[str, Any]], out: Path) -> Path | None:
    found = [
        t
        for t in trials
        if t["cell"]["method"] in NEEDS_MODEL and t["cell"]["method"] != "blind" and t["energies"]
    ]
    if not found:
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(draw.STYLE):
        figure = Figure(figsize=(6, 3.4))
        panel = figure.subplots()
        for task in dict.fromkeys(t["cell"]["task"] for t in found):
            pairs = [
                p
                for t in found
                if t["cell"]["task"] == task
                for p in zip(t["distances_m"], t["energies"], strict=False)
            ]
            distance, energy = np.array(pairs).T
            panel.plot(100 * distance, energy, ".", ms=3, alpha=0.4, label=task)
        panel.set(xlabel="true distance [cm]", ylabel="energy of the plan")
        panel.legend(frameon=False, markerscale=3)
        return draw.save(figure, out / "energy.png")
