"""From logs to a model's folder: caches, clips, the world model, its heads, a score; each stage goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agent.adapting import begin, take_best
from agent.learn_heads import train_heads
from agent.learn_health import health_hook
from agent.scoring import held_out_of, score_world, scored
from agent.surprise import scale_from
from data.cache import FrameCache, build_cache
from data.clips import ClipDataset, ClipLoader
from data.hindsight import HindsightLoader
from data.index import in_validation
from data.source import Log, open_log
from data.types import Conventions
from planners.costs.goal import latent_scale
from world_model.checkpoint import describe, load_model, save_model
from world_model.dense import DenseModel
from world_model.meta import load_vjepa2
from world_model.predictors.tokens import TokenPredictor
from world_model.train import state
from world_model.train.distributed import Group
from world_model.train.heads import HeadSettings
from world_model.train.latents import LatentClips, Latents, encode_once, joined
from world_model.train.loop import TrainResult, train
from world_model.train.parts import Loader
from world_model.train.recipes import Sizes, make_recipe
from world_model.train.score import choose_moments, one_step_errors

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Source:
    """One log, decoded, or several in one cache."""

    cache: FrameCache
    weight: float = 1.0
    shares: dict[str, float] = field(default_factory=dict)
    """How often each log of a cache of several is drawn from; none: every frame equally often."""
    first_log: str = ""
    """The log that was named first: the one that a model is adapted to."""
    tools: dict[str, str] = field(default_factory=dict)
    """The point whose poses each log tells: tcp, hand or flange."""

    def episode_weights(self, episodes: Sequence[int]) -> np.ndarray | None:
        """What the chance of each episode's frames is multiplied by, so that the logs get their shares."""
        if not self.shares:
            return None
        logs = [self.cache.episodes[e].source for e in episodes]
        frames = {log: 0 for log in logs}
        for log, e in zip(logs, episodes, strict=True):
            frames[log] += self.cache.episodes[e].rows
        return np.array([self.shares[log] / frames[log] for log in logs])


@dataclass(kw_only=True)
class Start:
    """Where the world model comes from: a model's folder, an official file, or nothing."""

    folder: str = ""
    weights: str = ""
    sizes: Sizes = field(default_factory=Sizes)

    @cached_property
    def adapts(self) -> bool:
        """Whether a model was given that predicts from actions already; what was pretrained sees, and no more."""
        return bool(self.folder) and describe(self.folder).config.get("predictor", "within") is not None

    def conventions(self, asked: Conventions) -> Conventions:
        """A given model's own conventions; else those asked for."""
        return describe(self.folder).conventions if self.folder else asked

    def world(self, conventions: Conventions) -> Any:
        if self.folder:
            world: Any = load_model(self.folder)
        elif self.weights:
            world = load_vjepa2(self.weights, image_size=conventions.image_size, conventions=conventions)
        else:
            return self.sizes.world(conventions)
        if self.adapts or isinstance(world.predictor, TokenPredictor):
            return world
        # A pretrained encoder: the action-conditioned predictor is new.
        if self.sizes.kind != "dense":
            raise ValueError(
                f"{self.folder or self.weights} is a pretrained encoder, and a {self.sizes.kind} model has no predictor "
                "for its tokens: say model= as when it was pretrained, for instance model=vit_small"
            )
        side = conventions.image_size // world.encoder.config.patch
        grid = (side * len(conventions.cameras), side)
        predictor = self.sizes.full(conventions)["predictor"] | {
            "latent_dim": world.encoder.config.dim,
            "grid": grid,
        }
        return DenseModel(conventions, encoder=world.encoder, predictor=predictor, normalise=world.normalise)

    def described(self, world: Any, conventions: Conventions) -> tuple[str, dict[str, Any]]:
        """Kind and config that build the world model again."""
        if hasattr(world, "config"):
            return "dense", world.config
        if self.folder:
            known = describe(self.folder)
            return known.kind, known.config
        return self.sizes.kind, self.sizes.full(conventions)


