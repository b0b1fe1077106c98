"""Pretraining without actions: predict the hidden part of a video (V-JEPA) or of a frame (I-JEPA) in latent space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict
from torch import Tensor, nn

from data.types import Conventions
from world_model.dense import DenseModel, normalise_pixels
from world_model.ema import EMA
from world_model.losses import LONG, SHORT, Mask, masked_prediction, multiblock_mask, tube_mask
from world_model.losses.masks import Grid
from world_model.predictors.masked import MaskedPredictor, MaskedPredictorConfig
from world_model.train.recipes import Learner, Sizes, numbers


@dataclass(kw_only=True)
class Masked:
    """L1 between the predictor's guess and the tokens of an averaged copy of the encoder, at hidden places."""

    model: Sizes = field(default_factory=lambda: Sizes(kind="dense"))
    still: bool = False
    """Single frames with I-JEPA's blocks instead of video with V-JEPA's tubes."""
    predictor_dim: int = 192
    predictor_depth: int = 4
    predictor_heads: int = 6
    power: float = 1.0
    momentum: float = 0.998
    """Of the averaged copy at the first step; it rises to `momentum_end`."""
    momentum_end: float = 1.0
    momentum_steps: int = 100_000
    """Steps over which it rises."""

    def build(self, conventions: Conventions) -> Learner:
        return self.learner(self.model.world(conventions))

    def learner(self, world: Any) -> Learner:
        encoder = world.encoder
        predictor = MaskedPredictor(
            MaskedPredictorConfig(
                latent_dim=encoder.config.dim, dim=self.predictor_dim, depth=self.predictor_depth,
                heads=self.predictor_heads, rope=encoder.config.rope,
            )
        )  # fmt: skip
        blind = DenseModel(world.conventions, encoder=encoder, normalise=world.normalise)
        return Learner(blind, predictor=predictor, teacher=EMA(encoder))

    def loss(
        self, model: nn.Module, clip: TensorDict, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(model, Learner)
        encoder, predictor = model.world.encoder, model.helpers["predictor"]
        device = clip["frames"].device
        pick = torch.Generator().manual_seed(
            int(torch.randint(2**62, (), generator=generator, device=generator.device))
        )
        video = self._video(clip["frames"], pick)  # [B, 3, T, H, W]
        grid = encoder.grid(*video.shape[2:])
        targets = model.helpers["teacher"](video)
        errors = []
        for kind, mask in enumerate(self._masks(grid, len(video), pick)):
            context, hidden = mask.context.to(device), tuple(ids.to(device) for ids in mask.targets)
            seen = encoder(video, ids=context)
            guesses = [predictor(seen, context, ids, grid, kind=kind)[0] for ids in hidden]
            here = Mask(context=context, targets=hidden)
            errors.append(masked_prediction(guesses, targets, here, power=self.power))
        loss = torch.stack(errors).mean()
        spread = targets.float().flatten(0, 1).std(0).mean()
        return loss, numbers({"masked": loss, "target_std": spread})

    def after_step(self, model: Learner, step: int) -> None:
        share = min(step / self.momentum_steps, 1.0)
        teacher: Any = model.helpers["teacher"]
        teacher.update(model.world.encoder, self.momentum + share * (self.momentum_end - self.momentum))

    def result(self, model: Learner) -> nn.Module:
        """What is kept: the averaged encoder, as V-JEPA 2-AC starts from."""
        teacher: Any = model.helpers["teacher"]
        return DenseModel(model.world.conventions, encoder=teacher.target, normalise=model.world.normalise)

    def _video(self, frames: Tensor, pick: torch.Generator) -> Tensor:
        """Each view on its own: uint8 [B, T, V, H, W, 3] -> pixels [B * V, 3, T, H, W]."""
        if self.still:
            at = int(torch.randint(frames.shape[1], (), generator=pick))
            frames = frames[:, at : at + 1]
        pixels = normalise_pixels(frames.transpose(1, 2).flatten(0, 1), torch.float32)  # [B V, T, 3, H, W]
        return pixels.transpose(1, 2)

    def _masks(self, grid: Grid, batch: int, pick: torch.Generator) -> list[Mask]:
        """This process's share of the masks of all processes, which draw the same ones."""
        size, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        if self.still:
            masks = [multiblock_mask(grid, batch * size, pick)]
        else:
            masks = [tube_mask(grid, batch * size, pick, tubes) for tubes in (SHORT, LONG)]
        mine = slice(rank * batch, (rank + 1) * batch)
        return [Mask(context=m.context[mine], targets=tuple(t[mine] for t in m.targets)) for m in masks]
