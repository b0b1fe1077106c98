"""Action-conditioned prediction: one step ahead from true latents, and several from imagined ones."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Predicts(Protocol):
    """latents [B, T, N, D], actions [B, T, 7], poses [B, T, 7] -> the next frame's latents [B, T, N, D]."""

    def __call__(
        self, latents: Tensor, actions: Tensor, poses: Tensor, extrinsics: Tensor | None = None
    ) -> Tensor: ...


def prediction_error(prediction: Tensor, target: Tensor, *, power: float = 2.0) -> Tensor:
    """mean |prediction - target|^power / power: L1 for 1, half the squared error for 2."""
    gap = prediction.float() - target.float()
    if power == 1.0:
        return gap.abs().mean()
    if power == 2.0:
        return gap.square().mean() / 2
    return gap.abs().pow(power).mean() / power


def layer_norm(x: Tensor) -> Tensor:
    """V-JEPA 2's normalisation of latents: over channels, without parameters."""
    return F.layer_norm(x, x.shape[-1:])


def vjepa2_ac(
    predict: Predicts,
    latents: Tensor,
    actions: Tensor,
    poses: Tensor,
    extrinsics: Tensor | None = None,
    *,
    auto_steps: int = 2,
    power: float = 1.0,
    normalise: bool = True,
    rollout_start: Literal["fixed", "before_june_2025"] = "fixed",
) -> dict[str, Tensor]:
    """V-JEPA 2-AC's loss on latents h [B, T, N, D], actions [B, T-1, 7], poses [B, T, 7].

        teacher_forced = |P(h_1..h_{T-1}) - h_2..h_T|
        rollout        = |zhat_2..zhat_{auto_steps+1} - h_2..h_{auto_steps+1}|

    zhat_2 is the teacher-forced prediction, the later ones are predicted from [h_1, zhat_2, ...] with the
    true poses.  "before_june_2025" starts the rollout from [h_1, zhat_3] instead and compares zhat_3 with
    h_2: the mistake that the public checkpoint is said to be trained with (vjepa2 PR #25).
    """

    def step(z: Tensor) -> Tensor:
        t = z.shape[1]
        out = predict(z, actions[:, :t], poses[:, :t], None if extrinsics is None else extrinsics[:, :t])
        return layer_norm(out) if normalise else out

    if not 1 <= auto_steps < latents.shape[1]:
        raise ValueError(
            f"auto_steps {auto_steps} needs clips of {auto_steps + 1} frames, got {latents.shape[1]}"
        )
    forced = step(latents[:, :-1])
    first = 1 if rollout_start == "before_june_2025" else 0
    z = torch.cat([latents[:, :1], forced[:, first : first + 1]], 1)
    for _ in range(1, auto_steps):
        z = torch.cat([z, step(z)[:, -1:]], 1)
    rolled = z[:, 1:]
    teacher_forced = prediction_error(forced, latents[:, 1:], power=power)
    rollout = prediction_error(rolled, latents[:, 1 : auto_steps + 1], power=power)
    return {
        "teacher_forced": teacher_forced,
        "rollout": rollout,
        "loss": teacher_forced + rollout,
        "forced": forced,
        "rolled": rolled,
    }