def open_sources(
    logs: Sequence[str | Path],
    conventions: Conventions,
    *,
    weights: Sequence[float] = (),
    together: bool = False,
    alike: bool = False,
    folder: Path = Path("outputs/caches"),
    mode: str = "time",
    workers: int = 0,
    say: Say = print,
) -> list[Source]:
    """Decode logs once, at the model's size; `together` puts them into one cache.

    `weights` say how often each log is drawn from; without them `alike` draws from all logs together as often as from
    each other, else a cache of several has every frame equally often.
    """
    if not logs:
        raise ValueError("no data: name one or several logs, as in data=datasets/panda")
    if weights and len(weights) != len(logs):
        raise ValueError(f"{len(weights)} weights for {len(logs)} logs: give one for each log, or none")
    if weights and (min(weights) < 0 or sum(weights) <= 0):
        raise ValueError(f"weights {list(weights)}: each must be 0 or more, and one of them more than 0")
    what: dict[str, Any] = {
        "cameras": conventions.cameras, "image_size": conventions.image_size, "crop": conventions.crop,
        "period_s": conventions.period_s, "gripper_action": conventions.gripper_action, "mode": mode,
    }  # fmt: skip
    parts = [list(logs)] if together else [[log] for log in logs]
    found: list[Source] = []
    for number, part in enumerate(parts):
        key = json.dumps([[str(Path(p).expanduser().resolve()) for p in part], what])
        path = folder / f"{Path(part[0]).name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
        opened = [open_log(Path(p).expanduser()) for p in part]
        names = [str(log.path.resolve()) for log in opened]  # as the cache knows them
        cache = build_cache(opened, path, workers=workers, **what)
        say(
            f"data     {', '.join(map(str, part))}: {len(cache.episodes)} episodes, {len(cache)} steps in {path}"
        )
        for finding in cache.skipped[:5]:
            say(f"skipped  {finding}")
        weight = weights[number] if weights and not together else 1.0
        tools = {str(p): _tool_of(log, cache) for p, log in zip(part, opened, strict=True)}
        found.append(Source(cache=cache, weight=weight, first_log=names[0], tools=tools))
        if len(part) > 1 and (weights or alike):
            drawn = list(weights) or [1.0] * len(part)
            found[-1].shares = dict(zip(names, drawn, strict=True))
            shown = ", ".join(f"{p} {w / sum(drawn):.0%}" for p, w in zip(part, drawn, strict=True))
            say(f"drawn    {shown}")
    return found


def _tool_of(log: Log, cache: FrameCache) -> str:
    name = str(log.path.resolve())
    used = next((episode.key for episode in cache.episodes if episode.source == name), None)
    return str((log.open(used).meta.get("tool") if used is not None else None) or "tcp")


def told_of(
    sources: Sequence[Source], conventions: Conventions, *, given: bool, say: Say = print
) -> Conventions:
    """The conventions with the point of the hand whose poses the first log tells."""
    tools = {log: tool for source in sources for log, tool in source.tools.items()}
    tool = next(iter(tools.values()), conventions.tool)
    if len(set(tools.values())) > 1:
        told = ", ".join(f"of the {tool} in {log}" for log, tool in tools.items())
        say(f"warning  poses are {told}: they differ by the hand's length, and are learned as one point's")
    elif given and tool != conventions.tool:
        say(
            f"warning  poses are of the {tool} in these logs; the given model knew those of the {conventions.tool}"
        )
    return replace(conventions, tool=tool)


def clips_for(
    recipe_name: str,
    sources: list[Source],
    *,
    clip_frames: int,
    batch_size: int,
    validation: float,
    seed: int,
    workers: int = 0,
    group: Group,
    latents: list[Latents] | None = None,
) -> Loader:
    """What a recipe trains on: clips with goals for panda, of latents where they were encoded, else of frames."""
    if recipe_name == "panda":
        cache = sources[0].cache
        episodes = cache.split("train", validation=validation)
        return HindsightLoader(
            cache, batch=batch_size, length=clip_frames, seed=seed, rank=group.rank, world=group.size,
            episodes=episodes, weights=sources[0].episode_weights(episodes),
        )  # fmt: skip
    sets: list[Any] = [ClipDataset(s.cache, length=clip_frames, validation=validation) for s in sources]
    if latents is not None:
        sets = [LatentClips(clips, held) for clips, held in zip(sets, latents, strict=True)]
    weighted = [(clips, s.weight) for clips, s in zip(sets, sources, strict=True)]
    return ClipLoader(
        weighted, batch_size=batch_size, seed=seed, rank=group.rank, world=group.size, workers=workers
    )


