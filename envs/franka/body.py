"""What is known of a Franka's body and of the modes in which it does not move."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..panda import JOINT_HIGH, JOINT_LOW, panda_spec
from .client import Reading

START_POSE = np.array([0.45, 0.0, 0.30, np.pi, 0.0, 0.0, 0.0])
# Where Panda and FR3 both can go.
_FR3_LOW = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])
_FR3_HIGH = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])
_HOW_TO_GO_ON = {
    "Reflex": "look at the arm, then recover: env.recover=true, reset(options={'recover': True}), or Desk",
    "UserStopped": "let go of the robot's stop, when it is safe",
    "Guiding": "somebody guides it: let go of the buttons at the hand",
    "AutomaticErrorRecovery": "it recovers: wait a moment",
}


def joint_ranges(client: str) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest angle [7] of each joint."""
    if client in ("franky", "pylibfranka"):
        return np.maximum(JOINT_LOW, _FR3_LOW), np.minimum(JOINT_HIGH, _FR3_HIGH)
    return JOINT_LOW, JOINT_HIGH


def why_it_does_not_move(reading: Reading) -> tuple[str, str] | None:
    """The mode in words and what to do about it; None where the robot takes motions."""
    remedy = _HOW_TO_GO_ON.get(reading.mode)
    if remedy is None:
        return None
    errors = f" ({', '.join(reading.errors)})" if reading.errors else ""
    return f"the robot is in mode {reading.mode}{errors} and takes no motion", remedy


@functools.cache
def kinematics() -> Any:
    """The arm's model, without anything around it."""
    return panda_spec().compile()
