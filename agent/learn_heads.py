"""Heads for a model that is finished: its world model, its other heads and its scales stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.cache import FrameCache
from data.index import in_validation
from world_model.checkpoint import load_model, resolve, save_head
from world_model.train.heads import DEFAULTS, HeadSettings, train_head
from world_model.train.latents import SomeEpisodes, encode_once


def add_heads(
    model: str | Path,
    cache: FrameCache,
    heads: Sequence[str],
    *,
    out: Path,
    most_episodes: int = 400,
    settings: dict[str, HeadSettings] | None = None,
    validation: float = 0.1,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    half: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """A copy of the model's folder in `out/model`, with these heads trained on the first episodes of a cache.

    Returns the heads' figures on held-out episodes.  Called again for the same `out`, it goes on where it was.
    """
    world = load_model(model)
    some = SomeEpisodes(cache, range(min(most_episodes, len(cache.episodes))))
    unseen = np.array([in_validation(e.uuid, validation) for e in some.episodes], bool)
    if unseen.all() or not unseen.any():
        raise ValueError(
            f"{len(some.episodes)} episodes leave none to {'learn from' if unseen.all() else 'judge by'}; "
            "give more, or another validation="
        )
    held = encode_once(world, some, out / "latents", device=device, precision=precision, say=say)
    target = out / "model"
    if not (target / "config.json").is_file():
        shutil.copytree(resolve(model), target, dirs_exist_ok=True)
    measures: dict[str, Any] = {}
    for name in heads:
        head, sizes, measures[name] = train_head(
            name, held.episodes(np.flatnonzero(~unseen)), validation=held.episodes(np.flatnonzero(unseen)),
            out=out / "heads" / name, settings=(settings or {}).get(name) or replace(DEFAULTS[name]), seed=seed,
            resume="last", device=device, precision=precision, say=say,
        )  # fmt: skip
        save_head(target, name, head.cpu(), config=sizes, dtype=torch.float16 if half else None)
        say(f"{name:8} " + "  ".join(f"{k} {v:.4g}" for k, v in measures[name].items()))
    return measures
