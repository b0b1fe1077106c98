"""From logs to a model's folder: caches, clips, the world model, its heads, a score; each stage goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent.learn_health import health_hook
from agent.surprise import scale_from
from data.cache import FrameCache, build_cache
from data.clips import ClipDataset, ClipLoader
from data.hindsight import HindsightLoader
from data.index import in_validation
from data.types import Conventions, Memory
from planners.actions import ActionSpace, GripperRule
from planners.cem import CEM
from planners.costs.goal import GoalDistance, latent_scale
from planners.costs.total import Term, TotalCost
from world_model.checkpoint import describe, load_heads, load_model, save_head, save_model
from world_model.dense import DenseModel
from world_model.meta import load_vjepa2
from world_model.predictors.tokens import TokenPredictor
from world_model.train import state
from world_model.train.distributed import Group
from world_model.train.heads import HeadSettings, train_head
from world_model.train.latents import LatentClips, Latents, encode_once, joined
from world_model.train.loop import TrainResult, train
from world_model.train.parts import Loader
from world_model.train.recipes import Sizes, make_recipe
from world_model.train.score import ActionScore, action_score, choose_moments, one_step_errors

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Source:
    """One log, decoded."""

    cache: FrameCache
    weight: float = 1.0


@dataclass(kw_only=True)
class Start:
    """Where the world model comes from: a model's folder, an official file, or nothing."""

    folder: str = ""
    weights: str = ""
    sizes: Sizes = field(default_factory=Sizes)

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
        if not hasattr(world, "encoder") or isinstance(world.predictor, TokenPredictor):
            return world
        # A pretrained encoder: the action-conditioned predictor is new.
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
    folder: Path = Path("outputs/caches"),
    mode: str = "time",
    workers: int = 0,
    say: Say = print,
) -> list[Source]:
    """Decode logs once, at the model's size; `together` puts them into one cache."""
    if not logs:
        raise ValueError("no data: name one or several logs, as in data=datasets/panda")
    if weights and (together or len(weights) != len(logs)):
        raise ValueError(
            f"{len(weights)} weights for {len(logs)} logs"
            + (", and this recipe draws from all episodes alike: leave weights out" if together else "")
        )
    what: dict[str, Any] = {
        "cameras": conventions.cameras, "image_size": conventions.image_size, "crop": conventions.crop,
        "period_s": conventions.period_s, "gripper_action": conventions.gripper_action, "mode": mode,
    }  # fmt: skip
    parts = [list(logs)] if together else [[log] for log in logs]
    found: list[Source] = []
    for number, part in enumerate(parts):
        key = json.dumps([[str(Path(p).expanduser().resolve()) for p in part], what])
        path = folder / f"{Path(part[0]).name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
        cache = build_cache([Path(p).expanduser() for p in part], path, workers=workers, **what)
        say(
            f"data     {', '.join(map(str, part))}: {len(cache.episodes)} episodes, {len(cache)} steps in {path}"
        )
        for finding in cache.skipped[:5]:
            say(f"skipped  {finding}")
        found.append(Source(cache=cache, weight=weights[number] if weights else 1.0))
    return found


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
        return HindsightLoader(
            cache, batch=batch_size, length=clip_frames, seed=seed, rank=group.rank, world=group.size,
            episodes=cache.split("train", validation=validation),
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
            encode(model.world, s, out / "latents" / str(i), group, say) for i, s in enumerate(sources)
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
    world = recipe.result(model) if hasattr(recipe, "result") else model.world
    return world.cpu().eval(), result


def encode(world: Any, source: Source, out: Path, group: Group, say: Say) -> Latents:
    """Latents of a source, encoded by the first process while the others wait."""
    settings: dict[str, Any] = {
        "device": group.device,
        "precision": "bf16" if group.device.type == "cuda" else "fp32",
    }
    if group.main:
        encode_once(world, source.cache, out, say=say, **settings)
    group.barrier()
    return encode_once(world, source.cache, out, say=lambda _: None, **settings)


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
    group: Group,
    play_tasks: Sequence[str] = (),
    keep_heads: bool = False,
    half: bool = True,
    say: Say = print,
) -> dict[str, Any]:
    """Save the model's folder with its heads, and what planning needs to know of its latents; returns figures.

    Episodes of `play_tasks` are no example to a policy.  `keep_heads`: the world model is as it was, so that the
    heads not trained anew are good still.
    """
    kind, config = start.described(world, conventions)
    path, dtype = out / "model", torch.float16 if half else None
    measures: dict[str, Any] = {}
    normalisation: dict[str, Any] = {}
    held: Latents | None = None
    parts: list[Latents] = []
    episodes = [episode for source in sources for episode in source.cache.episodes]
    unseen = np.array([in_validation(episode.uuid, validation) for episode in episodes], bool)
    if getattr(world, "predictor", None) is not None:
        parts = [encode(world, s, out / "latents" / f"final-{i}", group, say) for i, s in enumerate(sources)]
        held = joined(parts)
        judges = held.episodes(np.flatnonzero(unseen))
        moments = choose_moments(judges)
        latent_error, position_error = one_step_errors(world, moments)
        scale = scale_from(latent_error.numpy(), position_error.numpy())
        some = torch.randperm(len(held.latents), generator=torch.Generator().manual_seed(seed))[:1000]
        normalisation = {"surprise": asdict(scale), "latent_scale": latent_scale(held.latents[some].float())}
        measures["score"] = score_world(world, judges)
        say(f"held out {measures['score']}")
    save_model(
        path, world, kind=kind, config=config, conventions=conventions, normalisation=normalisation, card=card, dtype=dtype
    )  # fmt: skip
    if keep_heads:
        for name, head in load_heads(start.folder).items():
            save_head(path, name, head, config=describe(start.folder).heads[name], dtype=dtype)
    for name in heads:
        assert held is not None, "heads need a world model with a predictor"
        shown = parts[0] if name == "decoder" else held  # pictures of one log are enough
        teaches = np.array([name != "policy" or episode.task not in play_tasks for episode in episodes])
        if not teaches.any():
            raise ValueError(
                f"every episode is of one of the tasks {', '.join(play_tasks)}: none teaches a policy"
            )
        teaches = teaches[: len(shown.rows)]
        head, sizes, measured = train_head(
            name, shown.episodes(np.flatnonzero(teaches & ~unseen[: len(teaches)])), out=out / "heads" / name,
            validation=shown.episodes(np.flatnonzero(teaches & unseen[: len(teaches)])),
            settings=head_settings.get(name), seed=seed, resume="last", device=str(group.device), say=say,
        )  # fmt: skip
        save_head(path, name, head, config=sizes, dtype=dtype)
        measures[name] = measured
        say(f"{name:8} " + "  ".join(f"{k} {v:.4g}" for k, v in measured.items()))
    return measures


