"""Arms and worlds: one interface, two physics engines, a real arm, tasks with goal images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .guarded import GuardedArm

ENGINES = ("mujoco", "pybullet")
SETTINGS = ("scene", "split", "cameras", "width", "height", "period_s", "limits")


def make_arm(engine: str = "mujoco", **settings: Any) -> tuple[GuardedArm, Any]:
    """A guarded simulated arm, and its driver, which knows the truth (for judges, experts and ceilings)."""
    from .arm import ArmError
    from .guarded import GuardedArm

    wrong = sorted(set(settings) - set(SETTINGS))
    if wrong:
        raise ArmError(f"an arm has no {', '.join(wrong)}; there are {', '.join(SETTINGS)}")
    limits = settings.pop("limits", None)
    if engine == "mujoco":
        from .mujoco_arm import MujocoDriver

        driver: Any = MujocoDriver(**settings)
    elif engine == "pybullet":
        from .pybullet_arm import PybulletDriver

        driver = PybulletDriver(**settings)
    else:
        raise ArmError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    return GuardedArm(driver, limits=limits), driver
