"""Which arm: the `env` group of every command that moves one."""

from __future__ import annotations

from typing import Any

from envs import ENGINES, make_arm

from .settings import EnvConfig


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