def score_world(
    world: Any, judges: Latents, *, horizon: int = 3, count: int = 96, seed: int = 0
) -> ActionScore:
    """The offline score by cross-entropy search on the latent distance."""
    told = bool(getattr(world, "absolute_gripper", False))
    space = ActionSpace() if told else ActionSpace(
        low=(-0.06, -0.06, -0.06, -0.3, -0.3, -0.3, -1.0), gripper=GripperRule.DELTA
    )  # fmt: skip
    light = judges.latents.shape[1] > 1 and next(world.parameters()).device.type == "cpu"
    candidates, iterations, count = (32, 3, min(count, 16)) if light else (128, 5, count)
    planner = CEM(
        space=space, horizon=horizon, candidates=candidates, iterations=iterations, elites=candidates // 8
    )

    @torch.no_grad()
    def plan(memory: Memory, goal: Tensor) -> Tensor:
        return planner.plan(
            memory, world, TotalCost([Term(name="goal", cost=GoalDistance(goal=goal))]), seed=seed
        ).actions

    moments = choose_moments(judges, horizon=horizon, count=count)
    return action_score(moments, plan, told_absolute=told)


def score_folder(
    path: str | Path, source: Source, *, validation: float, out: Path, say: Say = print
) -> ActionScore:
    """The offline score of a model's folder on a log's held-out episodes."""
    world = load_model(path)
    held = encode(world, source, out, Group(), say)
    return score_world(world, held.episodes(source.cache.split("validation", validation=validation)))
