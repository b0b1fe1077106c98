"""Wire an agent from a model's folder: load, check that arm and model agree, put the six modules together."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from envs.arm import Arm
from planners.protocols import Planner
from planners.seeded import Seeded
from world_model.checkpoint import describe, load_heads, load_model
from world_model.compact import CompactModel, quick_type

from .actor import Actor
from .agent import Agent
from .choices import Mode
from .configurator import Configurator, ConfiguratorSettings
from .cost import CostSettings, GoalCost
from .memory import ShortTermMemory
from .perception import Perception
from .surprise import Surprise, SurpriseScale


def planner_from(choice: dict[str, Any] | None = None) -> Any:
    """The planner that a choice of configs/planner describes; none: the one that every command takes by itself."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    return instantiate(choice or OmegaConf.load(str(files("configs") / "planner" / "rehearse.yaml")))


@dataclass(kw_only=True)
class AgentSettings:
    """How the six modules are set."""

    configurator: ConfiguratorSettings = field(default_factory=ConfiguratorSettings)
    cost: CostSettings = field(default_factory=CostSettings)
    planner: Any = field(default_factory=planner_from)
    stop_on_surprise: bool = True
    """Stop and hold when what is seen is nothing like what was imagined."""
    blind: bool = False
    """Black cameras: what the pose alone gives away."""
    keep_clouds: bool = False
    """Keep every candidate of every plan, for pictures."""
    light: bool = True
    """Imagine with matrices in bfloat16 where the processor multiplies them itself."""


def unwatched(mode: str) -> AgentSettings:
    """An agent whose plans nobody reads and whom nothing stops: Mode 1 alone need not look farther than surprise does."""
    return AgentSettings(
        stop_on_surprise=False,
        configurator=ConfiguratorSettings(mode=Mode(mode)),
        planner=Seeded(horizon=1) if mode == "policy" else planner_from(),
    )


@dataclass(kw_only=True, slots=True)
class Mind:
    """A loaded model with its heads: what agents on any arm share."""

    model: Any
    heads: dict[str, Any]
    normalisation: dict[str, Any]
    path: Path


def load_mind(path: str | Path) -> Mind:
    return Mind(
        model=load_model(path),
        heads=load_heads(path),
        normalisation=describe(path).normalisation,
        path=Path(path),
    )


def build_agent(
    mind: Mind, arm: Arm, settings: AgentSettings | None = None, *, planner: Planner | None = None
) -> Agent:
    """An agent for `arm`; raises when the model takes other things for granted than the arm offers."""
    settings = settings or AgentSettings()
    conventions = mind.model.conventions
    missing = [name for name in conventions.cameras if name not in arm.cameras]
    if missing:
        raise ValueError(
            f"the model wants the camera {missing[0]!r}, the arm has {sorted(arm.cameras)}; "
            f"choose a model trained on these cameras, or name them as the model does: {list(conventions.cameras)}"
        )
    if abs(arm.period_s - conventions.period_s) > 1e-6:
        raise ValueError(
            f"a model step is {conventions.period_s} s for the model and {arm.period_s} s for the arm; "
            f"set env.period_s={conventions.period_s}"
        )
    if isinstance(mind.model, CompactModel) and next(mind.model.parameters()).device.type == "cpu":
        mind.model.think_in(quick_type() if settings.light else torch.float32)
    planner = planner or settings.planner
    stored = mind.normalisation.get("surprise")
    scale = SurpriseScale(**stored) if stored else None
    return Agent(
        arm=arm,
        perception=Perception(mind.model, blind=settings.blind),
        memory=lambda: ShortTermMemory(frames=getattr(mind.model, "context", 3)),
        costs=GoalCost(
            mind.heads.get("critic"),
            settings.cost,
            latent_scale=float(mind.normalisation.get("latent_scale", 2.0)),
            low=arm.limits.low,
            high=arm.limits.high,
        ),
        actor=Actor(mind.model, mind.heads.get("policy"), planner, horizon=getattr(planner, "horizon", 4)),
        configurator=Configurator(settings.configurator),
        surprise=(lambda: Surprise(scale)) if scale is not None else None,
        stop_on_surprise=settings.stop_on_surprise,
        keep_clouds=settings.keep_clouds,
    )
