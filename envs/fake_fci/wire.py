"""What travels between libfranka and a controller, for both generations of the robot.

Version 5 is the Panda (FER, libfranka 0.9), version 10 the FR3 (libfranka 0.15 to 0.21); both have gripper
version 3.  Everything is little endian and packed.  Commands go over TCP 1337 and 1338; a robot state goes out by
UDP every millisecond and a command answers it, carrying the state's message id.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

ROBOT_PORT, GRIPPER_PORT = 1337, 1338
GRIPPER_VERSION = 3

ROBOT_HEADER = struct.Struct("<III")  # command, id, size with the header
GRIPPER_HEADER = struct.Struct("<HII")
CONNECT = struct.Struct("<HH")  # version, UDP port of the client
ROBOT_CONNECTED = struct.Struct("<BH")  # status, version
GRIPPER_CONNECTED = struct.Struct("<HH")
GRIPPER_STATE = np.dtype(
    [
        ("message_id", "<u4"),
        ("width", "<f8"),
        ("max_width", "<f8"),
        ("is_grasped", "?"),
        ("temperature", "<u2"),
    ]
)
GRIPPER_COMMANDS = ("Connect", "Homing", "Grasp", "Move", "Stop")
GRIPPER_STATUS = {"Success": 0, "Fail": 1, "Unsuccessful": 2, "Aborted": 3}
GRASP = struct.Struct("<5d")  # width, inner and outer tolerance, speed, force
GRIPPER_MOVE = struct.Struct("<2d")  # width, speed

_COMMON = ("Connect", "Move", "StopMove")
_SETTERS = (
    "SetCollisionBehavior",
    "SetJointImpedance",
    "SetCartesianImpedance",
    "SetGuidingMode",
    "SetEEToK",
    "SetNEToEE",
    "SetLoad",
)
ROBOT_MODES = ("Other", "Idle", "Move", "Guiding", "Reflex", "UserStopped", "AutomaticErrorRecovery")
GENERATORS = ("Idle", "JointPosition", "JointVelocity", "CartesianPosition", "CartesianVelocity", "None")
CONTROLLERS = ("JointImpedance", "CartesianImpedance", "ExternalController", "Other")

# In the order of the flags in a state.
ERRORS = (
    "joint_position_limits_violation",
    "cartesian_position_limits_violation",
    "self_collision_avoidance_violation",
    "joint_velocity_violation",
    "cartesian_velocity_violation",
    "force_control_safety_violation",
    "joint_reflex",
    "cartesian_reflex",
    "max_goal_pose_deviation_violation",
    "max_path_pose_deviation_violation",
    "cartesian_velocity_profile_safety_violation",
    "joint_position_motion_generator_start_pose_invalid",
    "joint_motion_generator_position_limits_violation",
    "joint_motion_generator_velocity_limits_violation",
    "joint_motion_generator_velocity_discontinuity",
    "joint_motion_generator_acceleration_discontinuity",
    "cartesian_position_motion_generator_start_pose_invalid",
    "cartesian_motion_generator_elbow_limit_violation",
    "cartesian_motion_generator_velocity_limits_violation",
    "cartesian_motion_generator_velocity_discontinuity",
    "cartesian_motion_generator_acceleration_discontinuity",
    "cartesian_motion_generator_elbow_sign_inconsistent",
    "cartesian_motion_generator_start_elbow_invalid",
    "force_controller_desired_force_tolerance_violation",
    "start_elbow_sign_inconsistent",
    "communication_constraints_violation",
    "power_limit_violation",
    "cartesian_motion_generator_joint_position_limits_violation",
    "cartesian_motion_generator_joint_velocity_limits_violation",
    "cartesian_motion_generator_joint_velocity_discontinuity",
    "cartesian_motion_generator_joint_acceleration_discontinuity",
    "cartesian_position_motion_generator_invalid_frame",
    "controller_torque_discontinuity",
    "joint_p2p_insufficient_torque_for_planning",
    "tau_j_range_violation",
    "instability_detected",
    "joint_move_in_wrong_direction",
    "cartesian_spline_motion_generator_violation",
    "joint_via_motion_generator_planning_joint_limit_violation",
    "base_acceleration_initialization_timeout",
    "base_acceleration_invalid_reading",
)

_STATE = (
    ("O_T_EE", 16), ("O_T_EE_d", 16), ("F_T_EE", 16), ("EE_T_K", 16), ("F_T_NE", 16), ("NE_T_EE", 16),
    ("m_ee", 1), ("I_ee", 9), ("F_x_Cee", 3), ("m_load", 1), ("I_load", 9), ("F_x_Cload", 3),
    ("elbow", 2), ("elbow_d", 2), ("tau_J", 7), ("tau_J_d", 7), ("dtau_J", 7),
    ("q", 7), ("q_d", 7), ("dq", 7), ("dq_d", 7), ("ddq_d", 7),
    ("joint_contact", 7), ("cartesian_contact", 6), ("joint_collision", 7), ("cartesian_collision", 6),
    ("tau_ext_hat_filtered", 7), ("O_F_ext_hat_K", 6), ("K_F_ext_hat_K", 6), ("O_dP_EE_d", 6), ("O_ddP_O", 3),
    ("elbow_c", 2), ("delbow_c", 2), ("ddelbow_c", 2), ("O_T_EE_c", 16), ("O_dP_EE_c", 6), ("O_ddP_EE_c", 6),
    ("theta", 7), ("dtheta", 7),
)  # fmt: skip


def _state_dtype(number: str, accelerometers: bool) -> np.dtype:
    fields: list[tuple] = [("message_id", "<u8")]
    fields += [(name, number, (size,)) if size > 1 else (name, number) for name, size in _STATE]
    if accelerometers:
        fields += [("accelerometer_top", number, (6, 3)), ("accelerometer_bottom", number, (6, 3))]
    fields += [("motion_generator_mode", "u1"), ("controller_mode", "u1")]
    fields += [("errors", "?", (41,)), ("reflex_reason", "?", (41,)), ("robot_mode", "u1")]
    return np.dtype([*fields, ("control_command_success_rate", number)])


def _command_dtype(torque_finished: bool) -> np.dtype:
    fields: list[tuple] = [
        ("message_id", "<u8"),
        ("q_c", "<f8", (7,)),
        ("dq_c", "<f8", (7,)),
        ("O_T_EE_c", "<f8", (16,)),
        ("O_dP_EE_c", "<f8", (6,)),
        ("elbow_c", "<f8", (2,)),
        ("valid_elbow", "?"),
        ("motion_generation_finished", "?"),
        ("tau_J_d", "<f8", (7,)),
    ]
    return np.dtype([*fields, ("torque_command_finished", "?")] if torque_finished else fields)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One version of the robot's protocol."""

    version: int
    commands: tuple[str, ...]  # by id
    move_status: dict[str, int]
    recovery_status: dict[str, int]
    state: np.dtype
    command: np.dtype
    move: struct.Struct  # controller, generator, six tolerances [, asynchronous, seven velocities]


