"""How healthy a representation and its dynamics are, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from data.types import Imagined, Memory
from world_model.compact import absolute
from world_model.heads.probes import Probe, linear_probe, mlp_probe, targets_of

CANDIDATES = 16


class Imagines(Protocol):
    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined: ...


@dataclass(kw_only=True, slots=True)
class Health:
    """What was measured, and what it means.

    `copy_ratio` per horizon: error of the imagined over error of "nothing changes"; below 1 is good.
    `wrong_ratio` per horizon: error under another clip's actions over error under the true ones; above 1 is good.
    `ranking` per horizon: how often the true actions lead nearest to the true outcome among 16 sequences; chance is 1/16.
    """

    rankme: float
    rank: float
    lidar: float
    deviation: float
    dead: float
    copy_ratio: list[float]
    wrong_ratio: list[float]
    ranking: list[float]
    probes: dict[str, Probe] = field(default_factory=dict)
    dim: int = 0
    collapsed: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def top1(self) -> float:
        """Ranking at the farthest horizon."""
        return self.ranking[-1]

    @property
    def words(self) -> str:
        return "; ".join(self.warnings) if self.warnings else "healthy"

    @property
    def figures(self) -> dict[str, float]:
        """Flat, for a journal."""
        flat = {k: float(getattr(self, k)) for k in ("rankme", "rank", "lidar", "deviation", "dead", "top1")}
        flat |= {f"copy_ratio_{h}": v for h, v in enumerate(self.copy_ratio, 1)}
        flat |= {f"wrong_ratio_{h}": v for h, v in enumerate(self.wrong_ratio, 1)}
        flat |= {f"top1_{h}": v for h, v in enumerate(self.ranking, 1)}
        for name, probe in self.probes.items():
            flat |= {f"probe_{name}_r2": probe.r2, f"probe_{name}_{probe.unit}": probe.error}
        return flat


def _entropy_rank(weights: Tensor) -> float:
    p = weights / weights.sum().clamp(min=1e-12) + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))


def rankme(latents: Tensor, *, centred: bool = False) -> float:
    """exp of the entropy of the normalised singular values of latents [n, D] (RankMe, which does not centre)."""
    z = latents.double()
    return _entropy_rank(torch.linalg.svdvals(z - z.mean(0) if centred else z))


def lidar(latents: Tensor, *, ridge: float = 1e-4) -> float:
    """Rank of what tells clips apart, for latents [clips, samples, D]: as RankMe, but of the eigenvalues of
    W^-1/2 B W^-1/2, with B the covariance of the clips' means and W that of the samples around them (LiDAR)."""
    z = latents.double()
    z = z / z.flatten(0, 1).std(0).square().mean().sqrt().clamp(min=1e-12)
    means = z.mean(1)
    between = torch.cov(means.T)
    inside = (z - means.unsqueeze(1)).flatten(0, 1)
    within = inside.T @ inside / max(len(inside) - len(z), 1)
    w, v = torch.linalg.eigh(within + ridge * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device))
    whiten = v * w.rsqrt() @ v.T
    return _entropy_rank(torch.linalg.eigvalsh(whiten @ between @ whiten).clamp(min=0))


def _error(a: Tensor, b: Tensor) -> Tensor:
    """Mean square over tokens and channels."""
    return (a.float() - b.float()).square().mean((-1, -2))


def given_actions(model: object, actions: Tensor, poses: Tensor) -> Tensor:
    """Actions as the model's `imagine` takes them: some want the commanded closedness, not its change."""
    if not getattr(model, "absolute_gripper", False):
        return actions
    return absolute(actions, poses[:, :-1])


@torch.no_grad()
def measure_dynamics(
    model: Imagines, latents: Tensor, poses: Tensor, actions: Tensor, *, context: int = 3
) -> tuple[list[float], list[float], list[float]]:
    """Copy-last ratios, wrong-action ratios and top-1 of 16 by horizon, on clips [B, T, ...] imagined from `context` frames."""
    b, t = latents.shape[:2]
    if not 1 <= context < t:
        raise ValueError(f"clips of {t} frames leave nothing to imagine after a context of {context}")
    if b < 2:
        raise ValueError("one clip alone has no wrong actions to compare with: give several")
    rivals = min(CANDIDATES, b)
    own = given_actions(model, actions, poses)[:, context - 1 :]
    # Candidate 0 is the clip's own actions, the others are those of the clips after it.
    candidates = torch.stack([own.roll(-k, 0) for k in range(rivals)], 1)  # [B, K, H, 7]
    memory = Memory(latents=latents[:, :context], poses=poses[:, :context], actions=actions[:, : context - 1])
    imagined = model.imagine(memory, candidates).latents
    truth = latents[:, context:].unsqueeze(1)
    errors = _error(imagined, truth)  # [B, K, H]
    copied = _error(latents[:, context - 1 : context].unsqueeze(1), truth)[:, 0].mean(0).clamp(min=1e-12)
    right, wrong = errors[:, 0].mean(0), errors[:, 1:].mean((0, 1))
    best = errors[:, 0] < errors[:, 1:].amin(
        1
    )  # strictly: a model that ignores actions ties, and does not win
    return (
        (right / copied).tolist(),
        (wrong / right.clamp(min=1e-12)).tolist(),
        best.float().mean(0).tolist(),
    )


