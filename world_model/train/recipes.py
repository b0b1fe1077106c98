"""Recipes by name, and those that learn world models from clips: V-JEPA 2-AC's, and end-to-end ones.

vjepa2_ac    a predictor on a frozen encoder (or on its latents, encoded once)
lewm         encoder and predictor together, kept from collapsing by SIGReg
vicreg_idm   the same, kept by VICReg's variance and covariance, with inverse dynamics and straightening
vjepa, ijepa masked prediction on video or on single frames   (world_model.train.masked)
panda        the recipe of the shipped model                  (world_model.train.panda)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from data.types import CLOSEDNESS, Conventions, Memory
from world_model.checkpoint import build
from world_model.dense import dense_config
from world_model.features import STEP_M
from world_model.health import given_actions
from world_model.losses import InverseDynamics, prediction_error, sigreg, straightening, vicreg, vjepa2_ac

_HERE, _MASKED = "world_model.train.recipes", "world_model.train.masked"
RECIPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vjepa2_ac": (_HERE, "FrozenEncoder", {}),
    "lewm": (_HERE, "Joint", {"sigreg": 0.1}),
    "vicreg_idm": (_HERE, "Joint", {"variance": 1.0, "covariance": 0.04, "inverse": 1.0, "straight": 0.1}),
    "vjepa": (_MASKED, "Masked", {}),
    "ijepa": (_MASKED, "Masked", {"still": True}),
    "panda": ("world_model.train.panda", "PandaRecipe", {}),
}


def make_recipe(name: str, **options: Any) -> Any:
    """A recipe by name; `options` override its preset."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is not known; there are {', '.join(RECIPES)}")
    module, kind, preset = RECIPES[name]
    recipe = getattr(importlib.import_module(module), kind)
    unknown = sorted(set(options) - set(recipe.__dataclass_fields__))
    if unknown:
        raise ValueError(
            f"recipe {name} has no setting {unknown[0]!r}; it has {', '.join(recipe.__dataclass_fields__)}"
        )
    return recipe(**{**preset, **options})


class Learner(nn.Module):
    """A world model and what only learning needs beside it."""

    def __init__(self, world: Any, **helpers: nn.Module) -> None:
        super().__init__()
        self.world = world
        self.helpers = nn.ModuleDict(helpers)


@dataclass(kw_only=True)
class Sizes:
    """Which world model to build."""

    kind: str = "compact"
    """compact or dense."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its sizes, as its class takes them; for dense ones also in short (`world_model.dense.dense_config`)."""

    def full(self, conventions: Conventions) -> dict[str, Any]:
        """The config that a checkpoint keeps."""
        if self.kind == "dense" and not isinstance(self.config.get("encoder"), Mapping):
            return dense_config(conventions, **self.config)
        return self.config

    def world(self, conventions: Conventions) -> Any:
        return build(self.kind, self.full(conventions), conventions)


