"""Going on from a trained model on a log of one's own: how it begins, and which of its checkpoints is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from agent.scoring import latents_of
from data.cache import FrameCache
from data.hindsight import HindsightLoader
from world_model.train import state
from world_model.train.adapt import bring_heads, recalibrate, settle
from world_model.train.panda import PandaModel
from world_model.train.parts import Loader

MOST_TO_SETTLE = 150  # episodes
CALIBRATION_BATCHES = 16
ERROR = "action_error_mm"


def begin(
    model: nn.Module,
    folder: str | Path,
    cache: FrameCache,
    loader: Loader,
    *,
    validation: float,
    seed: int,
    say: Callable[[str], None] = print,
) -> None:
    """Bring the given model's heads, measure its norms where it is now, and fit what no model's folder holds before
    anything else moves."""
    brought = bring_heads(model, folder)
    if not isinstance(loader, HindsightLoader):
        return
    recalibrate(
        model.world, (loader.batch(number)["frames"].flatten(0, 1) for number in range(CALIBRATION_BATCHES))
    )
    few = cache.split("train", validation=validation)[:MOST_TO_SETTLE]
    latents, rows = latents_of(model.world, cache, few)
    settled = settle(model, latents, loader.held[rows], seed=seed)
    if brought or settled:
        say(
            f"begins   with the given model's {' and '.join(brought) or 'world model alone'}; fitted before it moves: "
            + ", ".join(f"{name} {loss:.3f}" for name, loss in settled.items())
        )


def heads_of(model: nn.Module) -> dict[str, nn.Module]:
    """The heads that learned beside the world model, from the given ones: they know the latents as they are now."""
    if not isinstance(model, PandaModel):
        return {}
    return {"policy": model.policy, "critic": model.critic, "body": model.body}


def take_best(model: nn.Module, out: Path, *, say: Callable[[str], None] = print) -> int | None:
    """Load the checkpoint with the least action error on held-out episodes into the model; returns its step."""
    measured: dict[int, float] = {}
    for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        figures = json.loads(line)
        if f"health/{ERROR}" in figures:
            measured[figures["step"] + 1] = figures[f"health/{ERROR}"]
    there = {step: error for step, error in measured.items() if (out / f"step-{step:06d}").is_dir()}
    if not there:
        return None
    best = min(there, key=lambda step: (there[step], -step))
    last = state.follow(out, "last")
    if last is not None and last.name != f"step-{best:06d}":
        state.load_weights(out / f"step-{best:06d}", model)
        say(
            f"takes    the checkpoint of step {best}: {there[best]:.1f} mm off, the last one {measured[max(measured)]:.1f}"
        )
    return best
