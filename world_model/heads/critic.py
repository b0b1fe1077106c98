"""The critic: how many model steps from here to there?  Asymmetric: dropping is quicker than putting back.

`form` says what is learned.  counts: a distribution over numbers of steps, by any function of both states.
quasimetric: a distance that is 0 from a state to itself and obeys the triangle inequality, whatever was learned.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_model.features import POSE_FEATURES, pose_features

from .policy import mlp
from .quasimetric import Quasimetric

FORMS = ("counts", "quasimetric")
BETA_STEPS = (
    4.0  # errors beyond count by their size and not by its square: no demonstration takes the shortest way
)


class Critic(nn.Module):
    """(z, g, pose) -> the number of steps 0 .. horizon; horizon means that many or more.

    A quasimetric has to treat both states alike: it sees no pose but what the latents hold of it.
    """

    def __init__(
        self,
        *,
        tokens: int = 1,
        dim: int = 256,
        horizon: int = 40,
        width: int = 512,
        depth: int = 2,
        dropout: float = 0.1,
        form: str = "counts",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form={form}: no such critic; there are {', '.join(FORMS)}")
        self.horizon, self.form = horizon, form
        if form == "quasimetric":
            self.metric = Quasimetric(tokens * dim, width=width, depth=depth)
            return
        self.net = mlp([3 * tokens * dim + POSE_FEATURES, *[width] * depth, horizon + 1], dropout)
        self.register_buffer("steps", torch.arange(horizon + 1, dtype=torch.float32), persistent=False)
        self.steps: Tensor

    def forward(self, z: Tensor, goal: Tensor, poses: Tensor) -> Tensor:
        """Logits [..., horizon + 1] of the counts."""
        z, goal = z.flatten(-2), goal.flatten(-2)
        return self.net(torch.cat([z, goal, goal - z, pose_features(poses)], -1)).float()

    def steps_to_go(self, z: Tensor, goal: Tensor, poses: Tensor) -> Tensor:
        """The expected number of steps [...]; of a quasimetric more than the horizon where it is that far."""
        if self.form == "quasimetric":
            return self.metric(z.flatten(-2), goal.flatten(-2))
        return self(z, goal, poses).softmax(-1) @ self.steps

    def loss(self, z: Tensor, goal: Tensor, poses: Tensor, steps: Tensor) -> Tensor:
        """Cross-entropy of the counts, or smooth L1 of the quasimetric; `steps` [...] are whole numbers."""
        if self.form == "quasimetric":
            guess = self.steps_to_go(z, goal, poses)
            guess = torch.where(steps >= self.horizon, guess.clamp(max=self.horizon), guess)
            return F.smooth_l1_loss(guess, steps.clamp(0, self.horizon).float(), beta=BETA_STEPS)
        logits = self(z, goal, poses)
        return F.cross_entropy(logits.flatten(0, -2), steps.clamp(0, self.horizon).long().flatten())