PANDA = Dialect(
    version=5,
    commands=(
        *_COMMON,
        "GetCartesianLimit",
        *_SETTERS,
        "SetFilters",
        "AutomaticErrorRecovery",
        "LoadModelLibrary",
    ),
    move_status={
        "Success": 0, "MotionStarted": 1, "Preempted": 2, "NotPossible": 3, "InvalidArgument": 5,
        "ReflexAborted": 6, "EmergencyAborted": 7, "InputErrorAborted": 8, "Aborted": 9, "SafetyPreempted": 7,
    },
    recovery_status={"Success": 0, "NotPossible": 1, "ManualRequired": 2},
    state=_state_dtype("<f8", accelerometers=False),
    command=_command_dtype(torque_finished=False),
    move=struct.Struct("<II6d"),
)  # fmt: skip
FR3 = Dialect(
    version=10,
    commands=(*_COMMON, *_SETTERS, "AutomaticErrorRecovery", "GetRobotModel"),
    move_status={
        "Success": 0, "MotionStarted": 1, "Preempted": 2, "SafetyPreempted": 3, "NotPossible": 5,
        "InvalidArgument": 7, "ReflexAborted": 8, "EmergencyAborted": 9, "InputErrorAborted": 10, "Aborted": 11,
    },
    recovery_status={"Success": 0, "NotPossible": 1, "ManualRequired": 3},
    state=_state_dtype("<f4", accelerometers=True),
    command=_command_dtype(torque_finished=True),
    move=struct.Struct("<II6d?7d"),
)  # fmt: skip
DIALECTS = {d.version: d for d in (PANDA, FR3)}
