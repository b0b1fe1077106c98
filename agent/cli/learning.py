"""What `forearm train` and `forearm pretrain` share: their choices, and the stages from logs to a model's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.choices import Crop, Fall, GripperAction, ModelKind, Parallel, Precision, Recipe
from agent.cli.runs import Run, hardware, plain

if TYPE_CHECKING:
    from world_model.train.heads import HeadSettings
    from world_model.train.score import ActionScore


@dataclass(kw_only=True)
class ViewConfig:
    """What the model sees and how long its step is; a model given by from= brings its own."""

    cameras: tuple[str, ...] = ("exterior_left", "wrist")
    """Cameras of the log, in this order."""
    image_size: int = 128
    """Side of a frame in pixels, after the crop."""
    crop: Crop = Crop.square
    """square, droid_train or none."""
    period_s: float = 0.2
    """One model step."""
    gripper_action: GripperAction = GripperAction.commanded
    """commanded or measured (docs/adr/0002)."""


@dataclass(kw_only=True)
class ModelConfig:
    """Which world model."""

    kind: ModelKind = ModelKind.compact
    """compact or dense."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its sizes."""
    weights: str = ""
    """An official V-JEPA 2 or 2.1 file to take the encoder (and predictor) from."""


@dataclass(kw_only=True)
class RecipeConfig:
    """How it learns."""

    name: Recipe = Recipe.panda
    """vjepa2_ac, lewm, vicreg_idm, vjepa, ijepa or panda."""
    options: dict[str, Any] = field(default_factory=dict)
    """The recipe's own settings, as weights of terms."""
    clip_frames: int = 6
    """Frames in a clip."""
    batch_size: int = 48
    """Clips in a step of one process."""
    steps: int = 4000
    """Optimiser steps."""
    learning_rate: float = 5e-4
    """Greatest learning rate."""
    start_rate: float = 0.0
    """Rate that the warm-up begins at."""
    warmup_steps: int = 100
    """Steps of the warm-up."""
    cooldown_fraction: float = 1.0
    """Share of the steps over which the rate falls."""
    shape: Fall = Fall.cosine
    """How it falls: cosine or linear."""
    weight_decay: float = 0.01
    """Of matrices and kernels; biases and norms have none."""
    clip_norm: float = 1.0
    """Greatest norm of the gradient."""
    post_steps: int = 800
    """Optimiser steps where from= gives a model that predicts from actions."""
    post_rate: float = 0.2
    """Share of the learning rate that such a model is trained with."""


