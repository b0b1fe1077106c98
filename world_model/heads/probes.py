"""Linear probes in closed form: what can be read off a latent, in metres and degrees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from data.poses import euler_from_rotation, rotation_from_quaternion


@dataclass(kw_only=True, slots=True)
class Target:
    """What a probe reads: `values` [n, k] of a length, or angles [n, 1] that repeat `fold` times a turn."""

    values: Tensor
    angle: bool = False
    fold: int = 1
    unit: str = "mm"
    per_unit: float = 1000.0


@dataclass(kw_only=True, slots=True)
class Probe:
    """How well a target can be read: R^2 (1 perfect, 0 no better than the mean) and the mean error."""

    r2: float
    error: float
    unit: str


def ridge(x: Tensor, y: Tensor, strength: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [D, k], mean of x [D] and mean of y [k] that minimise |(x - mx) W - (y - my)|^2 + strength n |W|^2.

    Solved over samples or over channels, whichever are fewer.
    """
    mx, my = x.mean(0), y.mean(0)
    a, b = x - mx, y - my
    n, d = a.shape
    if d <= n:
        w = torch.linalg.solve(a.T @ a + strength * n * torch.eye(d, dtype=a.dtype, device=a.device), a.T @ b)
    else:
        w = a.T @ torch.linalg.solve(a @ a.T + strength * n * torch.eye(n, dtype=a.dtype, device=a.device), b)
    return w, mx, my


def linear_probe(
    latents: Tensor,
    target: Target,
    train: Tensor,
    *,
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
) -> Probe:
    """Fit on the latents [n, D] where `train` is true and judge on the others.

    The ridge's strength, in units of the latents' variance, is chosen on a fifth of the training part.
    """
    x = latents.double()
    x = x / x[train].std(0).square().mean().sqrt().clamp(min=1e-12)
    y = _as_regression(target).double()
    fit, held = train.nonzero().squeeze(1), (~train).nonzero().squeeze(1)
    if min(len(fit) // 5, len(held)) < 2:
        raise ValueError(f"{len(fit)} samples to fit and {len(held)} to judge a probe on are too few")
    cut = len(fit) - len(fit) // 5
    inner, outer = fit[:cut], fit[cut:]

    def gap(rows: Tensor, on: Tensor, strength: float) -> Tensor:
        w, mx, my = ridge(x[rows], y[rows], strength)
        return (x[on] - mx) @ w + my - y[on]

    best = min(strengths, key=lambda s: gap(inner, outer, s).square().sum().item())
    wrong = gap(fit, held, best)
    spread = (y[held] - y[held].mean(0)).square().sum().clamp(min=1e-12)
    return Probe(
        r2=float(1 - wrong.square().sum() / spread),
        error=_error(wrong + y[held], target, held),
        unit=target.unit,
    )


def _as_regression(target: Target) -> Tensor:
    if not target.angle:
        return target.values
    turned = target.fold * target.values
    return torch.cat([turned.cos(), turned.sin()], -1)


def _error(guess: Tensor, target: Target, rows: Tensor) -> float:
    truth = target.values[rows].double()
    if not target.angle:
        return float((guess - truth).norm(dim=-1).mean() * target.per_unit)
    angle = torch.atan2(guess[:, 1:], guess[:, :1])
    gap = (angle - target.fold * truth + math.pi).remainder(2 * math.pi) - math.pi
    return float(gap.abs().mean() / target.fold * target.per_unit)


def targets_of(
    poses: Tensor, objects: Mapping[str, Tensor] | None = None, *, fold: int = 4
) -> dict[str, Target]:
    """What is worth reading: poses [n, 7], objects' name -> [n, 7] xyz and xyzw (simulation alone knows them).

    An object looks the same `fold` times in a turn about the vertical (4: a cube).
    """
    degrees = {"angle": True, "unit": "deg", "per_unit": 180 / math.pi}
    found = {
        "hand_xyz": Target(values=poses[:, :3]),
        "hand_yaw": Target(values=poses[:, 5:6], **degrees),
        "gripper": Target(values=poses[:, 6:], unit="closedness", per_unit=1.0),
    }
    for name, state in (objects or {}).items():
        yaw = euler_from_rotation(rotation_from_quaternion(state[:, 3:]))[:, 2:]
        found[f"{name}_xyz"] = Target(values=state[:, :3])
        found[f"{name}_yaw"] = Target(values=yaw, fold=fold, **degrees)
    return {k: t for k, t in found.items() if _varies(t)}


def _varies(target: Target) -> bool:
    return bool((_as_regression(target).std(0) > 1e-6).any())
