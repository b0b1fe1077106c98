"""Probes of a latent, in metres and degrees: linear ones in closed form, and a small MLP for what is there but bent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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


STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the ridge, in units of the latents' variance


def linear_probe(latents: Tensor, target: Target, train: Tensor) -> Probe:
    """Fit on the latents [n, D] where `train` is true and judge on the others.

    The ridge's strength is chosen on a fifth of the training part.
    """
    x, y, fit, held = _parts(latents, target, train)
    best = _strength(x, y, fit)
    return _judged(_linear(x, y, fit, best)[held], y, target, held)


def mlp_probe(
    latents: Tensor,
    target: Target,
    train: Tensor,
    *,
    width: int = 128,
    steps: int = 150,
    rate: float = 3e-3,
    noise: float = 0.1,
    seed: int = 0,
) -> Probe:
    """As `linear_probe`, and two layers beside it for what is left, trained with AdamW on noisy latents.

    The step that is best on a fifth of the training part counts; the linear guess alone is one of them.
    """
    x, y, fit, held = _parts(latents, target, train)
    cut = len(fit) - len(fit) // 5
    inner, outer = fit[:cut], fit[cut:]
    linear = _linear(x, y, inner, _strength(x, y, fit))
    size = (y[inner] - linear[inner]).std().clamp(min=1e-9)
    left, z = ((y - linear) / size).float(), x.float()
    generator = torch.Generator().manual_seed(
        seed
    )  # private: training beside it draws what it would have drawn
    w1 = torch.randn(z.shape[1], width, generator=generator).to(z) * z.shape[1] ** -0.5
    w2 = z.new_zeros(width, left.shape[1])
    weights = [w.requires_grad_() for w in (w1, z.new_zeros(width), w2, z.new_zeros(left.shape[1]))]

    def more(rows: Tensor) -> Tensor:
        return F.silu(rows @ weights[0] + weights[1]) @ weights[2] + weights[3]

    best, kept = float(left[outer].square().mean()), torch.zeros_like(left[held])
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            shaken = z[inner] + noise * torch.randn(cut, z.shape[1], generator=generator).to(z)
            optimizer.zero_grad()
            (more(shaken) - left[inner]).square().mean().backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            with torch.no_grad():
                loss = float((more(z[outer]) - left[outer]).square().mean())
                if loss < best:
                    best, kept = loss, more(z[held])
    return _judged(linear[held] + kept.double() * size, y, target, held)


def _parts(latents: Tensor, target: Target, train: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents of unit size, what is to be read off them, the rows to fit on and those to judge on."""
    fit, held = train.nonzero().squeeze(1), (~train).nonzero().squeeze(1)
    if min(len(fit) // 5, len(held)) < 2:
        raise ValueError(f"{len(fit)} samples to fit and {len(held)} to judge a probe on are too few")
    x = latents.double() - latents[train].double().mean(0)
    return (
        x / x[train].std(0).square().mean().sqrt().clamp(min=1e-12),
        _as_regression(target).double(),
        fit,
        held,
    )


def _linear(x: Tensor, y: Tensor, rows: Tensor, strength: float) -> Tensor:
    w, mx, my = ridge(x[rows], y[rows], strength)
    return (x - mx) @ w + my


def _strength(x: Tensor, y: Tensor, fit: Tensor) -> float:
    cut = len(fit) - len(fit) // 5
    inner, outer = fit[:cut], fit[cut:]
    return min(STRENGTHS, key=lambda s: (_linear(x, y, inner, s) - y)[outer].square().sum().item())


def _judged(guess: Tensor, y: Tensor, target: Target, held: Tensor) -> Probe:
    spread = (y[held] - y[held].mean(0)).square().sum().clamp(min=1e-12)
    return Probe(
        r2=float(1 - (guess - y[held]).square().sum() / spread),
        error=_error(guess, target, held),
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
