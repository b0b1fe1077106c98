"""Can hand and things be read off the latent?  Probes fitted on many scenes of a log, judged on episodes of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from data.cache import FrameCache
from world_model.heads.probes import Probe, Target, linear_probe, mlp_probe

from .imagining import Encoded

REACH_M = 1.0  # what lies farther from the base, or below the table, has fallen and is in no picture


@torch.no_grad()
def place_probes(
    world: Any, cache: FrameCache, judged: Sequence[Encoded], *, most_rows: int = 12_000, seed: int = 0
) -> dict[str, Probe]:
    """Probes by name, linear and MLP, of the places that both the cache and all the judged episodes know."""
    order = np.random.default_rng(seed).permutation(len(cache))[:most_rows]
    rows = torch.from_numpy(order)
    parts = [world.encode(cache.frames[part]).float().flatten(1) for part in rows.split(64)]
    latents = torch.cat([*parts, *(e.latents[0].flatten(1) for e in judged)])
    places = {"hand": torch.cat([cache.poses[rows, :3], *(e.stretch.poses[:, :3] for e in judged)])}
    for name, poses in cache.objects().items():
        if all(name in e.stretch.objects for e in judged):
            known = [torch.from_numpy(poses[order, :3]), *(e.stretch.objects[name][:, :3] for e in judged)]
            places[name] = torch.cat(known)
    fits = torch.arange(len(latents)) < len(rows)
    found: dict[str, Probe] = {}
    for name, values in places.items():
        there = values.isfinite().all(1) & (values.norm(dim=1) < REACH_M) & (values[:, 2] > -0.02)
        what = latents[there], Target(values=values[there].float()), fits[there]
        found[f"{name}_xyz"] = linear_probe(*what)
        found[f"{name}_xyz_mlp"] = mlp_probe(*what, width=256, steps=300, noise=0.05)
    return found
