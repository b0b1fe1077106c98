"""What a robot client offers to the process that holds it.  numpy only: the client's Python need not have torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np


class ClientError(Exception):
    """The robot or the connection refused; the message is what the client library said."""


@dataclass(kw_only=True)
class Settings:
    """How a client is to drive."""

    host: str = "127.0.0.1"
    armed: bool = False
    """False: nothing that moves is ever sent."""
    patience_s: float = 0.2
    """Longest silence of the agent before the arm holds."""
    translational_stiffness: float = 800.0
    rotational_stiffness: float = 40.0
    damping_ratio: float = 1.5
    """Of the critical damping of 1 kg, which is what both libraries call critical; the arm weighs more at its hand."""
    max_torque_nm: float = 25.0
    """Contact threshold of each joint, above which the robot stops by itself."""
    max_force_n: float = 30.0
    """Contact threshold at the hand."""
    gripper_force_n: float = 20.0
    gripper_speed_m_s: float = 0.1
    gripper: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(kw_only=True)
class Reading:
    """The robot's state at a moment."""

    time_s: float  # monotonic clock of this machine
    frame: list[float]  # O_T_EE, 16 numbers, row major
    joints: list[float]
    mode: str
    errors: list[str]
    force_n: float  # felt at the hand
    success: float  # share of control commands that arrived in time
    width_m: float = 0.08
    max_width_m: float = 0.08
    is_grasped: bool = False
    robot_s: float = 0.0  # the robot's own clock; 0 where it does not tell

    @property
    def closedness(self) -> float:
        return float(np.clip(1.0 - self.width_m / max(self.max_width_m, 1e-6), 0.0, 1.0))


class Follow(Protocol):
    """What a control loop asks for."""

    def begin(self, frame: np.ndarray) -> None:
        """The loop starts here, at rest."""
        ...

    def next(self, dt_s: float) -> np.ndarray | None:
        """The frame [4, 4] after `dt_s` more seconds; None: end the motion."""
        ...

    def speed(self) -> np.ndarray:
        """Speed [6] of that frame: m/s and rad/s, in the base frame."""
        ...


class Client(Protocol):
    """One connection to one robot."""

    loop_s: float  # nominal period of its control loop
    versions: dict[str, str]  # of the library, and of what it speaks to the robot

    def read(self) -> Reading: ...

    def control(self, follow: Follow) -> None:
        """Follow until `follow.next` says None; raise ClientError when the robot ends it."""
        ...

    def move_fingers(self, width_m: float) -> str:
        """Open or close to a width; returns what came of it."""
        ...

    def grasp(self) -> str:
        """Close until something is held or the fingers meet."""
        ...

    def stop_fingers(self) -> None:
        """End a motion of the fingers that another thread waits for; ClientError where the library cannot."""
        ...

    def recover(self) -> None: ...

    def close(self) -> None: ...


def frame_of(columns: Any) -> np.ndarray:
    """[4, 4] of libfranka's 16 numbers, column major."""
    return np.array(columns, dtype=float).reshape(4, 4).T


def names_of_errors(errors: Any) -> list[str]:
    """Names of the flags that are set in a libfranka error object."""
    return [name for name in dir(errors) if not name.startswith("_") and getattr(errors, name, None) is True]


def reading_of(state: Any, frame: np.ndarray, time_s: float) -> Reading:
    """What libfranka's own clients call a state, without its gripper."""
    return Reading(
        time_s=time_s,
        frame=frame.ravel().tolist(),
        joints=np.asarray(state.q).tolist(),
        mode=str(state.robot_mode).split(".")[-1].removeprefix("k"),
        errors=names_of_errors(state.current_errors),
        force_n=float(np.linalg.norm(np.asarray(state.O_F_ext_hat_K)[:3])),
        success=float(state.control_command_success_rate),
        robot_s=state.time.to_sec(),
    )
