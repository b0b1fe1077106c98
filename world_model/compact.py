"""The compact world model: one vector a frame, made to think fast on two cores.

In memory and clips an action's gripper part is a change (`Conventions.gripper_action`); here, in `imagine`, it is
the commanded closedness itself, 0 .. 1 (`absolute_gripper`): what the gripper is told does not depend on what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from data.poses import apply_action
from data.types import CLOSEDNESS, Conventions, Imagined, Memory

from .encoders.conv import ConvEncoder
from .features import ACTION_FEATURES, POSE_FEATURES, STEP_M, action_features, pose_features
from .predictors.adaln import AdaLNPredictor, Cache
from .remembered import Remembered

# Step, latents [B, K, N, D] and poses [B, K, 7] -> actions [B, K, 7].
Acting = Callable[[int, Tensor, Tensor], Tensor]


class CompactModel(nn.Module):
    """encode: frames -> z [B, 1, dim].  imagine: what actions would lead to."""

    absolute_gripper = True  # actions given to `imagine` carry the commanded closedness

    def __init__(
        self,
        conventions: Conventions,
        *,
        dim: int = 256,
        channels: tuple[int, ...] = (48, 64, 96, 128),
        shrinks: tuple[int, ...] = (1, 2),
        view_width: int = 384,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
        context: int = 3,
        hidden: int | None = None,
        steer: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        """`channels`, `shrinks` and `view_width` are the eyes', `width` to `dropout` the predictor's (`AdaLNPredictor`);
        `heads` 0: a residual MLP instead of a transformer."""
        super().__init__()
        self.conventions, self.dim, self.context = conventions, dim, context
        views = len(conventions.cameras)
        self.eyes = nn.ModuleList(
            ConvEncoder(
                image_size=conventions.image_size,
                channels=tuple(channels),
                width=view_width,
                shrink=shrinks[min(view, len(shrinks) - 1)],  # the wrist sees from near: half its pixels do
            )
            for view in range(views)
        )
        self.project = nn.Sequential(
            nn.BatchNorm1d(views * view_width),
            nn.SiLU(),
            nn.Linear(views * view_width, 2 * dim),
            nn.BatchNorm1d(2 * dim),
            nn.SiLU(),
            nn.Linear(2 * dim, dim),
            nn.BatchNorm1d(dim, affine=False),  # SIGReg wants a unit Gaussian; layer norm would forbid it
        )
        self.predictor = AdaLNPredictor(
            input_dim=dim + POSE_FEATURES,
            condition_dim=ACTION_FEATURES,
            output_dim=dim + 4,
            width=width,
            depth=depth,
            heads=heads,
            context=context,
            hidden=hidden,
            steer=steer,
            dropout=dropout,
        )
        self.thinks_in = torch.float32
        self._lighter: Remembered[AdaLNPredictor] = Remembered()
        self._last: Remembered[Cache] = Remembered()  # the past of the memory that was last imagined from

    def encode(self, frames: Tensor, poses: Tensor | None = None) -> Tensor:
        """uint8 [B, V, H, W, 3] -> [B, 1, D]; the pose goes to the predictor, so that a picture alone is a goal."""
        return self._together([eye(frames[:, view]) for view, eye in enumerate(self.eyes)])

    def maps(self, frames: Tensor) -> list[Tensor]:
        """Each eye's map [B, C, side, side] before it is made one vector: where things are, for people to look at."""
        return [eye.early(frames[:, view]) for view, eye in enumerate(self._eyes())]

    def from_maps(self, maps: list[Tensor]) -> Tensor:
        return self._together([eye.late(early) for eye, early in zip(self._eyes(), maps, strict=True)])

    def _together(self, seen: list[Tensor]) -> Tensor:
        return self.project(torch.cat(seen, -1))[:, None].float()

    def _eyes(self) -> list[ConvEncoder]:
        return [eye for eye in self.eyes if isinstance(eye, ConvEncoder)]

    def think_in(self, dtype: torch.dtype) -> CompactModel:
        """Imagine with weights of this type from now on, cast once; training and `predict` keep their own."""
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"cannot imagine in {dtype}; there are float32, bfloat16 and float16")
        self.thinks_in = dtype
        return self

    def predict(self, latents: Tensor, poses: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced: latents [B, T, 1, D], poses [B, T, 7], told [B, T, 7] -> the next of each."""
        z, s, _ = _advance(self.predictor, latents[:, :, 0], poses, told, None)
        return z[:, :, None], s

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        """Actions [B, K, H, 7] with the commanded closedness last.  The past is computed once for all candidates,
        and once for all calls with one memory."""
        return self.follow(memory, lambda step, _z, _s: actions[:, :, step], actions.shape[2])

    def follow(self, memory: Memory, act: Acting, horizon: int) -> Imagined:
        """`imagine`, of actions [B, K, 7] that `act(step, latents [B, K, 1, D], poses [B, K, 7])` chooses on the way.

        What it chooses first is of as many candidates as it likes: now is the same for all of them, and K is 1.
        """
        predictor = self._thinker()
        past = self._past(memory, predictor)
        z_now, s_now = (
            memory.latents[:, None, -1:, 0],
            memory.poses[:, None, -1:],
        )  # [B, 1, 1, .]: all share it
        imagined_z: list[Tensor] = []
        imagined_s: list[Tensor] = []
        for step in range(horizon):
            told = act(step, z_now, s_now[:, :, 0])[:, :, None]
            z_now, s_now, past = _advance(predictor, z_now, s_now, told, past)
            imagined_z.append(z_now)
            imagined_s.append(s_now)
        return Imagined(latents=torch.cat(imagined_z, 2).unsqueeze(3), poses=torch.cat(imagined_s, 2))

    def _thinker(self) -> AdaLNPredictor:
        if self.training or self.thinks_in == torch.float32:
            return self.predictor
        with torch.no_grad():  # gradients go to the actions alone
            return self._lighter.of(
                self.predictor.parameters(), lambda: self.predictor.lighter(self.thinks_in)
            )

    def _past(self, memory: Memory, predictor: AdaLNPredictor) -> Cache | None:
        """What the predictor keeps of the frames before the current one, the same for all candidates."""
        latents, poses = memory.latents[:, -self.context :, 0], memory.poses[:, -self.context :]
        done = latents.shape[1] - 1
        if not done:
            return None

        def look() -> Cache:
            before = poses[:, :-1]
            told = absolute(memory.actions[:, -done:], before)
            _, _, seen = _advance(predictor, latents[:, :-1], before, told, None)
            return [[tuple(t.unsqueeze(1) for t in frame) for frame in layer] for layer in seen]

        if self.training:  # dropout forgets differently each time
            return look()
        return self._last.of([memory.latents, memory.poses, memory.actions, *predictor.parameters()], look)


@cache
def quick_type() -> torch.dtype:
    """The type in which this processor imagines quickest: bfloat16 where it multiplies that itself (Linux says so)."""
    flags = Path("/proc/cpuinfo")
    known = flags.read_text().split() if flags.is_file() else []
    return torch.bfloat16 if {"avx512_bf16", "amx_bf16"} & set(known) else torch.float32


def _advance(
    predictor: AdaLNPredictor, z: Tensor, s: Tensor, told: Tensor, past: Cache | None
) -> tuple[Tensor, Tensor, Cache]:
    """One step for each frame given: z [..., T, D], s and told [..., T, 7]; several may be told to one frame."""
    frames = torch.cat([z, pose_features(s)], -1)
    change, kept = predictor(frames, action_features(told, s), past)
    change = change.to(s.dtype)
    move = change[..., -4:]
    moved = s[..., :3] + told[..., :3] + STEP_M * move[..., :3]
    turns = told.requires_grad or bool(told[..., 3:6].any())
    turned = apply_action(s, told)[..., 3:6] if turns else s[..., 3:6].expand_as(moved)
    closed = (s[..., 6:] + move[..., 3:]).clamp(0.0, 1.0)
    return z + change[..., :-4], torch.cat([moved, turned, closed], -1), kept


def absolute(actions: Tensor, poses: Tensor) -> Tensor:
    """Actions whose gripper part is a change from `poses` -> actions that carry the commanded closedness."""
    told = (actions[..., CLOSEDNESS:] + poses[..., CLOSEDNESS:]).clamp(0.0, 1.0)
    return torch.cat([actions[..., :CLOSEDNESS], told], -1)
