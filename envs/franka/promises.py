"""What a run with a real arm will keep, in words."""

from __future__ import annotations

from ..arm import Limits
from .client import Settings


def promises_of(
    limits: Limits,
    settings: Settings,
    *,
    dry_run: bool,
    speed: tuple[float, float, float],
    patience_s: float,
    max_plan_age_s: float | None,
    how_to_stop: str,
) -> list[str]:
    """`speed`: m/s, rad/s, and what share of the full speed that is."""
    return [
        "DRY RUN: nothing is sent to the arm" if dry_run else "REAL RUN: the arm will move",
        f"workspace {limits.low} to {limits.high} m, table at {limits.table_z} m, tilt <= {limits.max_tilt_rad} rad",
        f"speed <= {speed[0]:.3f} m/s and {speed[1]:.2f} rad/s ({speed[2]:.0%} of full), <= {limits.max_step_m} m a step",
        f"stops at {settings.max_force_n} N or {settings.max_torque_nm} Nm of contact; "
        f"grips with {settings.gripper_force_n} N",
        f"holds when the agent is silent for {patience_s} s, drops plans older than {max_plan_age_s} s; {how_to_stop}",
    ]
