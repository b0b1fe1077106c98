"""The shipped model from nothing, with one command: `make model`, that is `python -m agent.make_model`.

The scripted hand plays, a world model learns from it, the agent works with that and is corrected where it errs, the
heads learn from both logs, and what the model then is worth is measured and written on its card.  Every stage is a
`forearm` command with a seed, printed before it runs; started again, the same line goes on where it was.

    make model                                        # as shipped: hours on two cores
    make model ARGS="scale=0.01 out=outputs/rehearsal"

Words after `--` go to the training of the world model.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from agent.stages import StageFailed, stage

LIMITS = [
    "cubes and cylinders of 36 to 48 mm, one at a time, on a plain table, from the two cameras of the simulator",
    "things in colours or shapes that it never saw are lifted less often",
]


@dataclass(kw_only=True)
class Options:
    out: Path = Path("outputs/forearm-panda")
    scale: float = 1.0  # of all episodes, steps and trials
    workers: int = 2
    train: list[str] = field(default_factory=list)


Stage = tuple[str, str, list[str]]  # name of its folder, command, words


def stages(options: Options) -> list[Stage]:
    """What is done, in order."""
    out = options.out.resolve()
    play, corrections = out / "logs" / "play", out / "logs" / "corrections"
    first, model = out / "2-world" / "model", out / "4-heads" / "model"
    caches, workers = f"caches={out / 'caches'}", f"workers={options.workers}"
    colours = "env.scene.any_colour=0.1"

    def n(count: int, least: int = 4) -> int:
        return max(least, round(count * options.scale))

    return [
        ("1-play", "collect", [f"episodes={n(4000, 28)}", "seed=100000", f"to={play}", workers, colours]),
        ("2-world", "train", [
            f"data=[{play}]", "recipe=panda", f"recipe.steps={n(8000)}", "heads=[policy]",
            f"head_steps={{policy:{n(6000)}}}", "seed=0", caches, *options.train,
        ]),
        ("3-corrections", "collect", [
            "hand=corrected", f"model={first}", f"episodes={n(1000)}", "seed=300000", f"to={corrections}", workers,
            colours,
        ]),
        ("4-heads", "train", [
            f"from={first}", "only_heads=true", f"data=[{play},{corrections}]", "weights=[6,1]",
            "heads=[policy,critic,body,decoder]",
            f"head_steps={{policy:{n(7000)},critic:{n(2500)},body:{n(2000)},decoder:{n(1500)}}}", "seed=0", caches,
        ]),
        ("5-surprise", "calibrate", [f"model={model}", f"surprise_episodes={n(100)}", "seed=0"]),
        ("6-gates", "imagine", [f"model={model}", f"episodes={n(100, 8)}", "seed=15000", f"probes={play}", caches]),
        ("7-table", "evaluate", [
            f"model={model}", "goals=[image,final]", "methods=[policy,both]", f"episodes={n(50, 1)}", "seed=10000", workers,
        ]),
    ]  # fmt: skip


def make(options: Options) -> Path:
    """Do what is left of all stages; returns the model's folder."""
    from world_model.checkpoint import load_heads, load_model
    from world_model.train.state import write_text

    options.out.mkdir(parents=True, exist_ok=True)
    planned = stages(options)
    keep_to(planned, options.out / "stages.json")
    results = {name: stage(command, options.out / name, words) for name, command, words in planned}
    model = options.out / "4-heads" / "model"
    write_text(model / "card.json", json.dumps(card(planned, results), indent=1))
    load_model(model)  # with their checksums
    heads = load_heads(model)
    megabytes = sum(file.stat().st_size for file in model.iterdir()) / 1e6
    print(f"\nmodel    {model} ({megabytes:.1f} MB, with {', '.join(heads)})")
    for name, (figure, sign, bound, passed) in results["6-gates"]["gates"].items():
        print(f"{'passed' if passed else 'MISSED':8} {name}: {figure:.3g} (asked {sign} {bound:g})")
    print(f"use it   forearm demo model={model}")
    return model


def keep_to(planned: list[Stage], file: Path) -> None:
    """Refuse to go on in a folder with other settings than it was begun with."""
    from world_model.train.state import write_text

    now = [[name, command, *words] for name, command, words in planned]
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else now
    for old, new in zip(before, now, strict=False):
        changed = [f"{b} instead of {a}" for a, b in zip(old, new, strict=False) if a != b]
        if len(old) != len(new) or changed:
            raise ValueError(
                f"{file.parent} was begun otherwise: {new[0]} is asked for with {', '.join(changed) or 'other words'}; "
                "choose another out=, or go on with what it was begun with"
            )
    write_text(file, json.dumps(now, indent=1))


def card(planned: list[Stage], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a person wants to know of a model before using it."""
    world, table = results["2-world"], results["7-table"]["rows"]
    return {
        "name": "forearm-panda",
        "date": time.strftime("%Y-%m-%d"),
        "how": [f"forearm {command} {' '.join(words)}".replace(f"{Path.cwd()}/", "") for _, command, words in planned],
        "data": {
            name: {k: results[name][k] for k in ("recorded", "contact", "lifted", "placed")}
            for name in ("1-play", "3-corrections")
        },
        "world_model": {k: world[k] for k in ("steps", "loss", "score", "commit", "versions")},
        "heads": results["4-heads"]["heads"],
        "hardware": world["hardware"],
        "minutes": {name: round(found["seconds"] / 60, 1) for name, found in results.items()},
        "health": {
            name: f"{figure:.3g} (asked {sign} {bound:g})"
            for name, (figure, sign, bound, _) in results["6-gates"]["gates"].items()
        },
        "success": {
            f"{row['task']}, {row['goal']}, {row['method']}": f"{row['successes']} of {row['episodes']}" for row in table
        },
        "limits": LIMITS,
    }  # fmt: skip


def options_from(words: list[str]) -> Options:
    cut = words.index("--") if "--" in words else len(words)
    kinds = {"out": Path, "scale": float, "workers": int}
    found: dict[str, Any] = {"train": words[cut + 1 :]}
    for word in words[:cut]:
        name, mark, value = word.partition("=")
        if name not in kinds or not mark:
            known = ", ".join(f.name for f in fields(Options) if f.name != "train")
            raise ValueError(f"{word!r} is not understood; there are {known}, each as name=value")
        found[name] = kinds[name](value)
    if found.get("scale", 1.0) <= 0:
        raise ValueError(
            f"scale is {found['scale']}; it is more than 0, and 1 makes the model that is shipped"
        )
    return Options(**found)


def main() -> int:
    try:
        make(options_from(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nStopped.  The same line goes on where it was.", file=sys.stderr)
        return 130
    except (ValueError, StageFailed) as error:
        print(f"make model: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
