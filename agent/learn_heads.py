"""The heads of a world model: trained on latents encoded once, each on the episodes that teach it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from data.index import in_validation
from world_model.checkpoint import load_model, resolve, save_head
from world_model.train.heads import DEFAULTS, HeadSettings, train_head
from world_model.train.latents import Latents, SomeEpisodes, encode_once, joined

if TYPE_CHECKING:
    from agent.learn import Source

PICTURED = 400  # episodes are enough for a decoder


def train_heads(
    path: Path,
    heads: Sequence[str],
    sources: Sequence[Source],
    parts: Sequence[Latents],
    *,
    out: Path,
    settings: dict[str, HeadSettings],
    validation: float,
    seed: int,
    device: str,
    precision: str = "fp32",
    play_tasks: Sequence[str] = (),
    given: dict[str, nn.Module] | None = None,
    half: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train heads on the latents of sources and save them in a model's folder; returns figures on held-out episodes.

    Logs are drawn from as the sources say.  Episodes of `play_tasks` are no example to a policy; the decoder looks at
    the first log alone.  Heads that are `given` are trained further.  Called again, it goes on where it was.
    """
    episodes = [episode for source in sources for episode in source.cache.episodes]
    held = joined([_drawn(part, source, len(sources)) for part, source in zip(parts, sources, strict=True)])
    unseen = np.array(
        [in_validation(episode.uuid, validation) for episode in episodes[: len(held.rows)]], bool
    )
    purposeful = np.array([episode.task not in play_tasks for episode in episodes[: len(held.rows)]], bool)
    measures: dict[str, Any] = {}
    for name in heads:
        chosen, latents = np.ones(len(held.rows), bool), held
        if name == "policy":
            chosen = purposeful
        elif name == "decoder":
            latents, chosen = parts[0], np.arange(len(held.rows)) < min(PICTURED, len(parts[0].rows))
        learns, judges = np.flatnonzero(chosen & ~unseen), np.flatnonzero(chosen & unseen)
        if not len(learns) or not len(judges):
            without = (
                f" but those of the tasks {', '.join(play_tasks)}" if name == "policy" and play_tasks else ""
            )
            raise ValueError(
                f"{name}: {len(episodes)} episodes leave none{without} to {'judge by' if len(learns) else 'learn from'}; "
                "give more, or another validation="
            )
        head, sizes, measures[name] = train_head(
            name, latents.episodes(learns), validation=latents.episodes(judges), out=out / "heads" / name,
            settings=settings.get(name) or replace(DEFAULTS[name]), seed=seed, resume="last", device=device,
            precision=precision, given=(given or {}).get(name), say=say,
        )  # fmt: skip
        save_head(path, name, head.cpu(), config=sizes, dtype=torch.float16 if half else None)
        say(f"{name:8} " + "  ".join(f"{k} {v:.4g}" for k, v in measures[name].items()))
    return measures


def add_heads(
    model: str | Path, heads: Sequence[str], sources: Sequence[Source], *, out: Path, **how: Any
) -> dict[str, Any]:
    """A copy in `out/model` of a finished model, with these heads trained as `train_heads` does; nothing else changes."""
    world = load_model(model)
    caches: list[Any] = [source.cache for source in sources]
    if list(heads) == ["decoder"]:
        caches = [SomeEpisodes(caches[0], range(min(PICTURED, len(caches[0].episodes))))]
    encoding = {name: how[name] for name in ("device", "precision", "say") if name in how}
    parts = [
        encode_once(world, cache, out / "latents" / str(i), **encoding) for i, cache in enumerate(caches)
    ]
    target = out / "model"
    if not (target / "config.json").is_file():
        shutil.copytree(resolve(model), target, dirs_exist_ok=True)
    return train_heads(target, heads, list(sources)[: len(parts)], parts, out=out, **how)


def _drawn(latents: Latents, source: Source, logs: int) -> Latents:
    """The latents of a source with the chance of its episodes."""
    weights = source.episode_weights(range(len(latents.rows)))
    if logs > 1:
        weights = np.full(len(latents.rows), source.weight / len(latents.latents))
    return replace(latents, weights=weights)