@torch.no_grad()
def measure(
    model: Imagines,
    latents: Tensor,
    poses: Tensor,
    actions: Tensor,
    *,
    objects: Mapping[str, Tensor] | None = None,
    context: int = 3,
    most_samples: int = 2000,
) -> Health:
    """Judge a model on held-out clips: latents [B, T, N, D], poses [B, T, 7], actions [B, T-1, 7].

    `objects` name -> [B, T, 7] (xyz and xyzw), where a simulator knows them, are probed for too, if they are there in
    all clips.  The clips should be of different episodes: the first half of them fits the probes, the other judges.
    """
    copy_ratio, wrong_ratio, ranking = measure_dynamics(model, latents, poses, actions, context=context)
    b, t = latents.shape[:2]
    tokens = latents.float()[:, :, torch.linspace(0, latents.shape[2] - 1, min(latents.shape[2], 8)).long()]
    flat = tokens.flatten(0, 2)
    flat = flat[torch.linspace(0, len(flat) - 1, min(len(flat), most_samples)).long()]
    std = flat.std(0)
    size = flat.square().mean().sqrt()
    health = Health(
        rankme=rankme(flat),
        rank=rankme(flat, centred=True),
        lidar=lidar(tokens.mean(2)),
        deviation=float(std.mean()),
        dead=float((std < 0.05 * std.max().clamp(min=1e-12)).float().mean()),
        copy_ratio=copy_ratio,
        wrong_ratio=wrong_ratio,
        ranking=ranking,
        dim=latents.shape[-1],
    )
    frames = latents.flatten(0, 1).flatten(1)
    keep = torch.linspace(0, len(frames) - 1, min(len(frames), most_samples)).long()
    train = (torch.arange(b) < b // 2).repeat_interleave(t)[keep]
    there = {k: v.flatten(0, 1)[keep] for k, v in (objects or {}).items() if bool(torch.isfinite(v).all())}
    wanted = targets_of(poses.flatten(0, 1)[keep], there)
    if b >= 4:
        health.probes = {name: linear_probe(frames[keep], target, train) for name, target in wanted.items()}
        for name in wanted:
            if name.endswith("_xyz"):  # places are seldom linear in a latent
                health.probes[f"{name}_mlp"] = mlp_probe(frames[keep], wanted[name], train)
    health.collapsed, health.warnings = _verdict(
        health, float(std.square().mean().sqrt() / size.clamp(min=1e-12))
    )
    return health


def _verdict(h: Health, spread: float) -> tuple[bool, list[str]]:
    """In order of gravity.  `spread`: how much of the latents' size differs from frame to frame."""
    said: list[str] = []
    if spread < 0.01 or h.deviation < 1e-4:
        said.append(
            f"collapsed: every frame looks the same to it ({100 * spread:.2g} % of the latent differs between frames)"
        )
    elif h.rank < min(3.0, h.dim / 2):
        said.append(f"collapsed: all frames lie on {h.rank:.1f} directions of {h.dim}")
    collapsed = bool(said)
    if not collapsed and h.rank < 0.1 * h.dim and h.rank < 16:
        said.append(
            f"poor: {h.rank:.0f} directions of {h.dim} in use (more regularisation, or more varied data)"
        )
    if h.dead > 0.25 and not collapsed:
        said.append(f"{100 * h.dead:.0f} % of the dimensions never change")
    if h.copy_ratio[0] >= 1:
        said.append(
            f"no better than copying the last frame one step ahead (error ratio {h.copy_ratio[0]:.2f})"
        )
    elif (worse := next((i for i, r in enumerate(h.copy_ratio, 1) if r >= 1), None)) is not None:
        said.append(f"no better than copying the last frame from step {worse} on")
    if h.wrong_ratio[-1] < 1.05:
        said.append(
            f"deaf to actions: another clip's actions predict as well as the true ones (ratio {h.wrong_ratio[-1]:.2f})"
        )
    return collapsed, said


def gates(h: Health) -> dict[str, tuple[float, str, float, bool]]:
    """What a model has to pass before it is given to anybody: figure, "<" or ">", bound, and whether it holds.

    The farthest horizon is taken for the planner's.  A place is read by the better of its probes.
    """
    far = len(h.copy_ratio)
    asked = [
        ("error / copying, 1 step", h.copy_ratio[0], "<", 0.9),
        (f"error / copying, {far} steps", h.copy_ratio[-1], "<", 0.7),
        ("wrong / true actions, 1 step", h.wrong_ratio[0], ">", 1.1),
        (f"wrong / true actions, {far} steps", h.wrong_ratio[-1], ">", 1.5),
        ("true actions first of 16, 1 step", h.ranking[0], ">", 0.35),
        (f"true actions first of 16, {far} steps", h.ranking[-1], ">", 0.7),
        ("rank", h.rank, ">", max(3.0, 0.1 * h.dim)),
    ]
    for thing in sorted(name.removesuffix("_xyz") for name in h.probes if name.endswith("_xyz")):
        read = [h.probes[name].error for name in (f"{thing}_xyz", f"{thing}_xyz_mlp") if name in h.probes]
        asked.append((f"{thing} by a probe, mm", min(read), "<", 15.0))
    return {
        name: (figure, sign, bound, (figure < bound) == (sign == "<")) for name, figure, sign, bound in asked
    }


def on_health(clips: Mapping[str, Any], *, context: int = 3) -> Any:
    """A hook for the training loop: clips with frames [B, T, V, H, W, 3], poses, actions and perhaps objects ->
    a function of (model, step) that gives figures and warnings."""

    def hook(model: Any, step: int) -> tuple[dict[str, float], list[str]]:
        world = getattr(model, "world", model)
        b, t = clips["frames"].shape[:2]
        training = world.training
        world.eval()
        with torch.no_grad():
            latents = torch.cat([world.encode(f) for f in clips["frames"].flatten(0, 1).split(64)]).unflatten(
                0, (b, t)
            )
        health = measure(
            world, latents, clips["poses"], clips["actions"], objects=clips.get("objects"), context=context
        )
        world.train(training)
        return health.figures, health.warnings

    return hook
