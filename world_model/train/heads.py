"""Small heads on frozen latents, in minutes: policy, critic, body, ensemble, decoder.

Goals are hindsight: a later frame of the same episode, anywhere up to its end (short ones alone teach the arm, not
the object) or, with a chance of `near_share`, within `near_steps`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from data.types import CLOSEDNESS, Conventions
from world_model.checkpoint import HEADS, make_head
from world_model.compact import absolute
from world_model.heads.decoder import picture_figures
from world_model.train import state
from world_model.train.distributed import by_itself
from world_model.train.latents import Latents
from world_model.train.loop import train


@dataclass(kw_only=True)
class HeadSettings:
    """How one head is trained."""

    steps: int = 4000
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    near_share: float = 0.3
    near_steps: int = 8
    config: dict[str, Any] = field(default_factory=dict)
    """Sizes, as the head's class takes them."""


DEFAULTS = {
    "policy": HeadSettings(steps=6000, config={"places": True}),
    "critic": HeadSettings(steps=2500),
    "body": HeadSettings(steps=2000),
    "ensemble": HeadSettings(steps=3000, near_share=0.0),
    "decoder": HeadSettings(steps=1500, batch=32, learning_rate=2e-3, near_share=0.0),
}
# An imagined latent is never quite one that was seen, nor two pictures of one state the same.
LATENT_NOISE = 0.1
HERE_EVERY = 16  # one goal in so many is here already


