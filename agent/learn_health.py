"""What is looked at while a world model learns: health figures on held-out clips, and pictures of what it imagines."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.imagining import actions_from, landscapes_at, roll_outs
from agent.imagining import encode as see
from agent.recorded import Stretch
from agent.seeing import figures
from data.cache import FrameCache
from data.clips import ClipDataset
from world_model.health import on_health
from world_model.train.parts import Health


def held_out(cache: FrameCache, *, length: int, validation: float, count: int = 96) -> dict[str, Any]:
    """Clips of held-out episodes, for the health figures; where simulated, with the objects' true poses."""
    clips = ClipDataset(cache, length=length, split="validation", validation=validation)
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(count, len(clips))).astype(int))
    batch = clips.batch(chosen)
    rows = clips.starts[torch.from_numpy(chosen)][:, None] + torch.arange(length)
    objects = {name: torch.from_numpy(poses[rows.numpy()]) for name, poses in cache.objects().items()}
    return {**{name: batch[name] for name in ("frames", "poses", "actions")}, "objects": objects}


def health_hook(
    cache: FrameCache, *, length: int, validation: float, context: int = 3, pictures: Path | None = None
) -> Health:
    """Health figures on held-out clips, and a picture of them; `score`, which the best checkpoint follows, is the last
    step's copy ratio."""
    clips = held_out(cache, length=max(length, context + 3), validation=validation)
    hook = on_health(clips, context=context)

    def measured(model: Any, step: int) -> tuple[dict[str, float], list[str]]:
        measures, warnings = hook(model, step)
        if pictures is not None:
            draw_imagination(model.world, clips, pictures / f"step-{step + 1:06d}", context=context)
        ratios = [value for name, value in sorted(measures.items()) if name.startswith("copy_ratio")]
        return {**measures, "score": ratios[-1]}, warnings

    return measured


def draw_imagination(world: Any, clips: dict[str, Any], path: Path, *, context: int) -> None:
    """Errors of imagined against real by horizon, and the energy around a true action, as two pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    device = next(world.parameters()).device
    world = copy.deepcopy(world).cpu().eval() if device.type != "cpu" else world
    found = [
        see(world, Stretch(frames=frames, poses=poses, actions=actions, rows=np.arange(len(poses))))
        for frames, poses, actions in zip(
            *(clips[name][:8] for name in ("frames", "poses", "actions")), strict=True
        )
    ]
    horizon = len(clips["poses"][0]) - context
    figures.horizon_figure(
        roll_outs(world, found, horizon=horizon, context=context), path.with_name(f"{path.name}-horizons.png")
    )
    true = actions_from(world, found[0], context - 1, 1)[0, 0, 0].numpy()
    surfaces = landscapes_at(world, found[0], context - 1, context=context, points=9)
    figures.landscape_figure(surfaces, true, path.with_name(f"{path.name}-landscapes.png"))
