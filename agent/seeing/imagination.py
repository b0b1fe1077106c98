"""The pictures of `forearm imagine` that show what a model sees: films, nearest frames, features, differences, futures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent.build import Mind
from agent.imagining import Encoded, actions_from, context_at
from world_model.latent import DrawZ

from . import figures as draw
from . import maps
from .imagery import grown, painted
from .nearest import Near, RealFrames

FUTURES = 8


@dataclass(kw_only=True)
class Shown:
    """One roll-out that is looked at closely: what came [H, ...] and what was imagined for it."""

    encoded: Encoded
    start: int
    latents: Tensor  # [H, N, D] imagined
    poses: Tensor  # [H, 7] imagined
    decoded: np.ndarray | None  # uint8 [H, V, S, S, 3]
    near: list[Near]  # [H]
    hand: Tensor | None = None  # [H, 3] where the hand is, read from what was imagined
    hand_seen: Tensor | None = None  # [H, 3] and from the frames that came

    @property
    def frames(self) -> np.ndarray:
        """What came: uint8 [H, V, H, W, 3]."""
        return self.encoded.stretch.frames[self.start + 1 : self.start + 1 + len(self.latents)].numpy()


def look_closely(
    mind: Mind, episodes: Sequence[Encoded], shown: Encoded, start: int, latents: Tensor, poses: Tensor
) -> Shown:
    """Decode, and look for the nearest real frames in the other episodes (in the same one where there is no other)."""
    real = RealFrames(scale=float(mind.normalisation.get("latent_scale", 2.0)))
    others = [(i, e) for i, e in enumerate(episodes) if e is not shown]
    for number, encoded in others or [(0, shown)]:
        steps = range(len(encoded.stretch.frames)) if others else range(start + 1)
        for t in steps:
            real.add(encoded.latents[0, t], encoded.stretch.frames[t].numpy(), f"episode {number}, step {t}")
    decoder, body = mind.heads.get("decoder"), mind.heads.get("body")
    came = shown.latents[0, start + 1 : start + 1 + len(latents)]
    return Shown(
        encoded=shown, start=start, latents=latents, poses=poses,
        decoded=painted(decoder, latents) if decoder is not None else None,
        near=[real.nearest(z) for z in latents],
        hand=None if body is None else body(latents)[0].detach(),
        hand_seen=None if body is None else body(came)[0].detach(),
    )  # fmt: skip


def _some(count: int, most: int) -> list[int]:
    """At most so many of `count` steps, evenly, the first and the last among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(most, count)).round()})


def film(shown: Shown, cameras: Sequence[str], path: Path, *, most: int = 8) -> Path:
    """Real above, imagined below, and the nearest real frame below that; `most` moments stay legible on a page."""
    rows, steps = [], _some(len(shown.latents), most)
    for view, camera in enumerate(cameras):
        came = np.stack([grown(shown.frames[h, view]) for h in steps])
        rows.append(draw.Row(label=f"{camera}\ncame", frames=came))
        if shown.decoded is not None:
            rows.append(draw.Row(label="imagined", frames=shown.decoded[steps, view], kind="dream"))
        notes = [f"{shown.near[h].distance:.2f}" for h in steps] if view == len(cameras) - 1 else ()
        found = np.stack([grown(shown.near[h].frames[view]) for h in steps])
        rows.append(draw.Row(label="nearest real", frames=found, kind="near", notes=notes))
    titles = [f"{h + 1} step{'s' if h else ''} ahead" for h in steps]
    return draw.filmstrip(rows, path, columns=titles)