@dataclass(kw_only=True)
class LearningConfig:
    """What both commands have."""

    data: list[str] = field(default_factory=list)
    """Logs to learn from, in any format that `forearm inspect` opens."""
    weights: list[float] = field(default_factory=list)
    """How often each log is drawn from; none: alike (recipe=panda from nothing: every frame alike)."""
    from_: str = ""
    """A model to go on from: forearm-panda, or a model's folder."""
    view: ViewConfig = field(default_factory=ViewConfig)
    """What the model sees."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Which model."""
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    """How it learns."""
    validation: float = 0.1
    """Share of the episodes held out, chosen by their names."""
    seed: int = 0
    """Of everything random."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Precision = Precision.auto
    """auto, bf16 or fp32; auto is bf16 where the machine computes in it."""
    distributed: Parallel = Parallel.auto
    """none, ddp or fsdp2; auto is ddp where torchrun started several processes."""
    compile: bool = False
    """Compile the step with torch.compile (pays for long runs on a GPU)."""
    save_memory: bool = False
    """Recompute activations in the backward pass instead of keeping them."""
    workers: int = 0
    """Processes that decode logs."""
    save_every_steps: int = 250
    """Steps between checkpoints; the last two and the best are kept."""
    health_every_steps: int = 250
    """Steps between measurements of the representation; 0: never."""
    caches: Path = Path("outputs/caches")
    """Where decoded logs are kept between runs."""
    half: bool = True
    """Store the model at half precision."""
    play_tasks: list[str] = field(default_factory=lambda: ["near_play", "free_play", "drill"])
    """Episodes of these tasks teach the world model and the critic; to the policy they are no example."""


def learn(
    config: LearningConfig,
    run: Run,
    *,
    heads: list[str],
    head_steps: dict[str, int],
    critic: str = "counts",
) -> int:
    """All stages; a resumed run does what is left of them."""
    from agent.adapting import heads_of
    from agent.learn import Start, finish, learn_world, open_sources, told_of
    from data.types import Conventions
    from world_model.train.distributed import join
    from world_model.train.heads import DEFAULTS, adapted
    from world_model.train.memory import keep_freed_memory
    from world_model.train.recipes import Sizes

    _known_heads([*heads, *head_steps])
    keep_freed_memory()
    group = join(config.device)
    say = run.say if group.main else (lambda _: None)
    recipe = config.recipe
    precision, why = choose_precision(config.precision, group.device.type)
    say(f"device   {group.device}, {precision} ({why}), {group.size} process{'es' if group.size > 1 else ''}")
    start = Start(
        folder=config.from_,
        weights=config.model.weights,
        sizes=Sizes(kind=str(config.model.kind), config=config.model.config),
    )
    view: dict[str, Any] = plain(asdict(config.view)) | {"cameras": tuple(config.view.cameras)}
    conventions = start.conventions(Conventions(**view))
    steps = recipe.post_steps if start.adapts else recipe.steps
    if steps < 1:
        name = "recipe.post_steps" if start.adapts else "recipe.steps"
        raise ValueError(f"{name} is {steps}: nothing would learn; only_heads=true trains heads alone")
    sources = open_sources(
        config.data, conventions, weights=config.weights, together=recipe.name == "panda",
        alike=bool(config.from_), folder=config.caches, workers=config.workers, say=say,
    )  # fmt: skip
    conventions = told_of(sources, conventions, given=bool(config.from_), say=say)
    usual = Parallel.ddp if group.size > 1 else Parallel.none
    parallel = str(usual if config.distributed is Parallel.auto else config.distributed)
    world, result = learn_world(
        str(recipe.name), recipe.options, start, sources, conventions,
        out=run.dir / "world", clip_frames=recipe.clip_frames, batch_size=recipe.batch_size, steps=steps,
        learning_rate=recipe.learning_rate * (recipe.post_rate if start.adapts else 1.0), start_rate=recipe.start_rate,
        warmup_steps=min(recipe.warmup_steps, steps // 2), cooldown_fraction=recipe.cooldown_fraction, shape=str(recipe.shape),
        weight_decay=recipe.weight_decay, clip_norm=recipe.clip_norm, validation=config.validation, seed=config.seed,
        group=group, workers=config.workers, health=config.health_every_steps > 0,
        health_every_steps=max(config.health_every_steps, 1), save_every_steps=config.save_every_steps,
        precision=precision, device=str(group.device), parallel=parallel, compile=config.compile,
        save_memory=config.save_memory, resume="last" if run.resumed else None, say=say,
    )  # fmt: skip
    group.part()  # score, heads and the model's folder are the work of one process
    if result.interrupted:
        return 130
    if not group.main:
        return 0
    run.results |= {"steps": result.step, "loss": result.loss, "seconds_training": result.seconds}
    before = _before(config, sources, run) if config.from_ and recipe.name == "panda" else None
    card = {
        "data": [{"log": str(p), "episodes": len(s.cache.episodes), "steps": len(s.cache)} for p, s in zip(config.data, sources)],
        "from": config.from_, "recipe": plain(asdict(recipe)), "view": asdict(conventions), "seed": config.seed,
        "steps": result.step, "loss": result.loss, "seconds": round(result.seconds), "hardware": hardware(),
    }  # fmt: skip
    usual = {name: adapted(name) if start.adapts else DEFAULTS[name] for name in heads}
    settings = _head_settings(usual, head_steps, critic)
    figures = finish(
        world, start, sources, conventions, out=run.dir, heads=heads, head_settings=settings,
        validation=config.validation, seed=config.seed, card=card, device=group.device, play_tasks=config.play_tasks,
        given=heads_of(result.model) if start.adapts else None, half=config.half, say=say,
    )  # fmt: skip
    folder = run.dir / "model"
    score, others = figures.pop("score", None), figures.pop("others", None)
    run.results |= {"model": str(folder), "heads": figures, **({"score": score.figures} if score else {})}
    if others is not None:
        run.results["score_of_other_logs"] = others.figures
    if before is not None and score is not None:
        run.results["score_before"] = before.figures
        better = "better" if score.error_m < before.error_m else "NOT better"
        say(
            f"score    {before.score:.1f} before, {score.score:.1f} after: {better} than {config.from_} on these logs"
        )
    megabytes = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
    say(f"model    {folder} ({megabytes:.1f} MB)   use it: forearm plan model={folder}")
    return 0


def learn_heads(
    config: LearningConfig, run: Run, heads: list[str], head_steps: dict[str, int], critic: str
) -> int:
    """Heads for a finished model, in a copy of its folder."""
    from agent.learn import open_sources
    from agent.learn_heads import add_heads
    from world_model.checkpoint import describe
    from world_model.train.distributed import by_itself
    from world_model.train.heads import DEFAULTS

    if not config.from_:
        raise ValueError("only_heads=true adds heads to a finished model: name it, as in from=forearm-panda")
    _known_heads([*heads, *head_steps])
    if not run.first:
        return 0  # heads are the work of one process
    device = str(by_itself(config.device).device)
    precision, why = choose_precision(config.precision, device.split(":")[0])
    run.say(f"device   {device}, {precision} ({why})")
    conventions = describe(config.from_).conventions
    sources = open_sources(
        config.data,
        conventions,
        weights=config.weights,
        folder=config.caches,
        workers=config.workers,
        say=run.say,
    )
    settings = _head_settings({name: DEFAULTS[name] for name in heads}, head_steps, critic)
    run.results["heads"] = add_heads(
        config.from_, heads, sources, out=run.dir, settings=settings, validation=config.validation, seed=config.seed,
        device=device, precision=precision, play_tasks=config.play_tasks, half=config.half, say=run.say,
    )  # fmt: skip
    folder = run.dir / "model"
    run.results["model"] = str(folder)
    for name in heads:
        size = (folder / f"{name}.safetensors").stat().st_size
        run.say(f"{name:8} {folder / name}.safetensors ({size / 1e6:.1f} MB)")
    run.say(f"model    {folder}   use it: forearm plan model={folder}")
    return 0


def _known_heads(names: list[str]) -> None:
    from world_model.train.heads import DEFAULTS

    if unknown := sorted(set(names) - set(DEFAULTS)):
        raise ValueError(f"head {unknown[0]!r} is not known; there are {', '.join(DEFAULTS)}")


def _head_settings(
    usual: dict[str, HeadSettings], steps: dict[str, int], critic: str
) -> dict[str, HeadSettings]:
    """The usual settings with what was asked for in their place."""
    found = {name: replace(chosen, steps=steps.get(name, chosen.steps)) for name, chosen in usual.items()}
    if "critic" in found and critic != "counts":
        found["critic"] = replace(found["critic"], config={**found["critic"].config, "form": critic})
    return found


def _before(config: LearningConfig, sources: list[Any], run: Run) -> ActionScore:
    """The given model's offline score on the same held-out episodes."""
    from agent.scoring import score_folder

    source = sources[0]
    score = score_folder(config.from_, source.cache, log=source.first_log, validation=config.validation)
    run.say(f"before   {score}")
    return score


def choose_precision(asked: str, device: str) -> tuple[str, str]:
    """bf16 or fp32, and why."""
    import torch

    if asked != "auto":
        return str(asked), "as asked"
    if device == "cuda":
        return "bf16", "a GPU computes in it"
    able = "avx512_bf16" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else False
    if able and torch.backends.mkldnn.is_available():
        return "bf16", "this CPU has avx512_bf16"
    return "fp32", "this CPU does not compute in bf16"
