"""Mode 1: what to do now to get from what is seen to what is wanted, without thinking ahead."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_model.features import POSE_FEATURES, STEP_M, pose_features

from .body import Body

PLACE_FEATURES = 12


def mlp(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Policy(nn.Module):
    """(z, g, pose) -> an action [7] whose last number is the commanded closedness.

    With `places` it says of both pictures where the hand is and reads the way from the one to the other, so that what
    the two get wrong alike (a lamp, a camera a little aside) does not count.
    """

    def __init__(
        self,
        *,
        tokens: int = 1,
        dim: int = 256,
        width: int = 768,
        depth: int = 3,
        dropout: float = 0.1,
        places: bool = False,
    ) -> None:
        super().__init__()
        self.body = Body(tokens=tokens, dim=dim) if places else None
        size = 3 * tokens * dim + POSE_FEATURES + (PLACE_FEATURES if places else 0)
        self.net = mlp([size, *[width] * depth, 4], dropout)

    def forward(self, z: Tensor, goal: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """z, goal [..., N, D], poses [..., 7] -> move [..., 3] in metres, logit of closing [...]."""
        told = [] if self.body is None else [self._way(self.body, z, goal, poses).to(z.dtype)]
        z, goal = z.flatten(-2), goal.flatten(-2)
        out = self.net(torch.cat([z, goal, goal - z, pose_features(poses), *told], -1)).float()
        return STEP_M * out[..., :3], 3.0 * out[..., 3]

    @torch.no_grad()
    def _way(self, body: Body, z: Tensor, goal: Tensor, poses: Tensor) -> Tensor:
        """From where the hand is seen to where it is seen in the goal, coarsely and finely, and how wrong that is here."""
        (here, _), (there, closed) = body(z), body(goal)
        way = (there - here) / STEP_M
        wrong = (here - poses[..., :3]) / STEP_M
        far = 10 * (there[..., 2:] - 0.1)
        return torch.cat(
            [
                way.clamp(-1, 1),
                (way / 5).clamp(-2, 2),
                wrong.clamp(-2, 2),
                far,
                closed[..., None],
                way.norm(dim=-1, keepdim=True).clamp(max=5.0),
            ],
            -1,
        )

    def act(self, z: Tensor, goal: Tensor, poses: Tensor) -> Tensor:
        """[..., 7]; the rotation stays."""
        move, closing = self(z, goal, poses)
        action = torch.zeros(*move.shape[:-1], 7, dtype=move.dtype, device=move.device)
        action[..., :3] = move
        action[..., 6] = closing.sigmoid()
        return action

    def loss(self, z: Tensor, goal: Tensor, poses: Tensor, actions: Tensor) -> Tensor:
        """Smooth L1 of the move in steps (nearly L1: one of two ways, not their mean), cross-entropy of the gripper; actions carry the commanded closedness."""
        move, closing = self(z, goal, poses)
        moved = F.smooth_l1_loss(move / STEP_M, actions[..., :3] / STEP_M, beta=0.2)
        closed = F.binary_cross_entropy_with_logits(closing, actions[..., 6].clamp(0, 1))
        return moved + 0.3 * closed + (0.0 if self.body is None else self.body.loss(z, poses))
