"""Thirty minutes of logs from a lab the model never saw: what do they buy?  `python -m benchmarks.shifted out=DIR`.

Collects 225 episodes of 40 steps (30 minutes at 5 Hz) in `env=shifted` (PyBullet, other camera pose, table, gripper
and objects), post-trains a model on them with one `forearm train from=... data=...`, and prints, before and after:
the offline score and prediction figures on episodes held out, and closed-loop reaching on 40 seeds, there and in the
simulator the model comes from.  `home=225` records as many episodes in that simulator and names them beside the others,
as docs/training.md advises.  Started again it goes on where it was.

    python -m benchmarks.shifted out=outputs/shifted home=225
    python -m benchmarks.shifted out=outputs/tenth episodes=22 validation=0.3 trials=4 -- recipe.post_steps=80 recipe.batch_size=8

Words after `--` go to `forearm train`.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from agent.stages import stage

HOUSE = Path(__file__).resolve().parents[1]
FIGURES = {
    "copy_ratio_1": "error / copying, 1 step", "copy_ratio_3": "error / copying, 3 steps",
    "wrong_ratio_1": "wrong / true action, 1 step", "wrong_ratio_3": "wrong / true action, 3 steps",
    "top1": "true action first of 16", "probe_object_xyz_mm": "object by a linear probe, mm",
}  # fmt: skip


@dataclass(kw_only=True)
class Options:
    out: str = "outputs/shifted"
    model: str = "forearm-panda"
    env: str = "shifted"  # a file of configs/env
    episodes: int = 225
    seed: int = 200000
    home: int = 0  # episodes from the simulator that the model comes from, named beside the others
    home_seed: int = 210000
    trials: int = 40
    trials_seed: int = 10000
    tasks: str = "reach"
    methods: str = "both"
    workers: int = 2
    validation: float = 0.1  # share of the episodes held out


def options_from(words: list[str]) -> Options:
    known = {f.name: f.type for f in fields(Options)}
    found: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise SystemExit(f"benchmarks.shifted: no setting {name!r}; there are {', '.join(known)}")
        found[name] = {"int": int, "float": float}.get(str(known[name]), str)(value)
    return Options(**found)


def flat(node: dict[str, Any], prefix: str) -> list[str]:
    """A mapping as the words that set it: {'a': {'b': [1, 2]}} -> a.b=[1,2]."""
    words: list[str] = []
    for key, value in node.items():
        at = f"{prefix}.{key}"
        words += (
            flat(value, at)
            if isinstance(value, dict)
            else [f"{at}={json.dumps(value, separators=(',', ':'))}"]
        )
    return [word.replace('"', "") for word in words]


def reaching(options: Options, out: Path, model: str, name: str) -> dict[str, dict[str, Any]]:
    """Closed loop in the shifted lab and at home: rows of the table by place, task and method."""
    lab = yaml.safe_load((HOUSE / "configs" / "env" / f"{options.env}.yaml").read_text())
    places = {
        "shifted": [f"engines=[{lab['engine']}]", f"splits=[{lab['split']}]", *flat(lab["scene"], "scene")],
        "home": ["engines=[mujoco]", "splits=[train]"],
    }
    found: dict[str, dict[str, Any]] = {}
    for place, words in places.items():
        results = stage("evaluate", out / f"{name}-{place}", [
            f"model={model}", f"tasks=[{options.tasks}]", "films=false", f"methods=[{options.methods}]",
            f"episodes={options.trials}", f"seed={options.trials_seed}", f"workers={options.workers}", *words,
        ])  # fmt: skip
        for row in results["rows"]:
            found[f"{row['task']}, {row['goal']}, {row['method']}, {place}"] = row
    return found


def prediction(model: str, logs: Path, caches: Path, validation: float) -> dict[str, float]:
    """Prediction figures on the episodes that training held out."""
    from agent.learn import open_sources
    from agent.learn_health import health_hook
    from world_model.checkpoint import describe, load_model
    from world_model.train.recipes import Learner

    source = open_sources(
        [logs], describe(model).conventions, together=True, folder=caches, say=lambda _: None
    )[0]
    hook = health_hook(source.cache, length=6, validation=validation)
    measured, _ = hook(Learner(load_model(model)).eval(), 0)
    return {words: measured[name] for name, words in FIGURES.items() if name in measured}


def main() -> None:
    words = sys.argv[1:]
    extra = words[words.index("--") + 1 :] if "--" in words else []
    options = options_from(words[: words.index("--")] if "--" in words else words)
    out = Path(options.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    began, logs, caches = time.time(), out / "logs", out / "caches"
    workers = f"workers={options.workers}"
    stage("collect", out / "collect", [
        f"env={options.env}", f"episodes={options.episodes}", f"seed={options.seed}", workers, f"to={logs}",
    ])  # fmt: skip
    data = [logs]
    if options.home:
        data.append(out / "home")
        stage("collect", out / "collect-home", [
            f"episodes={options.home}", f"seed={options.home_seed}", workers, f"to={data[1]}",
        ])  # fmt: skip
    trained = stage("train", out / "train", [
        f"from={options.model}", f"data=[{','.join(map(str, data))}]", f"caches={caches}",
        f"validation={options.validation}", *extra,
    ])  # fmt: skip
    adapted = str(out / "train" / "model")
    models = {"before": options.model, "after": adapted}
    held_out = {name: prediction(model, logs, caches, options.validation) for name, model in models.items()}
    for name, key in (("before", "score_before"), ("after", "score")):
        held_out[name] |= {
            "action score": trained[key]["score"], "end position, mm": 1e3 * trained[key]["error_m"],
            "doing nothing, mm": 1e3 * trained[key]["still_m"],
        }  # fmt: skip
    loop = {name: reaching(options, out, model, name) for name, model in models.items()}
    lines = [
        f"| {options.episodes} episodes, {options.home} of home beside, {trained['steps']} steps | before | after |",
        "| --- | --- | --- |",
    ]
    for figure in held_out["before"]:
        lines.append(f"| {figure} | {held_out['before'][figure]:.3g} | {held_out['after'][figure]:.3g} |")
    for row in loop["before"]:
        cells = [
            f"{r['successes']}/{r['episodes']} ({r['wilson_low']:.0%} to {r['wilson_high']:.0%}), {1e3 * r['median_distance_m']:.0f} mm"
            for r in (loop["before"][row], loop["after"][row])
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    report = {
        "options": vars(options),
        "train": extra,
        "held_out": held_out,
        "closed_loop": loop,
        "training": trained,
    }
    (out / "shifted.json").write_text(json.dumps(report, indent=1))
    print("\n".join(lines))
    print(f"{time.time() - began:.0f} s this time; all of it: {out / 'shifted.json'}")


if __name__ == "__main__":
    main()
