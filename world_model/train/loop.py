"""The one training loop: every recipe, one process or many, and never a lost step.

Each step draws its randomness from (seed, step), so that a run which was killed and resumed is the run that
was not: weights, optimiser, place in the data and metrics agree bit for bit on CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from data.types import Conventions
from world_model.train import state
from world_model.train.distributed import Group, checkpoint_activations, join, spread
from world_model.train.guard import interrupts, keep_broken, reading, writing
from world_model.train.journal import Journal
from world_model.train.parts import (
    Health,
    Loader,
    Program,
    Recipe,
    endless,
    parameter_groups,
    seed_everything,
)
from world_model.train.schedule import Schedule


@dataclass(kw_only=True)
class TrainResult:
    model: nn.Module
    step: int
    loss: float  # mean of the last 50 steps, or fewer
    checkpoint: Path | None
    interrupted: bool = False
    seconds: float = 0.0


def train(
    recipe: Recipe,
    loader: Loader,
    *,
    out: Path,
    steps: int,
    learning_rate: float,
    conventions: Conventions | None = None,
    model: nn.Module | None = None,
    warmup_steps: int = 0,
    cooldown_fraction: float = 1.0,
    shape: str = "cosine",
    start_rate: float = 0.0,
    weight_decay: float = 0.04,
    betas: tuple[float, float] = (0.9, 0.999),
    clip_norm: float = 1.0,
    precision: str = "fp32",
    save_every_steps: int = 500,
    keep: int = 2,
    resume: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    group: Group | None = None,
    parallel: str = "none",
    compile: bool = False,
    save_memory: bool = False,
    health_every_steps: int = 500,
    on_health: Health | None = None,
    line_every_s: float = 15.0,
    say: Callable[[str], None] = print,
) -> TrainResult:
    """Train `recipe` on `loader`'s clips for `steps` steps in the folder `out`; see `docs/training.md`.

    A given `model` is trained further; otherwise the recipe builds one.  `resume` is "last", a run's folder or a
    checkpoint.  The score that `best` follows is the health figure `score` (lower is better), else the loss.
    `group` are those who train together: all that torchrun started, unless it is given.
    """
    group = group or join(device)
    say = say if group.main else _silent
    schedule = Schedule(
        steps=steps, peak=learning_rate, warmup_steps=warmup_steps, cooldown_fraction=cooldown_fraction,
        shape=shape, start=start_rate,
    )  # fmt: skip
    seed_everything(seed, -1)
    model = (model or recipe.build(conventions or Conventions())).to(group.device).train()
    if save_memory:
        checkpoint_activations(model)
    program = spread(Program(recipe, model), group, parallel=parallel)
    groups = getattr(recipe, "parameter_groups", parameter_groups)(model)
    fused = group.device.type in ("cpu", "cuda")  # half the time of the default on a CPU
    optimizer = torch.optim.AdamW(
        groups, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=fused
    )
    trained = [p for g in optimizer.param_groups for p in g["params"]]
    after_step = getattr(recipe, "after_step", None)
    progress = _restore(out, resume, model, optimizer, loader, say) if resume else _fresh(out)
    if progress.step >= steps:
        say(f"already at step {progress.step} of {steps}: nothing to do (raise steps to go on)")
    group.barrier()
    run = torch.compile(program) if compile else program
    generator = torch.Generator(group.device)
    recent: list[float] = []
    saved = state.follow(out, "last") if resume else None
    began, first = time.perf_counter(), progress.step
    journal = (
        Journal(out, first_step=first, steps=steps, say=say, line_every_s=line_every_s)
        if group.main
        else None
    )
    with interrupts(say) as stop:
        batches, interrupted = endless(loader), False
        for step in range(first, steps):
            tick = time.perf_counter()
            stop.begin(_saving(out, step, model, optimizer, loader, progress, recent, group, keep, say))
            with reading(out, step):
                clip = next(batches).to(group.device, non_blocking=True)
            waited_s = time.perf_counter() - tick
            generator.manual_seed(seed_everything(seed, step, group.rank))
            for g in optimizer.param_groups:
                g["lr"] = schedule.at(step) * g.get("rate_scale", 1.0)
            with torch.autocast(group.device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss, figures = run(clip, step, generator)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(trained, clip_norm)
            norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
            broken = not (torch.isfinite(loss) and torch.isfinite(norm))
            broken, interrupted = group.any(broken, bool(stop.signals))
            if broken:
                raise keep_broken(out, clip, step, loss.item(), float(norm), group.rank)
            stop.change()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if after_step is not None:
                after_step(model, step)
            figures = group.mean({"loss": loss.item(), **{k: float(v) for k, v in figures.items()}})
            recent = [*recent[-49:], figures["loss"]]
            done = step + 1
            if journal:
                rate = optimizer.param_groups[0]["lr"]
                journal.step(
                    step,
                    {**figures, "norm": float(norm), "rate": rate},
                    waited_s=waited_s,
                    took_s=time.perf_counter() - tick,
                )
            if on_health is not None and (done % health_every_steps == 0 or done == steps):
                measured, warnings = _measure(on_health, model, step)
                progress.score = measured.get("score", progress.score)
                if journal:
                    journal.health(step, measured, warnings)
            if done % save_every_steps == 0 or done == steps or interrupted:
                progress.step, progress.loss, progress.loader = (
                    done,
                    float(np.mean(recent)),
                    loader.state_dict(),
                )
                with writing(out, step):
                    saved = state.save(out, model, optimizer, progress, group, keep=keep)
            if interrupted:
                say(f"interrupted: step {done} is saved in {saved}; go on with resume=last")
                break
    if journal:
        journal.close()
    return TrainResult(
        model=model, step=progress.step, loss=float(np.mean(recent)) if recent else float("nan"),
        checkpoint=saved, interrupted=interrupted, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _fresh(out: Path) -> state.Progress:
    if sorted(out.glob("step-*")):
        raise ValueError(
            f"{out} already holds a run: give resume=last to go on with it, or another out= to start afresh"
        )
    out.mkdir(parents=True, exist_ok=True)
    state.clean(out)
    return state.Progress()


def _saving(
    out, step, model, optimizer, loader, progress, recent, group, keep, say
) -> Callable[[], None] | None:
    """What saves that which this step begins from, also while the step is at work; one of many processes cannot."""
    if group.size > 1:
        return None
    # Forward passes change buffers (batch norm's); weights and moments change in the optimiser's step alone.
    stored = model.state_dict().keys()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers() if name in stored}
    at = replace(
        progress, step=step, loss=float(np.mean(recent)) if recent else None, loader=loader.state_dict()
    )

    def save() -> None:
        saved = state.save(out, model, optimizer, at, group, keep=keep, buffers=buffers)
        say(f"interrupted in step {step + 1}: {step} are saved in {saved}; go on with resume=last")

    return save


def _restore(out, resume, model, optimizer, loader, say) -> state.Progress:
    out.mkdir(parents=True, exist_ok=True)
    state.clean(out)
    found = state.find(resume, out)
    if found is None:
        say(f"no checkpoint in {out} yet: starting at step 0")
        return state.Progress()
    progress = state.load(found, model, optimizer)
    loader.load_state_dict(progress.loader)
    say(f"resumed from {found} at step {progress.step}")
    return progress


def _measure(on_health: Health, model: nn.Module, step: int) -> tuple[dict[str, float], list[str]]:
    model.eval()
    with torch.no_grad():
        measured = on_health(model, step)
    model.train()
    return measured


def _silent(_text: str) -> None:
    """What the other processes say."""