@dataclass(kw_only=True)
class FrozenEncoder:
    """V-JEPA 2-AC: predict the next frame's tokens, teacher-forced and over a short roll-out; L1."""

    model: Sizes = field(default_factory=lambda: Sizes(kind="dense"))
    auto_steps: int = 2
    """Steps of the roll-out; its first is the teacher-forced prediction."""
    power: float = 1.0
    rollout_start: str = "fixed"
    """before_june_2025 repeats the mistake that the public checkpoint was trained with."""

    def build(self, conventions: Conventions) -> Learner:
        return self.learner(self.model.world(conventions))

    def learner(self, world: Any) -> Learner:
        if not hasattr(world, "encoder"):
            raise ValueError(
                "this recipe trains a predictor on the tokens of a frozen encoder, and a compact model has none: take a "
                "dense model (model=vit_small), or recipe=panda"
            )
        world.encoder.requires_grad_(False)
        return Learner(world)

    def loss(
        self, model: nn.Module, clip: TensorDict, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        world: Any = model.world
        latents = latents_of(world, clip, frozen=True)
        terms = vjepa2_ac(
            world.predictor, latents, clip["actions"], clip["poses"], auto_steps=self.auto_steps, power=self.power,
            normalise=world.normalise, rollout_start=self.rollout_start,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        with torch.no_grad():
            copied = prediction_error(latents[:, :-1], latents[:, 1:], power=self.power)
        shown = {name: terms[name] for name in ("teacher_forced", "rollout")}
        return terms["loss"], numbers({**shown, "copy_ratio": terms["teacher_forced"] / copied})


@dataclass(kw_only=True)
class Joint:
    """Encoder and predictor together, with any mixture of the terms that keep the latent alive and useful."""

    model: Sizes = field(default_factory=Sizes)
    rollout: float = 1.0
    """Weight of the error over a roll-out."""
    rollout_from: int = 2
    """Real frames that a roll-out begins with."""
    pose: float = 1.0
    """Weight of the pose's error, for models that predict it."""
    inverse: float = 0.5
    """Weight of inverse dynamics, on encoded and on predicted pairs."""
    sigreg: float = 0.0
    """Weight of SIGReg, each time step alone."""
    directions: int = 256
    variance: float = 0.0
    covariance: float = 0.0
    straight: float = 0.0
    """Weight of straightening."""
    sketched_tokens: int = 8
    """Tokens of a frame, drawn anew each step, that SIGReg and VICReg look at (models with fewer: all)."""

    def build(self, conventions: Conventions) -> Learner:
        return self.learner(self.model.world(conventions))

    def learner(self, world: Any) -> Learner:
        tokens, dim = latent_shape(world)
        return Learner(
            world, inverse=InverseDynamics(tokens=tokens, dim=dim, squeeze=16 if tokens > 8 else None)
        )

    def loss(
        self, model: nn.Module, clip: TensorDict, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(model, Learner)
        world, poses, actions = model.world, clip["poses"], clip["actions"]
        z = latents_of(world, clip)  # [B, T, N, D]
        told = given_actions(world, actions, poses)
        after, felt = _forced(world, z, poses, told, actions)
        terms = {"one_step": prediction_error(after, z[:, 1:])}
        if self.rollout:
            c = self.rollout_from
            memory = Memory(latents=z[:, :c], poses=poses[:, :c], actions=actions[:, : c - 1])
            future = world.imagine(memory, told[:, None, c - 1 :])
            terms["rollout"] = self.rollout * prediction_error(future.latents[:, 0], z[:, c:])
        if felt is not None and self.pose:
            terms["pose"] = self.pose * pose_error(felt, poses[:, 1:])
        if self.inverse:
            inverse: Any = model.helpers["inverse"]
            terms["inverse"] = self.inverse * inverse.loss(z, actions, after)
        some = _some_tokens(z, self.sketched_tokens, generator)
        if self.sigreg:
            terms["sigreg"] = self.sigreg * sigreg(some, step=step, directions=self.directions, per_step=True)
        if self.variance or self.covariance:
            terms["vicreg"] = vicreg(
                some, variance_weight=self.variance, covariance_weight=self.covariance, per_step=True
            )
        if self.straight:
            terms["straight"] = self.straight * straightening(z)
        with torch.no_grad():
            ratio = terms["one_step"] / prediction_error(z[:, :-1], z[:, 1:])
        return torch.stack(list(terms.values())).sum(), numbers({**terms, "copy_ratio": ratio})


def latents_of(world: Any, clip: TensorDict, *, frozen: bool = False) -> Tensor:
    """The clip's latents [B, T, N, D]: those it brings, or its frames encoded."""
    if "latents" in clip.keys():  # noqa: SIM118 (a tensordict iterates over its batch)
        return clip["latents"].float()
    frames = clip["frames"]
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        return world.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


def latent_shape(world: Any) -> tuple[int, int]:
    """Tokens and channels of a frame's latent."""
    if hasattr(world, "dim"):
        return 1, world.dim
    return world.predictor.tokens, world.predictor.config.latent_dim


def pose_error(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean square of the position's error in usual steps and of the closedness' in halves."""
    gap = guess - truth
    return torch.cat([gap[..., :3] / STEP_M, 2 * gap[..., CLOSEDNESS:]], -1).square().mean()


def numbers(figures: dict[str, Tensor]) -> dict[str, Tensor]:
    """Figures for the journal; left on the device, so that nothing waits for them inside a compiled step."""
    return {name: value.detach() for name, value in figures.items()}


def _forced(
    world: Any, z: Tensor, poses: Tensor, told: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Each next latent from the true ones, and the next pose where the model predicts it."""
    if getattr(world, "absolute_gripper", False):
        return world.predict(z[:, :-1], poses[:, :-1], told)
    return world.predict(z[:, :-1], actions, poses[:, :-1]), None


def _some_tokens(z: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if z.shape[2] <= count:
        return z
    return z[:, :, torch.randperm(z.shape[2], generator=generator, device=z.device)[:count]]
