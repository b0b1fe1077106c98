"""The one interface between the agent and an arm, simulated or real.

Two protocols.  A `Driver` is what an engine or a robot client implements: it goes where it is told.  An `Arm` is
what everybody else sees: `envs.guarded.GuardedArm` wraps a driver and is the only public arm, so that nothing
reaches a motor without having passed the safety envelope (`envs.envelope`).

The contract of an Arm:
  * `observe()` never moves anything and returns frames, measured pose and commanded pose of one moment.
  * `act(action)` adds `action` [7] to the last *commanded* pose (re-anchored to the measured pose when position
    differs by more than 2 cm), passes the result through the envelope and drives there smoothly over one
    `period_s`.  A zero action holds still and keeps squeezing.  Non-finite or wrongly shaped actions raise
    `Refused` and the arm holds.
  * `reset(...)` brings the arm to its start pose; simulated arms also lay out the scene, from a seed.
  * `stop()` holds now and refuses every later `act` until `reset`.  `close()` releases everything; twice is fine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from data.types import Camera, Observation


class ArmError(Exception):
    """Something about an arm that the user can mend; the message says how."""


class Refused(ArmError):
    """A command that was not carried out; the arm holds."""


class Stopped(Refused):
    """Somebody stopped the arm: nothing will be carried out until `reset`."""


@dataclass(kw_only=True, slots=True)
class Limits:
    """The safety envelope: what no commanded pose may leave.  Lengths in metres, angles in radians."""

    low: tuple[float, float, float] = (0.25, -0.35, 0.012)  # workspace box of the tool point
    high: tuple[float, float, float] = (0.75, 0.35, 0.50)
    max_step_m: float = 0.075  # Euclidean, per model step
    max_turn_rad: float = 0.35  # per model step
    max_tilt_rad: float = 0.6  # cone around straight down
    table_z: float = 0.0
    joint_margin_rad: float = 0.05
    max_joint_speed_rad_s: float = 1.6  # mean over a model step, from the measured joints
    max_gripper_force_n: float = 40.0


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What became of an action: the pose commanded in the end and why it differs from the one asked for."""

    commanded: np.ndarray  # [7]
    clipped: bool = False
    notes: list[str] = field(default_factory=list)


class Driver(Protocol):
    """A machine that goes where it is told.  Only `GuardedArm` may call it.

    Its observations' `commanded` is the pose it was last told to go to; after `hold` that is the measured position
    and rotation with the gripper as it was commanded.  `hold` may be called from any thread at any moment.
    """

    period_s: float
    joint_low: np.ndarray  # [7] rad
    joint_high: np.ndarray  # [7] rad

    @property
    def cameras(self) -> Mapping[str, Camera]: ...

    def observe(self) -> Observation: ...

    def state(self) -> Observation:
        """What `observe` returns, without the frames: cheap.  The guard reads it before every action."""
        ...

    def joints_for(self, pose: np.ndarray) -> np.ndarray | None:
        """Joints [7] that reach `pose` from here, or None where there are none."""
        ...

    def go(self, pose: np.ndarray, *, duration_s: float, blocking: bool = True) -> None:
        """Move smoothly to `pose` [7] within `duration_s`."""
        ...

    def hold(self) -> None: ...

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation: ...

    def close(self) -> None: ...


class Arm(Protocol):
    """See the module's text for the contract; `envs.check_arm.check_arm(arm)` tests it."""

    period_s: float
    limits: Limits

    @property
    def cameras(self) -> Mapping[str, Camera]: ...

    def observe(self) -> Observation: ...

    def act(self, action: np.ndarray, *, blocking: bool = True) -> Outcome: ...

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class Simulated(Protocol):
    """What a simulated driver offers beyond a real one: the truth, for judges, experts and ceilings only."""

    def object_poses(self) -> dict[str, np.ndarray]:
        """name -> [7] xyz + xyzw in the base frame."""
        ...

    def touching(self) -> set[str]:
        """Names of the objects that a finger touches."""
        ...

    def move_object(self, name: str, offset: np.ndarray) -> None:
        """Push an object by `offset` [2] metres on the table, as a passer-by would."""
        ...

    def save(self) -> Any: ...

    def restore(self, state: Any) -> None: ...

    def portrait(self, width: int = 640, height: int = 480) -> np.ndarray:
        """A picture for people: full meshes and shadows."""
        ...
