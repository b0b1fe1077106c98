"""From a config to a guarded real arm, and a look at it before the first plan."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..arm import ArmError
from ..envelope import check_limits
from ..guarded import GuardedArm
from .cameras import WatchedCamera, open_camera
from .client import Settings
from .config import CLIENT_OF, FrankaConfig
from .driver import FrankaDriver
from .stop import OperatorStop


def open_franka(
    config: FrankaConfig,
    *,
    period_s: float = 0.2,
    image_size_px: int = 128,
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
        dry_run=config.dry_run,
        confirm=config.confirm,
        speed=config.speed,
        limits=limits,
        stop=stop,
        python=config.python or None,
        tool_beyond_ee_m=0.0 if config.robot == "droid" else 0.0016,
    )
    return GuardedArm(driver, limits=limits), driver


@dataclass(kw_only=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    good: bool
    found: str


def look(driver: FrankaDriver, *, seconds: float = 2.0) -> list[Check]:
    """Connection, units, polarity, cameras and jitter, without moving anything."""
    checks: list[Check] = []
    ages, times = [], set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = driver.state()
        ages.append(time.monotonic() - state.time_s)
        times.add(state.time_s)
        time.sleep(0.01)
    late_ms = 1000 * float(np.percentile(ages, 99))
    found = f"{len(times) / seconds:.0f} readings a second, {late_ms:.0f} ms old at worst"
    checks.append(Check(what="connection", good=late_ms < 1000 * driver.period_s, found=found))
    pose, limits = driver.state().pose, driver.limits
    far = float(np.linalg.norm(pose[:3]))
    checks.append(
        Check(
            what="units", good=0.1 < far < 1.2, found=f"tool {far:.2f} m from the base (a Franka reaches 0.9)"
        )
    )
    inside = bool(np.all(pose[:3] >= limits.low) and np.all(pose[:3] <= limits.high))
    checks.append(Check(what="workspace", good=inside, found=f"tool at {np.round(pose[:3], 3).tolist()} m"))
    tilt = float(np.pi - np.hypot(abs(pose[3]) - np.pi, pose[4]))
    checks.append(
        Check(
            what="pose polarity",
            good=tilt > np.pi - limits.max_tilt_rad,
            found=f"the hand points {np.degrees(np.pi - tilt):.0f} degrees off straight down",
        )
    )
    checks.append(
        Check(
            what="gripper",
            good=0 <= pose[6] <= 1,
            found=f"closedness {pose[6]:.2f}: 0 must be open, look at it",
        )
    )
    for name, report in driver.report()["cameras"].items():
        faults = ", ".join(f"{k} {v}" for k, v in report["faults"].items()) or "no faults"
        checks.append(
            Check(
                what=f"camera {name}",
                good=not report["faults"] and report["rate_hz"] >= 2 / driver.period_s,
                found=f"{report['rate_hz']:.0f} pictures a second, {faults}",
            )
        )
    return checks
