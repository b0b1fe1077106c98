"""The recipe of the shipped model: predict, roll out, recover the action, reach the goal, stay Gaussian.

loss = |z' - z|^2 + |s' - s|^2 + the same over a roll-out + inverse dynamics + policy + critic + touch + body + SIGReg(z)

Nothing is frozen and no gradient is stopped: SIGReg keeps the latent from collapsing, the inverse dynamics keeps in
it what the arm controls, policy and critic what a goal is about, touch where the thing is (the hand's own senses say
where it was held, and the eye learns to see that place beforehand and afterwards), and body where the hand itself is:
a robot knows that now, but of a goal picture it has to see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from data.types import CLOSEDNESS, Conventions, Memory
from world_model.compact import CompactModel, absolute
from world_model.features import STEP_M
from world_model.heads.body import TABLE_MIDDLE, Body, nearly_absolute
from world_model.heads.critic import Critic
from world_model.heads.policy import Policy
from world_model.losses.inverse_dynamics import InverseDynamics
from world_model.losses.sigreg import sigreg

LUMINANCE = (0.299, 0.587, 0.114)


class PandaModel(nn.Module):
    """The world model with the heads that shape it; the heads are trained again, alone, afterwards."""

    def __init__(self, world: CompactModel) -> None:
        super().__init__()
        self.world = world
        self.inverse = InverseDynamics(tokens=1, dim=world.dim)
        self.policy = Policy(dim=world.dim, places=True)
        self.critic = Critic(dim=world.dim)
        self.touch = nn.Sequential(nn.Linear(world.dim, 256), nn.SiLU(), nn.Linear(256, 3))
        self.body = Body(dim=world.dim)


@dataclass(kw_only=True)
class PandaRecipe:
    """Weights of the terms, and the model's sizes."""

    model: dict | None = None
    """Sizes of the compact model (see world_model.compact)."""
    rollout_from: int = 2
    """Real frames that a roll-out begins with."""
    rollout_weight: float = 1.0
    inverse_weight: float = 0.5
    policy_weight: float = 0.5
    critic_weight: float = 0.1
    touch_weight: float = 2.0
    """Of guessing, from a picture alone, where the thing is that the hand holds sooner or later."""
    body_weight: float = 2.0
    """Of guessing, from a picture alone, where the hand is and how far it is closed."""
    sigreg_weight: float = 1.0
    directions: int = 256
    colour_jitter: float = 0.1
    """Greatest relative change of each channel, the same for all frames of a clip and its goals: another lamp."""
    frame_jitter: float = 0.03
    """The same for each frame by itself, and as much again added (of 255): what a codec or an exposure does.  It
    cannot be predicted, so the latent learns to leave it out."""
    hue_turn: float = 0.0
    """Greatest turn of all hues [degrees], the same for all frames of a clip and its goals: things in other colours."""
    saturation_change: float = 0.0
    """Greatest relative change of how colourful everything is, the same for all frames of a clip and its goals: things
    that stand out less."""

    def build(self, conventions: Conventions) -> nn.Module:
        return self.learner(CompactModel(conventions, **(self.model or {})))

    def learner(self, world: CompactModel) -> PandaModel:
        """A world model, new or trained before, with the heads that shape it."""
        return PandaModel(world)

    def loss(
        self, model: nn.Module, clip: TensorDict, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, PandaModel)
        frames, poses, actions = clip["frames"], clip["poses"], clip["actions"]
        B, T = poses.shape[:2]
        seen = torch.cat([frames, clip["goals"]], 1)
        z = model.world.encode(self._tinted(seen, generator).flatten(0, 1)).unflatten(
            0, (B, -1)
        )  # [B, T + G, 1, D]
        touch = touch_error(model.touch(z[:, :, 0]), clip["held"])
        z, goals = z[:, :T], z[:, T:]
        body = model.body.loss(z, poses)
        told = absolute(actions, poses[:, :-1])

        next_z, next_s = model.world.predict(z[:, :-1], poses[:, :-1], told)
        one_step = (next_z - z[:, 1:]).square().mean()
        pose = _pose_error(next_s, poses[:, 1:])
        seen_frames = self.rollout_from
        memory = Memory(
            latents=z[:, :seen_frames], poses=poses[:, :seen_frames], actions=actions[:, : seen_frames - 1]
        )
        future = model.world.imagine(memory, told[:, None, seen_frames - 1 :])
        rollout = (future.latents[:, 0] - z[:, seen_frames:]).square().mean()
        pose = pose + _pose_error(future.poses[:, 0], poses[:, seen_frames:])
        inverse = model.inverse.loss(z, actions, next_z)

        now = torch.arange(T - 1, device=poses.device)
        wanted = torch.cat([z[:, -1:], goals], 1)  # the clip's own last frame is a goal that is near
        steps = (
            torch.cat([torch.zeros_like(clip["goal_steps"][:, :1]), clip["goal_steps"]], 1)[:, None]
            + (T - 1 - now)[:, None]
        )
        count = wanted.shape[1]
        here = z[:, :-1, None].expand(-1, -1, count, -1, -1)
        there = wanted[:, None].expand(-1, T - 1, -1, -1, -1)
        at = poses[:, :-1, None].expand(-1, -1, count, -1)
        policy = model.policy.loss(here, there, at, told[:, :, None].expand(-1, -1, count, -1))
        critic = model.critic.loss(here, there, at, steps)
        gaussian = sigreg(z, step=step, directions=self.directions, per_step=True)
        loss = (
            one_step
            + pose
            + self.rollout_weight * rollout
            + self.inverse_weight * inverse
            + self.policy_weight * policy
            + self.critic_weight * critic
            + self.touch_weight * touch
            + self.body_weight * body
            + self.sigreg_weight * gaussian
        )
        with torch.no_grad():
            copied = (z[:, 1:] - z[:, :-1]).square().mean()
        figures = {
            "one_step": one_step, "copy_ratio": one_step / copied, "rollout": rollout, "pose": pose,
            "inverse": inverse, "policy": policy, "critic": critic, "touch": touch, "body": body,
            "sigreg": gaussian,
        }  # fmt: skip
        return loss, {name: float(value.detach()) for name, value in figures.items()}

    def _tinted(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, T, V, H, W, 3] in another light."""
        B, T, V = frames.shape[:3]

        def within(greatest: float, *shape: int) -> Tensor:
            drawn = torch.rand(*shape, generator=generator, device=frames.device)
            return greatest * (2 * drawn - 1)

        factor = (1 + within(self.colour_jitter, B, 1, 1, 1, 3)) * (
            1 + within(self.frame_jitter, B, T, V, 1, 3)
        )
        offset = 255 * within(self.frame_jitter, B, T, V, 1, 3)
        mixing = hues_turned(torch.deg2rad(within(self.hue_turn, B, 1, 1)))
        mixing = mixing @ saturated(1 + within(self.saturation_change, B, 1, 1)) * factor
        return _mixed(frames.flatten(0, 2), mixing.flatten(0, 2), offset.flatten(0, 2)).unflatten(
            0, (B, T, V)
        )


def _mixed(frames: Tensor, mixing: Tensor, offset: Tensor) -> Tensor:
    """Every pixel of uint8 [N, H, W, 3] times its frame's mixing [N, 3, 3] plus offset [N, 1, 3], in bfloat16 -> [N, H, W, 3].

    Pixels go through the processor several at a time: three numbers in a row are too few for its matrix units.
    """
    together = gcd(frames[0].numel() // 3, 16)
    wide = torch.einsum("ij,nab->niajb", torch.eye(together, device=frames.device), mixing).flatten(3, 4)
    pixels = frames.reshape(len(frames), -1, 3 * together).bfloat16()
    lit = torch.baddbmm(offset.repeat(1, 1, together).bfloat16(), pixels, wide.flatten(1, 2).bfloat16())
    return lit.clamp_(0, 255).view(frames.shape)


def hues_turned(radians: Tensor) -> Tensor:
    """[..., 3, 3], for rows of RGB: a turn about grey, which stays as it is."""
    cosine, s = radians.cos(), radians.sin() / 3**0.5
    d = (1 - cosine) / 3
    c = cosine + d
    return torch.stack([c, d + s, d - s, d - s, c, d + s, d + s, d - s, c], -1).unflatten(-1, (3, 3))


def saturated(strength: Tensor) -> Tensor:
    """[..., 3, 3], for rows of RGB: as colourful as before times `strength`, and as bright."""
    grey = strength.new_tensor(LUMINANCE)[:, None].expand(3, 3)
    strength = strength[..., None, None]
    return strength * torch.eye(3, device=strength.device) + (1 - strength) * grey


def touch_error(guess: Tensor, held: Tensor) -> Tensor:
    """Mean absolute error in decimetres, nearly, where something is ever held."""
    known = held.isfinite().all(-1)
    gap = (guess.float() - 10 * (held.nan_to_num() - held.new_tensor(TABLE_MIDDLE)))[known]
    return nearly_absolute(gap) if len(gap) else guess.sum() * 0.0


def _pose_error(guess: Tensor, truth: Tensor) -> Tensor:
    """Position in usual steps and closedness in halves, squared."""
    position = (guess[..., :3] - truth[..., :3]) / STEP_M
    closed = 2 * (guess[..., CLOSEDNESS:] - truth[..., CLOSEDNESS:])
    return torch.cat([position, closed], -1).square().mean()
