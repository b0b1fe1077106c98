"""The pages of `forearm imagine`: figures, words and one HTML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.cache import FrameCache
from data.source import open_log
from world_model.health import Health, gates

from .build import Mind, load_mind
from .imagining import (
    AXES,
    AxisCheck,
    Encoded,
    RollOuts,
    actions_from,
    axis_check,
    encode,
    health_of,
    imagine_from,
    landscape_misses,
    landscapes_at,
    roll_outs,
)
from .places import place_probes
from .recorded import longest_stretch
from .seeing import figures as draw
from .seeing import imagination as look
from .seeing.imagination_recording import record_imagination
from .seeing.report import Report

FEW = 8  # episodes: with fewer the probes are fitted on next to nothing
PLANNED = 6  # steps: the horizon of the default planner
ONE_FUTURE = "this model has no latent variable z: from the same actions it imagines one future, the mean of what may come"


@dataclass(kw_only=True)
class Looked:
    """What came of it."""

    figures: dict[str, Any]
    words: list[str]
    files: dict[str, Path] = field(default_factory=dict)


def report_imagination(
    data: Path,
    model: str,
    out: Path,
    *,
    episodes: int,
    horizon: int,
    start: int,
    probes: FrameCache | None = None,
    configuration: Any = None,
) -> Looked:
    """Numbers, sentences, pictures, the recording and the page.  On the scenes of `probes` those of hand and things are fitted."""
    mind, log = load_mind(model), open_log(data)
    context = getattr(mind.model, "context", 3)
    checked = log.check()
    found = [
        encode(mind.model, longest_stretch(log.open(key), mind.model.conventions))
        for key in checked.accepted[:episodes]
    ]
    found = [e for e in found if len(e.stretch.frames) > context + 1]
    if not found:
        raise ValueError(
            f"{data}: no usable episode is longer than {context + 1} model steps ({checked.summary()}); "
            "forearm inspect names what is wrong; give more episodes="
        )
    rolled = roll_outs(mind.model, found, horizon=horizon, context=context, body=mind.heads.get("body"))
    first = next(e for e in found if len(e.stretch.frames) >= context + horizon)
    start = _start(first, start, horizon, context)
    check = axis_check(mind.model, found, context=context)
    misses = landscape_misses(mind.model, found, context=context)
    true = actions_from(mind.model, first, start, 1)[0, 0, 0].numpy()
    shown = look.look_closely(
        mind, found, first, start, *imagine_from(mind.model, first, start, horizon, context=context)
    )
    health = health_of(mind.model, found, context=context, ahead=min(horizon, PLANNED))
    if health is not None and probes is not None:
        health.probes |= place_probes(mind.model, probes, found)
    words = [
        *_words(rolled, horizon),
        *misses.words,
        *check.words,
        *_health_words(health, probes, len(found)),
    ]
    figures = {
        **rolled.figures,
        "health": {} if health is None else health.figures,
        "gates": {} if health is None else gates(health),
        "axis_matrix": check.matrix.tolist(),
        "axis_residual_m": check.residual_m,
        "camera_yaw_error_deg": check.yaw_error_deg,
        "landscape_misses_m": misses.metres,
        "landscape_gripper_right": misses.gripper_right,
        "nearest_real_distance": [n.distance for n in shown.near],
        "start": start,
    }
    report = Report("Imagined against real", f"{model} on {len(found)} episodes of {data}")
    report.lines(words)
    _film(report, mind, shown, out)
    _errors(report, rolled, check, out)
    _landscapes(report, mind, first, start, true, context, out)
    figures["futures_disagree"] = spread = _inside(report, mind, found, shown, context, out)
    words.append(
        ONE_FUTURE
        if spread is None
        else f"{look.FUTURES} futures of the same actions differ by {spread[0]:.3f} one step ahead, by {spread[-1]:.3f} "
        f"after {horizon} (a step really changes the latent by {rolled.copy_last[0] ** 0.5:.3f})"
    )
    report.details("Numbers", figures)
    report.made_with(configuration or {"data": str(data), "model": model})
    cameras = mind.model.conventions.cameras
    recording = record_imagination(shown, rolled, cameras, out / "recording.rrd")
    page = report.write(out / "report.html")
    return Looked(figures=figures, words=words, files={"recording": recording, "report": page})


def _start(first: Encoded, asked: int, horizon: int, context: int) -> int:
    """Where the pictures begin: as asked, or where most moves."""
    last = len(first.stretch.frames) - horizon - 1
    if asked < 0:
        moves = first.stretch.actions[:, :3].norm(dim=-1).numpy()
        windows = [moves[t : t + horizon].sum() for t in range(context - 1, last + 1)]
        return context - 1 + int(np.argmax(windows))
    if not context - 1 <= asked <= last:
        raise ValueError(f"start is {asked}; in this episode it goes from {context - 1} to {last}")
    return asked


def _words(rolled: RollOuts, horizon: int) -> list[str]:
    ratio, wrong = rolled.figures["copy_ratio"], rolled.figures["wrong_ratio"]
    near, far = (1000 * rolled.position_m[h] for h in (0, -1))
    hand = f"the hand, told how far it really moved, is imagined to {near:.1f} mm one step ahead, {far:.1f} mm after {horizon}"
    if rolled.hand_m is not None and rolled.hand_seen_m is not None:
        near, far, seen = (1000 * v for v in (rolled.hand_m[0], rolled.hand_m[-1], rolled.hand_seen_m[-1]))
        hand = (
            f"the hand, read from the imagined latent, is {near:.0f} mm off one step ahead and {far:.0f} mm after {horizon}; "
            f"read from the frames that came it is {seen:.0f} mm off"
        )
    return [
        f"one step ahead the model errs {ratio[0]:.2f} times as much as assuming that nothing changes, "
        f"{horizon} steps ahead {ratio[-1]:.2f} times",
        f"with other actions it would err {wrong[0]:.1f} and {wrong[-1]:.1f} times as much: it listens to its actions"
        if wrong[0] > 1.1
        else f"with other actions it would err {wrong[0]:.2f} times as much: it hardly listens to its actions",
        hand,
    ]


def _health_words(health: Health | None, probes: FrameCache | None, episodes: int) -> list[str]:
    if health is None:
        return []
    numbers = f"RankMe {health.rankme:.0f}, LiDAR {health.lidar:.0f}"
    if "directions" not in health.words:
        numbers = f"{health.rank:.0f} directions of {health.dim} in use, {numbers}"
    said = [
        f"the representation is {health.words} ({numbers}); the true actions are first of 16 in {100 * health.top1:.0f} %"
    ]
    if episodes < FEW:
        said.append(
            f"of {episodes} episodes alone, rank, gates and probes say more about the episodes than about the model: "
            f"give {FEW} or more"
        )
    missed = [
        f"{name} is {figure:.3g} (asked {sign} {bound:g})"
        for name, (figure, sign, bound, passed) in gates(health).items()
        if not passed
    ]
    said.append(f"gates missed: {'; '.join(missed)}" if missed else "it passes every gate (docs/training.md)")
    read = [f"{name.replace('_', ' ')} to {p.error:.3g} {p.unit}" for name, p in health.probes.items()]
    if probes is not None:
        fitted = f"probes, those of places fitted on {probes.path}, read off these episodes"
    else:
        fitted = "probes fitted on half of these episodes read off the other half"
    return [*said, f"{fitted}: {', '.join(read)}"]


def _film(report: Report, mind: Mind, shown: look.Shown, out: Path) -> None:
    report.heading("What it imagines")
    painted = (
        "Blue: what was imagined from the true actions, painted by a decoder that was trained on the finished model "
        "and that no plan ever sees."
        if shown.decoded is not None
        else "This model has no decoder (docs/training.md says how to train one), so that its imagination is shown by "
        "the nearest real frames alone."
    )
    caption = (
        f"Green: the frames that came. {painted} Dashed: the real frame of the other episodes that is nearest to what was "
        "imagined, with its distance (1 is that of two random frames)."
    )
    report.picture(
        look.film(shown, mind.model.conventions.cameras, out / "filmstrip.jpg"), caption, plot=False
    )


def _errors(report: Report, rolled: RollOuts, check: AxisCheck, out: Path) -> None:
    report.heading("Error by horizon")
    report.picture(
        draw.horizon_figure(rolled, out / "horizons.png"),
        f"Means over {rolled.starts} starts."
        if rolled.hand_m is None
        else f"Means over {rolled.starts} starts. Right: how far off the hand is where a small head reads it from the "
        "imagined latent (blue) and, for comparison, from the latent of the frame that came (green).",
    )
    report.heading("Axis check")
    report.picture(
        draw.axis_figure(check, out / "axes.png"),
        "Each dot is a step that was really done: which move would the model choose to get to the frame that came?",
    )


def _landscapes(
    report: Report, mind: Mind, first: Encoded, start: int, true: np.ndarray, context: int, out: Path
) -> None:
    surfaces = landscapes_at(mind.model, first, start, context=context)
    report.heading("Energy landscape")
    report.picture(
        draw.landscape_figure(surfaces, true, out / "landscapes.png"),
        f"The energy of every pair of {', '.join(AXES.values())} around the action that was done.",
        plot=False,
    )


def _inside(
    report: Report, mind: Mind, found: list[Encoded], shown: look.Shown, context: int, out: Path
) -> list[float] | None:
    """What the latent holds: its path, feature maps, what differs from the goal, several futures."""
    report.heading("The latent's path")
    report.picture(
        look.components(found, shown, out / "components.png"),
        "The first three principal components of all latents seen, in which both curves are drawn.",
    )
    features = look.features(mind, shown, out / "features.png")
    if features is not None:
        report.heading("Feature maps")
        report.picture(
            features,
            "Red, green and blue are the first three principal components, the same in all maps of a kind.",
            plot=False,
        )
    differences = look.differences(mind, shown, out / "differences.jpg")
    if differences is not None:
        report.heading("What differs from the goal")
        report.picture(
            differences,
            "The last frame of the roll-out is taken for the goal; orange is what the model sees amiss.",
            plot=False,
        )
    futures = look.futures(mind, shown, out / "futures.png", context=context)
    report.heading("Several futures")
    if futures is None:
        report.text(ONE_FUTURE)
        return None
    report.picture(futures[0], "The same actions, imagined with several draws of the latent variable z.")
    return futures[1]
