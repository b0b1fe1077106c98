"""What a run sees and imagines, as pictures: decoded futures, the nearest real frames, feature maps, differences.

Nothing here is needed before the run is over, so that the pictures wait (unless somebody looks on) and are drawn
together, which takes half the time.  Blue frames are imagined, green ones real.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import rerun as rr
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from agent.agent import Step
from agent.build import Mind
from data.types import as_views

from . import maps
from .nearest import Near, RealFrames
from .stream import VideoStream

DREAM, REAL, GOAL = (59, 111, 181), (42, 127, 98), (214, 149, 46)
SHOWN_PX = 128
TOGETHER = 16  # moments in a batch


@dataclass(kw_only=True)
class _Moment:
    index: int
    time_s: float
    frames: Tensor  # uint8 [V, H, W, 3]
    latent: Tensor  # [N, D]
    expected: Tensor | None  # [N, D], what was imagined a step ago for now
    end: Tensor | None  # [N, D], where the plan leads to
    path: Tensor | None  # [H, N, D], the plan step by step
    goal: int
    near: Near | None


@dataclass(kw_only=True)
class _Goal:
    latent: Tensor  # [N, D]
    features: list[Tensor]  # one a view: of tokens [h, w, D], of an eye [1, C, h, w]


class Imagery:
    """Keeps every step until `draw` logs what is left to be drawn."""

    def __init__(
        self,
        recording: rr.RecordingStream,
        mind: Mind,
        cameras: tuple[str, ...],
        real: RealFrames | None = None,
    ) -> None:
        self._recording, self._model, self._cameras = recording, mind.model, cameras
        self._decoder = mind.heads.get("decoder")
        self._remembers = real is None
        self._real = real or RealFrames(scale=float(mind.normalisation.get("latent_scale", 2.0)))
        self._waiting: list[_Moment] = []
        self._goals: list[_Goal] = []
        self._bases: dict[str, maps.Basis] = {}  # by camera: each eye has features of its own
        self._goal_shown = -1
        self._past: list[Tensor] = []
        self._heat: dict[int, float] = {}  # the greatest at a goal's first moment
        self._expected: Tensor | None = None
        self._streams: dict[str, VideoStream] = {}

    def add(self, step: Step, goal_frames: dict[str, np.ndarray]) -> None:
        frames = as_views(step.percept.observation.frames, self._cameras)
        latent = step.percept.latent[0]
        if step.goal_index >= len(self._goals) and goal_frames:
            self._goals.append(self._look_at(as_views(goal_frames, self._cameras)))
        if self._remembers:
            self._real.add(latent, frames.numpy(), f"step {step.index}")
        path = None if step.decision is None else step.decision.plan.imagined.latents[0, 0]
        self._waiting.append(
            _Moment(
                index=step.index, time_s=step.percept.observation.time_s, frames=frames, latent=latent,
                expected=self._expected, end=None if path is None else path[-1], path=path,
                goal=min(step.goal_index, len(self._goals) - 1),
                near=None if path is None else self._real.nearest(path[-1]),
            )
        )  # fmt: skip
        self._expected = None if path is None else path[0]

    def draw(self) -> None:
        """Log the pictures of all steps that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        decoded = self._decode([z for m in waiting for z in (m.expected, m.end) if z is not None])
        self._past += [m.latent for m in waiting]
        for moment in waiting:
            self._at(moment)
            far = 0 if moment.path is None else len(moment.path)
            texts = {"imagined": "decoded, a step ago", "ahead": f"decoded, {far} ahead"}
            for name, latent in (("imagined", moment.expected), ("ahead", moment.end)):
                if latent is not None and decoded:
                    self._show(name, [captioned(framed(p, DREAM), texts[name]) for p in decoded.pop(0)])
            if moment.near is not None:
                text = f"{moment.near.where}, distance {moment.near.distance:.2f}"
                shown = [captioned(framed(grown(f), REAL), text) for f in moment.near.frames]
                self._show("nearest", shown)
        self._draw_maps(waiting)
        self._draw_space(waiting)

    def _show(self, entity: str, pictures: Sequence[np.ndarray]) -> None:
        """All cameras' pictures in one stream, below each other: half the work of two."""
        if entity not in self._streams:
            self._streams[entity] = VideoStream(self._recording, entity)
        self._streams[entity].show(np.concatenate(pictures, 0))

    @torch.no_grad()
    def _decode(self, latents: list[Tensor]) -> list[np.ndarray]:
        """uint8 [V, H, W, 3] for each."""
        if self._decoder is None or not latents:
            return []
        return list(painted(self._decoder, torch.stack(latents)))

    @torch.no_grad()
    def _look_at(self, frames: Tensor) -> _Goal:
        latent = self._model.encode(frames[None])[0]
        if maps.has_tokens(latent, len(self._cameras)):
            features = maps.token_maps(latent, len(self._cameras))
        else:
            features = maps.eye_maps(self._model, frames[None]) if hasattr(self._model, "maps") else []
        return _Goal(latent=latent, features=features)

    def _draw_maps(self, waiting: list[_Moment]) -> None:
        """Features in three colours, and where the pictures differ from the goal's: moments with one goal together."""
        waiting = [m for m in waiting if m.goal >= 0 and self._goals[m.goal].features]
        for number, group in itertools.groupby(waiting, key=lambda m: m.goal):
            goal, moments = self._goals[number], list(group)
            tokens, views = maps.has_tokens(goal.latent, len(self._cameras)), len(self._cameras)
            there = goal.features if tokens else [m[0].permute(1, 2, 0) for m in goal.features]
            if number != self._goal_shown:
                self._goal_shown = number
                self._at(moments[0])
                self._show_features("goal", there, there, tokens)
            for start in range(0, len(moments), TOGETHER):
                part = moments[start : start + TOGETHER]
                if tokens:
                    real = [maps.token_maps(m.latent, views) for m in part]
                    heats = [maps.token_difference(m.latent, goal.latent, views) for m in part]
                else:
                    now = maps.eye_maps(self._model, torch.stack([m.frames for m in part]))
                    found = maps.eye_difference(self._model, now, goal.features, goal.latent)
                    real = [[view[i].permute(1, 2, 0) for view in now] for i in range(len(part))]
                    heats = [[view[i] for view in found] for i in range(len(part))]
                for moment, features, heat in zip(part, real, heats, strict=True):
                    self._at(moment)
                    self._show_features("real", features, there, tokens)
                    if tokens and moment.expected is not None:
                        self._show_features(
                            "imagined", maps.token_maps(moment.expected, views), there, tokens
                        )
                    most = self._heat.setdefault(number, max(float(h.max()) for h in heat))
                    seen = [grown(f) for f in moment.frames.numpy()]
                    self._show("differs", [maps.heated(f, h, most) for f, h in zip(seen, heat, strict=True)])

    def _show_features(
        self, kind: str, features: Sequence[Tensor], first: Sequence[Tensor], tokens: bool
    ) -> None:
        """Maps [h, w, C], one a view, in a basis that stays: of all views' tokens, or of each eye by itself."""
        for view, (name, found) in enumerate(zip(self._cameras, features, strict=True)):
            if name not in self._bases:
                cloud = [*first, *features] if tokens else [first[view], found]
                self._bases[name] = maps.Basis.of(torch.cat([m.reshape(-1, m.shape[-1]) for m in cloud]))
            self._recording.log(f"features/{name}/{kind}", rr.Image(self._bases[name].colours(found)))

    def _at(self, moment: _Moment) -> None:
        self._recording.set_time("step", sequence=moment.index)
        self._recording.set_time("time", duration=moment.time_s)

    def _draw_space(self, waiting: list[_Moment]) -> None:
        """The latent's own path: first three principal components, real and imagined in the same basis."""
        goals = [goal.latent.mean(0) for goal in self._goals]
        past = [z.mean(0) for z in self._past]
        if len(past) + len(goals) < 4:
            return
        basis = maps.Basis.of(torch.stack(past + goals))
        size = float((basis.high - basis.low).max())
        real = basis.place(torch.stack(past)).numpy() / size
        log = self._recording.log
        for moment in waiting:
            self._at(moment)
            here = moment.index + 1
            log("space/real", rr.LineStrips3D([real[:here]], colors=[REAL], radii=0.006))
            log("space/now", rr.Points3D(real[here - 1 : here], colors=[REAL], radii=0.02, labels=["now"]))
            if moment.path is not None:
                ahead = basis.place(moment.path.mean(1)).numpy() / size
                strip = np.concatenate([real[here - 1 : here], ahead])
                log("space/imagined", rr.LineStrips3D([strip], colors=[DREAM], radii=0.006))
            if moment.goal >= 0:
                place = basis.place(goals[moment.goal]).numpy()[None] / size
                log("space/goal", rr.Points3D(place, colors=[GOAL], radii=0.025, labels=["goal"]))