def learn_world(
    recipe_name: str,
    options: dict[str, Any],
    start: Start,
    sources: list[Source],
    conventions: Conventions,
    *,
    out: Path,
    clip_frames: int,
    batch_size: int,
    validation: float,
    seed: int,
    group: Group,
    workers: int = 0,
    cache_latents: bool = True,
    health: bool = True,
    say: Say = print,
    **loop: Any,
) -> tuple[Any, TrainResult]:
    """Train the world model; returns it (in eval mode, on the CPU) and how the loop ended."""
    recipe = make_recipe(recipe_name, **options)
    torch.manual_seed(seed)
    model = recipe.learner(start.world(conventions))
    frozen = (
        not any(p.requires_grad for p in model.world.encoder.parameters())
        if recipe_name == "vjepa2_ac"
        else False
    )
    encoded = None
    if frozen and cache_latents:
        encoded = [
            encode(model.world, s, out / "latents" / str(i), group.device, say) for i, s in enumerate(sources)
        ]
    loader = clips_for(
        recipe_name, sources, clip_frames=clip_frames, batch_size=batch_size, validation=validation, seed=seed,
        workers=workers, group=group, latents=encoded,
    )  # fmt: skip
    hook = None
    if health and loop.get("parallel") == "fsdp2":
        say("health figures are off under fsdp2: no process holds the whole model")
    elif health and recipe_name not in ("vjepa", "ijepa"):
        pictures = out.parent / "pictures" if group.main else None
        hook = health_hook(sources[0].cache, length=clip_frames, validation=validation, pictures=pictures)
    if start.adapts:
        cache = sources[0].cache
        own = held_out_of(cache, sources[0].first_log, validation=validation)
        hook = scored(hook, cache, own) if hook is not None and own else hook
        if loop.get("resume") is None or state.find(loop["resume"], out) is None:
            begin(model, start.folder, cache, loader, validation=validation, seed=seed, say=say)
    result = train(
        recipe,
        loader,
        out=out,
        conventions=conventions,
        model=model,
        seed=seed,
        on_health=hook,
        say=say,
        **loop,
    )
    if loop.get("parallel") == "fsdp2" and group.size > 1:
        model = recipe.learner(start.world(conventions))
        assert result.checkpoint is not None
        state.load_weights(result.checkpoint, model)
        result.model = model  # whole, not the shards of one process
    elif start.adapts and not result.interrupted and group.main:
        take_best(model, out, say=say)
    world = recipe.result(model) if hasattr(recipe, "result") else model.world
    return world.cpu().eval(), result


def encode(world: Any, source: Source, out: Path, device: torch.device, say: Say) -> Latents:
    precision = "bf16" if device.type == "cuda" else "fp32"
    return encode_once(world, source.cache, out, device=device, precision=precision, say=say)


def finish(
    world: Any,
    start: Start,
    sources: list[Source],
    conventions: Conventions,
    *,
    out: Path,
    heads: Sequence[str],
    head_settings: dict[str, HeadSettings],
    validation: float,
    seed: int,
    card: dict[str, Any],
    device: torch.device,
    play_tasks: Sequence[str] = (),
    given: dict[str, nn.Module] | None = None,
    half: bool = True,
    say: Say = print,
) -> dict[str, Any]:
    """Save the model's folder with its heads, and what planning needs to know of its latents; returns figures."""
    kind, config = start.described(world, conventions)
    path, dtype = out / "model", torch.float16 if half else None
    measures: dict[str, Any] = {}
    normalisation: dict[str, Any] = {}
    parts: list[Latents] = []
    if getattr(world, "predictor", None) is not None:
        episodes = [episode for source in sources for episode in source.cache.episodes]
        unseen = np.array([in_validation(episode.uuid, validation) for episode in episodes], bool)
        parts = [encode(world, s, out / "latents" / f"final-{i}", device, say) for i, s in enumerate(sources)]
        held = joined(parts)
        own = np.array([not start.adapts or e.source == sources[0].first_log for e in episodes], bool)
        judges = held.episodes(np.flatnonzero(unseen & own))
        moments = choose_moments(judges)
        latent_error, position_error = one_step_errors(world, moments)
        scale = scale_from(latent_error.numpy(), position_error.numpy())
        some = torch.randperm(len(held.latents), generator=torch.Generator().manual_seed(seed))[:1000]
        normalisation = {"surprise": asdict(scale), "latent_scale": latent_scale(held.latents[some].float())}
        measures["score"] = score_world(world, judges)
        say(f"held out {measures['score']}")
        if (unseen & ~own).any():
            measures["others"] = score_world(world, held.episodes(np.flatnonzero(unseen & ~own)))
            say(f"others   {measures['others']}")
    save_model(
        path, world, kind=kind, config=config, conventions=conventions, normalisation=normalisation, card=card, dtype=dtype
    )  # fmt: skip
    assert parts or not heads, "heads need a world model with a predictor"
    if heads:
        measures |= train_heads(
            path, heads, sources, parts, out=out, settings=head_settings, validation=validation, seed=seed,
            device=str(device), play_tasks=play_tasks, given=given, half=half, say=say,
        )  # fmt: skip
    return measures