def adapted(name: str) -> HeadSettings:
    """How a head that a given model brings goes on with the few episodes of another lab."""
    usual = DEFAULTS[name]
    return replace(usual, steps=usual.steps // 2, learning_rate=0.3 * usual.learning_rate)


class Pairs:
    """Batches of a frame, what was done there, what followed, and a later frame as the goal."""

    def __init__(
        self,
        held: Latents,
        *,
        batch: int,
        near_share: float = 0.3,
        near_steps: int = 8,
        seed: int = 0,
        frames: bool = False,
    ) -> None:
        usable = held.rows >= 2
        if not usable.any():
            raise ValueError(
                f"none of {len(held.rows)} episodes has two rows: there is nothing to learn a head from"
            )
        self.held, self.batch, self.seed, self.frames = held, batch, seed, frames
        self.near_share, self.near_steps = near_share, near_steps
        first, rows = held.first[usable], held.rows[usable]
        # Every row but an episode's last, where nothing was done any more, and how many rows are left after it.
        self.starts = np.concatenate([np.arange(f, f + n - 1) for f, n in zip(first, rows)])
        self.left = np.concatenate([np.arange(n - 1, 0, -1) for n in rows])
        self.begins = np.concatenate([np.arange(n - 1) == 0 for n in rows])  # nothing was told before
        odds = None if held.weights is None else np.repeat(held.weights[usable], rows - 1).cumsum()
        self.odds = None if odds is None else odds / odds[-1]
        self.step = 0

    def __iter__(self) -> Iterator[TensorDict]:
        while True:
            drawn = self.draw(self.step)
            self.step += 1
            yield drawn

    def draw(self, number: int) -> TensorDict:
        """The batch of a number."""
        rng = np.random.default_rng([self.seed, number])
        if self.odds is None:
            pick = rng.integers(len(self.starts), size=self.batch)
        else:
            pick = np.searchsorted(self.odds, rng.uniform(size=self.batch), side="right")
        left = self.left[pick]
        reach = np.where(
            rng.uniform(size=self.batch) < self.near_share, np.minimum(left, self.near_steps), left
        )
        steps = rng.integers(1, reach + 1)
        rows = torch.from_numpy(self.starts[pick])
        goals, held = rows + torch.from_numpy(steps), self.held
        poses = held.poses[rows]
        before = (rows - 1).clamp(min=0)
        told, told_before = (absolute(held.actions[r], held.poses[r]) for r in (rows, before))
        begins = torch.from_numpy(self.begins[pick])[:, None]
        batch = {
            "z": held.latents[rows].float(),
            "goals": held.latents[goals].float(),
            "after": held.latents[rows + 1].float(),
            "poses": poses,
            "told": told,
            "kept": torch.where(begins, told, told_before)[:, CLOSEDNESS],
            "steps": torch.from_numpy(steps),
        }
        if self.frames:
            assert held.frames is not None, "these latents came without frames"
            batch["frames"], batch["others"] = held.frames[rows], held.frames[goals]
        return TensorDict(batch, [self.batch])

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.seed = state["step"], state["seed"]


@dataclass(kw_only=True)
class HeadRecipe:
    """Any head as a recipe of the one training loop."""

    kind: str
    config: dict[str, Any]

    def build(self, conventions: Conventions) -> nn.Module:
        return make_head(self.kind, self.config)

    def loss(
        self, model: nn.Module, clip: TensorDict, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        head: Any = model
        z, poses, told = clip["z"], clip["poses"], clip["told"]
        here = torch.arange(len(z), device=z.device) % HERE_EVERY == 0
        if self.kind == "policy":
            # Where nothing is left to do the hand stays, and the fingers as they were told.
            noise = LATENT_NOISE * torch.randn(z.shape, generator=generator, device=z.device)
            stay = torch.zeros_like(told)
            stay[:, CLOSEDNESS] = clip["kept"]
            goals = torch.where(here[:, None, None], z + noise, clip["goals"])
            loss = head.loss(z, goals, poses, torch.where(here[:, None], stay, told))
        elif self.kind == "critic":
            goals = torch.where(here[:, None, None], z, clip["goals"])
            loss = head.loss(z, goals, poses, clip["steps"].masked_fill(here, 0))
        elif self.kind == "body":
            loss = head.loss(z, poses)
        elif self.kind == "ensemble":
            shape = (len(head.members), len(z))
            own = torch.rand(shape, generator=generator, device=z.device) < 0.7
            loss = head.loss(z, poses, told, clip["after"], own)
        else:
            noise = LATENT_NOISE * torch.randn(z.shape, generator=generator, device=z.device)
            loss = head.loss(z + noise, clip["frames"], clip["others"])
        return loss, {}


@torch.no_grad()
def measure_head(kind: str, head: Any, clip: TensorDict) -> dict[str, float]:
    """What a head is worth on held-out rows, in units that a person knows; `score` is lower for better."""
    z, poses, told = clip["z"], clip["poses"], clip["told"]
    if kind == "policy":
        done = head.act(z, clip["goals"], poses)
        error = (done[:, :3] - told[:, :3]).norm(dim=-1).mean().item()
        still = told[:, :3].norm(dim=-1).mean().item()
        right = ((done[:, CLOSEDNESS] > 0.5) == (told[:, CLOSEDNESS] > 0.5)).float().mean().item()
        score = head.loss(z, clip["goals"], poses, told).item()
        return {
            "move_error_mm": 1e3 * error,
            "of_standing_still_mm": 1e3 * still,
            "gripper_right": right,
            "score": score,
        }
    if kind == "critic":
        steps = clip["steps"].clamp(max=head.horizon)
        error = (head.steps_to_go(z, clip["goals"], poses) - steps).abs().mean().item()
        guessing = (steps - steps.float().median()).abs().mean().item()
        return {"error_steps": error, "of_guessing_steps": guessing, "score": error}
    if kind == "body":
        place, closed = head(z)
        error = (place - poses[:, :3]).norm(dim=-1)
        gap = (closed - poses[:, CLOSEDNESS]).abs().mean().item()
        return {
            "place_mm": 1e3 * error.median().item(),
            "place_p95_mm": 1e3 * error.quantile(0.95).item(),
            "closedness": gap,
            "score": error.mean().item(),
        }
    if kind == "ensemble":
        change = (clip["after"] - z).flatten(-2)
        ratio = (head(z, poses, told).mean(0) - change).square().mean() / change.square().mean()
        told_wrong = told.roll(1, 0)
        doubt = head.disagreement(z, poses, told_wrong).mean() / head.disagreement(z, poses, told).mean()
        return {"copy_ratio": ratio.item(), "doubt_of_wrong_actions": doubt.item(), "score": ratio.item()}
    found = picture_figures(head, z, clip["frames"], clip["others"])
    return {**found, "score": found["error"] + found["error_moving"]}


def train_head(
    kind: str,
    held: Latents,
    *,
    out: Path,
    validation: Latents | None = None,
    settings: HeadSettings | None = None,
    seed: int = 0,
    resume: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    given: nn.Module | None = None,
    say: Callable[[str], None] = print,
) -> tuple[nn.Module, dict[str, Any], dict[str, float]]:
    """Train one head: the head in eval mode, the config that builds it, and its figures on held-out episodes.

    A `given` head of the same sizes is trained further, and of all that it was on the way, as it was given included,
    the one that does best on held-out episodes is taken: with few episodes that comes early.  Else it begins afresh.
    """
    if kind not in HEADS:
        raise ValueError(f"head {kind!r} is not known; there are {', '.join(HEADS)}")
    chosen = settings or DEFAULTS[kind]
    tokens, dim = held.latents.shape[1:]
    sizes: dict[str, Any] = {"tokens": tokens, "dim": dim}
    if kind == "decoder":
        assert held.frames is not None, "a decoder needs the frames beside the latents"
        sizes |= {"views": held.frames.shape[1], "size": min(64, held.frames.shape[2])}
    config = {**sizes, **chosen.config}
    draws = {"near_share": chosen.near_share, "near_steps": chosen.near_steps, "frames": kind == "decoder"}
    loader = Pairs(held, batch=chosen.batch, seed=seed, **draws)
    judge = Pairs(validation, batch=256, seed=seed + 1, **draws).draw(0) if validation is not None else None
    figures: dict[str, float] = {}
    if given is not None and _shapes(given) != _shapes(make_head(kind, config)):
        say(f"{kind:8} the given one is of other sizes: a new one is trained")
        given = None
    before = copy.deepcopy(given.state_dict()) if given is not None and judge is not None else None
    every = 500 if before is None else max(25, chosen.steps // 20)

    def health(model: nn.Module, step: int) -> tuple[dict[str, float], list[str]]:
        assert judge is not None
        figures.update(measure_head(kind, model, judge.to(next(model.parameters()).device)))
        return dict(figures), []

    at_first = float("inf")
    if given is not None and before is not None:
        health(given.eval(), 0)
        at_first = figures["score"]
    result = train(
        HeadRecipe(kind=kind, config=config), loader, out=out, steps=chosen.steps, learning_rate=chosen.learning_rate, model=given,
        warmup_steps=min(100, chosen.steps // 10), weight_decay=chosen.weight_decay, save_every_steps=every, seed=seed,
        resume=resume, group=by_itself(device), precision=precision, health_every_steps=every, on_health=health if judge is not None else None, say=say,
    )  # fmt: skip
    head = result.model.eval()
    if before is not None:
        best = state.follow(out, "best")
        if best is not None and (state.read_progress(best).best or 0.0) < at_first:
            state.load_weights(best, head)
            say(f"{kind:8} {best.name} does best on held-out episodes")
        else:
            head.load_state_dict(before)
            say(f"{kind:8} as given does best on held-out episodes")
        with torch.no_grad():
            health(head, result.step)
    if judge is not None and not figures:  # it was finished before
        health(head, result.step)
    return head, config, figures


def _shapes(head: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in head.state_dict().items()}