@torch.no_grad()
def painted(decoder: Callable[[Tensor], Tensor], latents: Tensor, size: int = SHOWN_PX) -> np.ndarray:
    """Latents [n, N, D] as pictures uint8 [n, V, size, size, 3], smoothly enlarged."""
    made = decoder(latents).permute(0, 1, 4, 2, 3).flatten(0, 1)
    large = F.interpolate(made, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    pictures = (255 * large.clamp(0, 1)).round().byte().permute(0, 2, 3, 1)
    return pictures.unflatten(0, (len(latents), -1)).numpy()


def grown(frame: np.ndarray, size: int = SHOWN_PX) -> np.ndarray:
    """At the size that pictures are shown in."""
    if frame.shape[:2] == (size, size):
        return frame
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))


def framed(picture: np.ndarray, colour: tuple[int, int, int], wide: int = 3) -> np.ndarray:
    """With a border, so that nobody takes it for something else."""
    picture = picture.copy()
    for edge in (picture[:wide], picture[-wide:], picture[:, :wide], picture[:, -wide:]):
        edge[:] = colour
    return picture


def captioned(picture: np.ndarray, text: str, high: int = 16) -> np.ndarray:
    """With a line of words below."""
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + high), (24, 30, 36))
    canvas.paste(Image.fromarray(picture), (0, 0))
    place = (4, picture.shape[0] + 2)
    ImageDraw.Draw(canvas).text(place, text, fill=(230, 235, 240), font=ImageFont.load_default(size=10))
    return np.asarray(canvas)
