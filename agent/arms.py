"""Which arm: the `env` group of every command that moves one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from envs import ENGINES, make_arm
from envs.scenes import SceneConfig


@dataclass(kw_only=True)
class EnvConfig:
    """A simulated arm and its scenes."""

    engine: str = "mujoco"
    """mujoco or pybullet."""
    split: str = "train"
    """train, or held_out: shapes, colours and camera angles that no training saw."""
    image_size_px: int = 128
    """Height and width of the cameras' pictures."""
    cameras: list[str] = field(default_factory=lambda: ["exterior_left", "wrist"])
    """Cameras that are rendered."""
    period_s: float = 0.2
    """Duration of a model step."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    """What varies from scene to scene."""


def open_arm(env: EnvConfig) -> tuple[Any, Any]:
    """The guarded arm and its driver."""
    if env.engine not in ENGINES:
        raise ValueError(f"no engine {env.engine!r}; there are {', '.join(ENGINES)}")
    return make_arm(
        env.engine,
        scene=env.scene,
        split=env.split,
        cameras=tuple(env.cameras),
        width=env.image_size_px,
        height=env.image_size_px,
        period_s=env.period_s,
    )
