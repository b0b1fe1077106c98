"""Which arm: the `env` group of every command that moves one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from data.types import Conventions
from envs import ENGINES, make_arm
from world_model.checkpoint import check_conventions

from .choices import Engine
from .settings import EnvConfig

log = logging.getLogger(__name__)
REAL = Engine.franka


def is_real(env: EnvConfig) -> bool:
    return env.engine == REAL


def open_arm(
    env: EnvConfig, *, say: Callable[[str], None] = print, keys: bool = True, cameras: Any = None
) -> tuple[Any, Any]:
    """The guarded arm and its driver.  A real one says first what it will keep; `keys`: any key stops it.

    `cameras` are opened already, by name; None: those that `env` names.
    """
    if is_real(env):
        from envs.franka.opening import open_franka

        arm, driver = open_franka(
            env,
            period_s=env.period_s,
            image_size_px=env.image_size_px,
            crop=str(env.crop),
            keys=keys,
            cameras=cameras,
        )
        for line in driver.promises():
            say(line)
        return arm, driver
    if env.engine not in ENGINES:
        raise ValueError(f"no engine {env.engine!r}; there are {', '.join((*ENGINES, REAL))}")
    return make_arm(
        str(env.engine),
        scene=env.scene,
        split=str(env.split),
        cameras=tuple(env.cameras),
        width=env.image_width_px or env.image_size_px,
        height=env.image_size_px,
        period_s=env.period_s,
        limits=env.limits,
    )


def check_agrees(env: EnvConfig, model: Conventions) -> None:
    """Refuse an arm that shows or does other things than the model learned from; its cameras are compared by name."""
    arm = replace(
        model,
        image_size=env.image_size_px,
        crop=str(env.crop),
        period_s=env.period_s,
        frame="base",
        tool="tcp",
    )
    if model.tool != arm.tool:  # off by a hand's length, which the model may bear
        log.warning(
            "the model learned poses of the %s, this arm tells those of the point between the fingertips",
            model.tool,
        )
    check_conventions(replace(model, tool=arm.tool), arm, whose="the arm")


def begin_real(arm: Any, env: EnvConfig) -> Any:
    """What a real arm sees from where it begins: where it is, or its start pose; recovered first when asked."""
    return arm.reset(options={"stay": not env.go_home, "recover": env.recover})


def require_simulated(env: EnvConfig, what: str) -> None:
    if is_real(env):
        raise ValueError(f"{what} needs a simulated arm: env=mujoco or env=pybullet, not env={env.engine}")


def require_motion(env: EnvConfig, what: str) -> None:
    """For what means nothing on an arm that stands still."""
    if is_real(env) and env.dry_run:
        raise ValueError(
            f"{what} moves the arm, and this is a dry run; look at what it promises, keep a hand on the emergency "
            "stop, and add env.dry_run=false env.confirm=true"
        )
