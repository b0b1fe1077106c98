"""What the agent is asked to do: goals in order, and how much it may take."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(kw_only=True, slots=True)
class Goal:
    """How the world should look; the pose is known for some goals only and never needed."""

    frames: dict[str, np.ndarray]  # camera name -> uint8 [H, W, 3]
    pose: np.ndarray | None = None  # [7]
    name: str = "goal"


@dataclass(kw_only=True, slots=True)
class Task:
    """One goal picture, or several in order."""

    goals: list[Goal]
    budget_steps: int = 40
    name: str = "task"
    use_poses: bool = False  # whether goal poses, where known, count in the cost
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.goals:
            raise ValueError("a task needs at least one goal; give goal=PICTURE or goal=episode:PATH@ROW")
        if self.budget_steps < 1:
            raise ValueError(f"budget_steps is {self.budget_steps}; the agent needs at least one step")