def features(mind: Mind, shown: Shown, path: Path, *, most: int = 8) -> Path | None:
    """Maps in the colours of their first three principal components: of tokens real and imagined, or of the eye."""
    cameras, model = mind.model.conventions.cameras, mind.model
    steps = _some(len(shown.latents), most)
    ahead = [shown.start + 1 + h for h in steps]
    rows: list[tuple[str, list[Tensor]]] = []
    if maps.has_tokens(shown.latents, len(cameras)):
        real = [maps.token_maps(shown.encoded.latents[0, t], len(cameras)) for t in ahead]
        dreamt = [maps.token_maps(shown.latents[h], len(cameras)) for h in steps]
        for view, camera in enumerate(cameras):
            rows.append((f"{camera}\ncame", [m[view] for m in real]))
            rows.append(("imagined", [m[view] for m in dreamt]))
    elif hasattr(model, "maps"):
        seen = maps.eye_maps(model, shown.encoded.stretch.frames[ahead])
        for camera, view in zip(cameras, seen, strict=True):
            rows.append((f"{camera}\nthe eye's map", list(view.permute(0, 2, 3, 1))))
    else:
        return None
    eyes = (
        1 if maps.has_tokens(shown.latents, len(cameras)) else len(rows)
    )  # each eye has features of its own
    bases = [
        maps.Basis.of(torch.cat([m.reshape(-1, m.shape[-1]) for _, found in part for m in found]))
        for part in ([rows] if eyes == 1 else [[row] for row in rows])
    ]
    coloured = [
        (label, [bases[min(i, eyes - 1)].colours(m) for m in found]) for i, (label, found) in enumerate(rows)
    ]
    return draw.features_figure(coloured, [f"{h + 1} ahead" for h in steps], path)


def components(episodes: Sequence[Encoded], shown: Shown, path: Path) -> Path:
    """A latent's own path, in the first three principal components of everything that was seen."""
    every = torch.cat([e.latents[0].mean(1) for e in episodes])
    basis = maps.Basis.of(every)
    came = shown.encoded.latents[0, shown.start : shown.start + 1 + len(shown.latents)].mean(1)
    dreamt = torch.cat([came[:1], shown.latents.mean(1)])
    return draw.components_figure(basis.place(came).numpy(), basis.place(dreamt).numpy(), path)


def differences(mind: Mind, shown: Shown, path: Path) -> Path | None:
    """Where the picture at the start differs, for the model, from the one at the end, which is taken for the goal."""
    model, cameras = mind.model, mind.model.conventions.cameras
    end = shown.start + len(shown.latents)
    frames = shown.encoded.stretch.frames
    middle = (shown.start + end) // 2
    moments = [shown.start, middle, end - 1]
    goal = shown.encoded.latents[0, end]
    if maps.has_tokens(goal, len(cameras)):
        heats = [maps.token_difference(shown.encoded.latents[0, t], goal, len(cameras)) for t in moments]
    elif hasattr(model, "maps"):
        there = maps.eye_maps(model, frames[end][None])
        found = maps.eye_difference(model, maps.eye_maps(model, frames[moments]), there, goal)
        heats = [[view[i] for view in found] for i in range(len(moments))]
    else:
        return None
    most = max(float(h.max()) for h in heats[0])
    rows = []
    for view, camera in enumerate(cameras):
        hot = [
            maps.heated(grown(frames[t, view].numpy()), heats[i][view], most) for i, t in enumerate(moments)
        ]
        rows.append(draw.Row(label=camera, frames=np.stack([*hot, grown(frames[end, view].numpy())])))
    titles = [*(f"{end - t} step{'s' if end - t > 1 else ''} before" for t in moments), "the goal"]
    return draw.filmstrip(rows, path, columns=titles)


@torch.no_grad()
def futures(
    mind: Mind, shown: Shown, path: Path, *, context: int, seed: int = 0
) -> tuple[Path, list[float]] | None:
    """Several z, several futures of the same actions: None where the model has no latent variable."""
    predictor: Any = getattr(mind.model, "predictor", None)
    z_dim = int(getattr(getattr(predictor, "config", None), "z_dim", 0))
    if not z_dim:
        return None
    horizon = len(shown.latents)
    memory = context_at(shown.encoded, shown.start, context)
    actions = actions_from(mind.model, shown.encoded, shown.start, horizon)
    generator, draw_z = torch.Generator().manual_seed(seed), DrawZ(z_dim)
    found = [mind.model.imagine(memory, actions, draw_z(memory, actions, generator)) for _ in range(FUTURES)]
    latents = torch.stack([f.latents[0, 0] for f in found])  # [Z, H, N, D]
    spread = latents.var(0).mean((-1, -2)).sqrt()
    here = shown.encoded.stretch.poses[shown.start, :3]
    paths = torch.stack([torch.cat([here[None], f.poses[0, 0, :, :3]]) for f in found])
    true = shown.encoded.stretch.poses[shown.start : shown.start + horizon + 1, :3]
    return draw.futures_figure(paths.numpy(), true.numpy(), spread.numpy(), path), spread.tolist()
