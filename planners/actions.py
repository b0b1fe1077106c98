"""What may be searched: a box of actions, the axes that move, and the gripper as a persistent switch.

Letters: B problems, K candidates, H horizon, A action size, P gripper plans (2 H of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from data.types import CLOSEDNESS, Memory


class GripperRule(StrEnum):
    """What the last number of an action means to the world model."""

    TARGET = "target"  # the closedness commanded at the end of the step, 0 open .. 1 closed
    DELTA = "delta"  # target minus the closedness before the step
    SWITCH = "switch"  # +1 closes, -1 opens, 0 leaves the command as it is
    CONTINUOUS = "continuous"  # a number like the others, searched without a switch (V-JEPA 2-AC)


@dataclass(kw_only=True)
class ActionSpace:
    """The box of actions, the axes that a planner may move, and the rule of the gripper.

    Axes that are not searched keep the value of the plan that the search starts from (zero, or a proposal).
    """

    low: Sequence[float] = (-0.06, -0.06, -0.06, -0.3, -0.3, -0.3, 0.0)
    """Smallest action: metres, radians, gripper."""
    high: Sequence[float] = (0.06, 0.06, 0.06, 0.3, 0.3, 0.3, 1.0)
    """Largest action: metres, radians, gripper."""
    axes: Sequence[int] = (0, 1, 2, 6)
    """Axes that are searched."""
    gripper: GripperRule = GripperRule.TARGET
    """What the last number means: target | delta | switch | continuous."""
    _cache: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.gripper = GripperRule(self.gripper)
        self.low, self.high = tuple(map(float, self.low)), tuple(map(float, self.high))
        self.axes = tuple(sorted(int(a) for a in self.axes))
        if len(self.low) != len(self.high):
            raise ValueError(
                f"low has {len(self.low)} numbers and high {len(self.high)}; give one each per axis"
            )
        for axis, (low, high) in enumerate(zip(self.low, self.high)):
            if not low <= high:
                raise ValueError(f"axis {axis}: low {low} is above high {high}")
        if len(set(self.axes)) < len(self.axes) or not all(0 <= a < self.size for a in self.axes):
            raise ValueError(f"axes {self.axes} must be different numbers from 0 to {self.size - 1}")
        if self.gripper is not GripperRule.CONTINUOUS and self.size <= CLOSEDNESS:
            raise ValueError(
                f"an action of {self.size} numbers has no gripper at index {CLOSEDNESS}; use gripper=continuous"
            )
        if self.gripper is GripperRule.TARGET and not (
            self.low[CLOSEDNESS] >= 0 and self.high[CLOSEDNESS] <= 1
        ):
            raise ValueError(
                f"gripper targets are closednesses from 0 to 1, the box says {self.low[CLOSEDNESS]} to "
                f"{self.high[CLOSEDNESS]}; mend the box, or use gripper=delta"
            )

    @property
    def size(self) -> int:
        return len(self.low)

    @property
    def switched(self) -> bool:
        """Is the gripper searched as a switch?"""
        return self.gripper is not GripperRule.CONTINUOUS and CLOSEDNESS in self.axes

    @property
    def smooth_axes(self) -> tuple[int, ...]:
        """The axes searched as continuous numbers."""
        return tuple(a for a in self.axes if not (self.switched and a == CLOSEDNESS))

    def box(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high [A] with the type and place of `like`."""
        return self._kept("low", self.low, like), self._kept("high", self.high, like)

    def clip(self, actions: Tensor) -> Tensor:
        """Actions [..., A] within the box; what is not finite becomes the nearest harmless number."""
        low, high = self.box(actions)
        return torch.minimum(torch.maximum(torch.nan_to_num(actions), low), high)

    def take(self, actions: Tensor) -> Tensor:
        """The smooth axes of actions [..., A] -> [..., S]."""
        runs = self._runs()
        if len(runs) == 1:
            return actions[..., runs[0][0] : runs[0][1]]
        return torch.cat([actions[..., first:last] for first, last in runs], -1)

    def put(self, actions: Tensor, values: Tensor) -> Tensor:
        """A copy of actions [..., A] with the smooth axes [..., S] replaced; gradients flow to `values`."""
        actions, done = actions.clone(), 0
        for first, last in self._runs():
            actions[..., first:last] = values[..., done : done + last - first]
            done += last - first
        return actions

    def hold(self, memory: Memory, horizon: int) -> Tensor:
        """[B, H, A] that stays where it is and keeps the command of the gripper."""
        still = memory.poses.new_zeros(len(memory.poses), horizon, self.size)
        if self.gripper is GripperRule.TARGET:
            still[..., CLOSEDNESS] = self.commanded(memory).round()[:, None]
        return self.clip(still)

    def commanded(self, memory: Memory) -> Tensor:
        """The closedness last commanded [B]: what fingers measure around an object says nothing of the command.

        In a memory an action's gripper part is the command less the closedness before it, whatever the rule is.
        """
        if not memory.actions.shape[1]:
            return memory.poses[:, -1, CLOSEDNESS].clamp(0.0, 1.0)
        return (memory.poses[:, -2, CLOSEDNESS] + memory.actions[:, -1, CLOSEDNESS]).clamp(0.0, 1.0)

    def gripper_plans(self, horizon: int, like: Tensor) -> Tensor:
        """All closedness targets [P, H]: start open or closed, switch before step 1, 2, .. or never."""
        step = torch.arange(horizon, device=like.device)
        late = (
            step[None] >= torch.arange(1, horizon + 1, device=like.device)[:, None]
        )  # [H, H], last row: never
        return torch.cat([late, ~late]).to(like.dtype)

    def targets(self, actions: Tensor, memory: Memory) -> Tensor:
        """The closedness targets [B, K, H], 0 or 1, that actions [B, K, H, A] ask for."""
        asked = actions[..., CLOSEDNESS]
        if self.gripper is not GripperRule.TARGET:
            start = (
                self.commanded(memory)
                if self.gripper is GripperRule.SWITCH
                else memory.poses[:, -1, CLOSEDNESS]
            )
            asked = start[:, None, None] + asked.cumsum(-1)
        return (asked > 0.5).to(actions.dtype)

    def with_targets(self, actions: Tensor, targets: Tensor, memory: Memory) -> Tensor:
        """Write closedness targets [B, K, H] into actions [B, K, H, A] by the rule; the actions are changed."""
        if self.gripper is GripperRule.TARGET:
            asked = targets
        else:
            if self.gripper is GripperRule.SWITCH:
                start = self.commanded(memory).round()
            else:
                start = memory.poses[:, -1, CLOSEDNESS]
            before = torch.cat([start[:, None, None].expand_as(targets[..., :1]), targets[..., :-1]], -1)
            asked = targets - before
        actions[..., CLOSEDNESS] = asked.clamp(self.low[CLOSEDNESS], self.high[CLOSEDNESS])
        return actions

    def _runs(self) -> list[tuple[int, int]]:
        """The smooth axes as ranges: slices are several times faster than index tensors."""
        key = ("runs", tuple(self.axes), self.gripper)
        if key in self._cache:
            return self._cache[key]
        runs: list[tuple[int, int]] = self._cache.setdefault(key, [])
        for axis in self.smooth_axes:
            if runs and runs[-1][1] == axis:
                runs[-1] = (runs[-1][0], axis + 1)
            else:
                runs.append((axis, axis + 1))
        return runs

    def _kept(self, name: str, values: Sequence[float], like: Tensor) -> Tensor:
        key = (name, like.dtype, like.device)
        if key not in self._cache:
            self._cache[key] = torch.tensor(values, dtype=like.dtype, device=like.device)
        return self._cache[key]
