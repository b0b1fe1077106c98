"""Energies that no goal can change: limits, table, speed, jerk, a chattering gripper, an unsure model.

Hinges are zero in all good plans and grow with the violation, in the unit that their scale names: keep them in a
`Term` with `scale_from_data=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

from data.types import Imagined, Memory
from planners.actions import ActionSpace, GripperRule


def _bounds(like: Tensor, *values: Sequence[float]) -> list[Tensor]:
    return [torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values]


@dataclass(kw_only=True)
class Workspace:
    """Metres outside the box, summed over axes and steps."""

    low: Sequence[float]
    high: Sequence[float]

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        position = imagined.poses[..., :3]
        low, high = _bounds(position, self.low, self.high)
        return (relu(low - position) + relu(position - high)).sum((-2, -1))


@dataclass(kw_only=True)
class Table:
    """Metres below a height, summed over steps."""

    height_m: float = 0.0

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        return relu(self.height_m - imagined.poses[..., 2]).sum(-1)


@dataclass(kw_only=True)
class JointLimits:
    """Radians within the margin of a joint's limits, summed over joints and steps.

    `joints` turns poses [..., 7] into joints [..., J]; None reads `imagined.extras["joints"]`.
    """

    low: Sequence[float]
    high: Sequence[float]
    margin_rad: float = 0.1
    joints: Callable[[Tensor], Tensor] | None = None

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        if self.joints is not None:
            joints = self.joints(imagined.poses)
        elif "joints" in imagined.extras:
            joints = imagined.extras["joints"]
        else:
            raise ValueError(
                'joint limits need joints: give `joints` (poses -> joints), or a world model with extras["joints"]; '
                f"this one has {sorted(imagined.extras)}"
            )
        low, high = _bounds(joints, self.low, self.high)
        return (relu(low + self.margin_rad - joints) + relu(joints - high + self.margin_rad)).sum((-2, -1))


@dataclass(kw_only=True)
class Speed:
    """Metres and radians per step above what is allowed, summed over steps."""

    max_step_m: float = 0.075
    max_turn_rad: float = 0.35

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        step = (actions[..., :3].square().sum(-1) + 1e-12).sqrt()
        turn = (actions[..., 3:6].square().sum(-1) + 1e-12).sqrt()
        return (relu(step - self.max_step_m) + relu(turn - self.max_turn_rad)).sum(-1)


@dataclass(kw_only=True)
class Jerk:
    """Mean square of the second difference of the steps [m^2], the executed ones before now included."""

    axes: Sequence[int] = (0, 1, 2)

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        before = memory.actions[:, -2:, None].transpose(1, 2).expand(-1, actions.shape[1], -1, -1)
        steps = torch.cat([before, actions], 2)[..., list(self.axes)]
        if steps.shape[2] < 3:
            return actions.new_zeros(actions.shape[:2])
        return steps.diff(dim=2).diff(dim=2).square().mean((-2, -1))


@dataclass(kw_only=True)
class GripperChatter:
    """How often the command of the gripper changes, from the one that holds now."""

    rule: GripperRule = GripperRule.TARGET

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        space = ActionSpace(low=[-1.0] * 6 + [0.0], high=[1.0] * 7, gripper=self.rule)
        targets = space.targets(actions, memory)
        now = space.commanded(memory).round()[:, None, None].expand_as(targets[..., :1])
        return torch.cat([now, targets], -1).diff(dim=-1).abs().sum(-1)


@dataclass(kw_only=True)
class Action:
    """Mean square of the action, each number over its `size`: a plan should not move without a reason."""

    size: Sequence[float] = (0.06, 0.06, 0.06, 0.3, 0.3, 0.3)

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        (size,) = _bounds(actions, self.size)
        return (actions[..., : len(self.size)] / size).square().mean((-2, -1))


@dataclass(kw_only=True)
class Disagreement:
    """How far an ensemble, or futures of sampled z (`planners.futures`), disagree; the mean over steps."""

    def __call__(self, memory: Memory, imagined: Imagined, actions: Tensor) -> Tensor:
        if "disagreement" not in imagined.extras:
            raise ValueError(
                'the world model imagines no extras["disagreement"]: use an ensemble, or wrap it in '
                f"planners.futures.SampledFutures; its extras are {sorted(imagined.extras)}"
            )
        return imagined.extras["disagreement"].mean(-1)
