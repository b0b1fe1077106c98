"""From a config to a guarded real arm."""

from __future__ import annotations

import signal
from pathlib import Path

from ..arm import ArmError
from ..envelope import check_limits
from ..guarded import GuardedArm
from .cameras import WatchedCamera, open_camera
from .client import Settings
from .config import CLIENT_OF, FrankaConfig
from .driver import FrankaDriver
from .stop import OperatorStop

MAX_PLAN_AGE_STEPS = 10


def open_franka(
    config: FrankaConfig,
    *,
    period_s: float = 0.2,
    image_size_px: int = 128,
    crop: str = "square",
    cameras: dict[str, WatchedCamera] | None = None,
    keys: bool = True,
) -> tuple[GuardedArm, FrankaDriver]:
    """The guarded arm and its driver; say `driver.promises()` before anything moves."""
    if not config.host:
        raise ArmError("which robot? env.host=ADDRESS (Desk's address; for DROID the control computer's)")
    if config.robot not in CLIENT_OF:
        raise ArmError(f"no robot {config.robot!r}; there are {', '.join(CLIENT_OF)}")
    limits = config.limits
    check_limits(limits)
    if cameras is None:
        cameras = {
            name: open_camera(
                address,
                name=name,
                width=config.camera_width_px,
                height=config.camera_height_px,
                rate_hz=config.camera_rate_hz,
                moving=name == "wrist",
                size=image_size_px,
                crop=crop,
            )
            for name, address in config.camera_addresses.items()
        }
    settings = Settings(
        host=config.host,
        translational_stiffness=config.stiffness_n_m,
        max_force_n=config.force_n,
        gripper_force_n=config.gripper_force_n,
        extra=dict(config.extra),
    )
    stop = OperatorStop(
        file=Path(config.stop_file) if config.stop_file else None, keys=keys, signals=(signal.SIGUSR1,)
    )
    driver = FrankaDriver(
        client=config.client or CLIENT_OF[config.robot],
        settings=settings,
        cameras=cameras,
        period_s=period_s,
        patience_s=config.patience_s,
        max_plan_age_s=_max_plan_age_s(config, period_s),
        dry_run=config.dry_run,
        confirm=config.confirm,
        speed=config.speed,
        limits=limits,
        stop=stop,
        python=config.python or None,
        tool_beyond_ee_m=0.0 if config.robot == "droid" else 0.0016,
    )
    return GuardedArm(driver, limits=limits), driver


def _max_plan_age_s(config: FrankaConfig, period_s: float) -> float:
    if config.max_plan_age_s is None:
        return max(MAX_PLAN_AGE_STEPS * period_s, config.patience_s or 0.0)
    if config.max_plan_age_s <= 0:
        raise ArmError(f"env.max_plan_age_s is {config.max_plan_age_s}; it takes seconds above 0, or null")
    return config.max_plan_age_s
