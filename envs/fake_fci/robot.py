"""The robot's side of the protocol: commands, motions, reflexes and the state that goes out every millisecond."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from ..panda import JOINT_HIGH, JOINT_LOW
from .network import FaultyUdp, Requests
from .physics import HAND_TCP_M, STEP_S, Physics, fr3_description
from .wire import (
    CONNECT,
    CONTROLLERS,
    ERRORS,
    GENERATORS,
    ROBOT_CONNECTED,
    ROBOT_HEADER,
    ROBOT_MODES,
    ROBOT_PORT,
    Dialect,
)

LOST_IN_A_ROW = 20  # packets, after which a Franka gives up the motion
MAX_TOOL_SPEED = 1.7  # m/s
MAX_JOINT_SPEED = np.array([2.175] * 4 + [2.61] * 3)
_START_TOLERANCE_M = 0.01
_THRESHOLDS = struct.Struct("<52d")  # collision behaviour: lower and upper, accelerating and nominal


class Robot:
    """One arm.  `cycle` is its millisecond."""

    def __init__(
        self, host: str, dialect: Dialect, physics: Physics, *, model_library: bytes | None = None
    ) -> None:
        self.dialect = dialect
        self.requests = Requests(host, ROBOT_PORT, ROBOT_HEADER)
        self.udp = FaultyUdp(host)
        self._physics = physics
        self._model_library = model_library
        self._to: tuple[str, int] | None = None
        self.mode, self.generator, self.controller = "Idle", "Idle", "Other"
        self.errors: set[str]
        self.reasons: set[str]
        self._move: tuple[int, int] | None = None  # command and id of the Move under way
        self._asynchronous: np.ndarray | None = None  # joint speeds of the low-rate generator
        self._target: np.ndarray | None = None
        self.number = 0
        self._last_command = 0
        self._torque_limit = self._force_limit = np.zeros(0)
        self.forget()
        self._velocity_c, self._frame_c = np.zeros(6), physics.tool()
        self._acceleration_c = np.zeros(6)
        self._state = np.zeros((), dialect.state)
        self._fill_constants()

    @property
    def moving(self) -> bool:
        return self._move is not None

    # Once a millisecond, in this order: serve, send, receive, then the physics.

    def serve(self) -> None:
        """Accept, answer requests, and hold when the client has gone."""
        if self.requests.accept():
            self._to = None
        requests = self.requests.receive()
        if requests is None:
            self._to = None
            self.stop("Aborted")
            return
        for command, identity, payload in requests:
            self._serve(command, identity, payload)

    def send(self) -> None:
        self.number += 1
        if self._to is not None:
            self.udp.flush()
            self.udp.send(self._describe(), self._to)

    def receive(self, wait: Callable[[], bool]) -> None:
        """Take the command that answers the state sent; `wait` says whether to wait on for it."""
        if not self.moving:
            while self.udp.receive(self.dialect.command.itemsize) is not None:
                pass
            self._extrapolate()
            return
        newest = None
        while True:
            packet = self.udp.receive(self.dialect.command.itemsize)
            if packet is not None:
                command = np.frombuffer(packet, self.dialect.command)[0]
                if command["message_id"] > self._last_command:
                    newest, self._last_command = command, int(command["message_id"])
                continue
            if self._last_command >= self.number or self._asynchronous is not None or not wait():
                break
        self.asked += 1
        if newest is not None:
            self.lost_in_a_row = 0
            self._obey(newest)
        elif self._asynchronous is None:
            self.lost += 1
            self.lost_in_a_row += 1
            self._extrapolate()
            if self.lost_in_a_row >= LOST_IN_A_ROW:
                self.reflex("communication_constraints_violation")
        if self._asynchronous is not None and self._target is not None:
            self._towards_target()

    def watch(self) -> None:
        """After the physics: reflexes of contact and limits."""
        if self.mode == "Reflex":
            return
        physics = self._physics
        if np.any(np.abs(physics.felt_torque) > self._torque_limit):
            self.reflex("joint_reflex")
        elif np.any(np.abs(physics.felt_force) > self._force_limit):
            self.reflex("cartesian_reflex")
        elif self.moving and np.any((physics.q < JOINT_LOW - 0.01) | (physics.q > JOINT_HIGH + 0.01)):
            self.reflex("joint_position_limits_violation")

    def reflex(self, error: str) -> None:
        """Stop as a Franka does: brake, abort the motion, say why, and wait for a recovery."""
        if error not in ERRORS:
            raise ValueError(f"no error {error!r}; there are {', '.join(ERRORS)}")
        self.errors, self.reasons = {error}, {error}
        self.stop("ReflexAborted")
        self.mode = "Reflex"

    def user_stop(self, on: bool) -> None:
        if on:
            self.stop("SafetyPreempted")
            self.mode = "UserStopped"
        elif self.mode == "UserStopped":
            self.mode = "Idle"

    def stop(self, status: str) -> None:
        """End the motion under way and hold where the arm is."""
        move, self._move = self._move, None
        self._physics.hold()
        self._velocity_c[:] = self._acceleration_c[:] = 0
        self._asynchronous = self._target = None
        self.generator, self.controller = "Idle", "Other"
        if self.mode == "Move":
            self.mode = "Idle"
        if move is not None:
            self._answer(*move, self.dialect.move_status[status])

    def forget(self) -> None:
        """No errors, no counts, the thresholds of the factory."""
        self.mode, self.errors, self.reasons = "Idle", set(), set()
        self.lost_in_a_row = self.lost = self.asked = 0
        self._torque_limit, self._force_limit = np.full(7, 100.0), np.full(6, 100.0)

    def cut(self) -> None:
        self.requests.drop(abruptly=True)
        self._to = None
        self.stop("Aborted")

    def silence(self, on: bool) -> None:
        """As when the cable is out: nothing arrives, nothing leaves, nobody is told."""
        self.udp.silent = self.requests.silent = on

    def close(self) -> None:
        self.requests.close()
        self.udp.close()

    def _serve(self, command: int, identity: int, payload: bytes) -> None:
        name = self.dialect.commands[command] if command < len(self.dialect.commands) else "?"
        if name == "Connect":
            version, port = CONNECT.unpack(payload)
            fits = version == self.dialect.version
            self.requests.reply(command, identity, ROBOT_CONNECTED.pack(int(not fits), self.dialect.version))
            self._to = (self.requests.peer, port) if fits else None
        elif name == "Move":
            self._start(command, identity, payload)
        elif name == "StopMove":
            self.stop("Preempted")
            self._answer(command, identity, 0)
        elif name == "AutomaticErrorRecovery":
            refused = self.mode == "UserStopped"
            if not refused:
                self.errors, self.mode = set(), "Idle"
                self._physics.felt_torque[:] = self._physics.felt_force[:] = 0
            self._answer(command, identity, self.dialect.recovery_status["NotPossible"] if refused else 0)
        elif name == "GetRobotModel":
            self.requests.reply(command, identity, b"\0" + fr3_description().encode())
        elif name == "LoadModelLibrary":
            library = self._model_library
            self.requests.reply(command, identity, b"\1" if library is None else b"\0" + library)
        elif name == "GetCartesianLimit":
            self.requests.reply(command, identity, bytes(1 + 19 * 8 + 1))
        else:
            if name == "SetCollisionBehavior":
                values = np.array(_THRESHOLDS.unpack(payload))
                self._torque_limit, self._force_limit = values[21:28], values[46:52]
            self._answer(command, identity, 0)

    def _start(self, command: int, identity: int, payload: bytes) -> None:
        controller, generator, *rest = self.dialect.move.unpack(payload)
        if self.mode != "Idle":
            self._answer(command, identity, self.dialect.move_status["NotPossible"])
            return
        self.generator, self.controller = GENERATORS[generator + 1], CONTROLLERS[controller]
        self.mode, self._move = "Move", (command, identity)
        self._asynchronous = np.array(rest[7:]) if len(rest) > 6 and rest[6] else None
        self._target, self.lost_in_a_row = None, 0
        self._physics.hold()  # a push may have left the arm a little beside where it was told to be
        self._frame_c, self._velocity_c = self._physics.tool(), np.zeros(6)
        self._acceleration_c = np.zeros(6)
        self._last_command = self.number
        self._answer(command, identity, self.dialect.move_status["MotionStarted"])

    def _obey(self, command: np.void) -> None:
        finished = bool(command["motion_generation_finished"])
        if self.dialect.version >= 10:
            finished |= bool(command["torque_command_finished"])
        if finished:
            self.stop("Success")
            return
        physics = self._physics
        if self.controller == "ExternalController":
            physics.drive_torque(command["tau_J_d"])
        elif self.generator == "JointPosition" and self._asynchronous is not None:
            self._target = command["q_c"].copy()
        elif self.generator == "JointPosition":
            self._drive(command["q_c"], (command["q_c"] - physics.q_d) / STEP_S)
        elif self.generator == "JointVelocity":
            self._drive(physics.q_d + STEP_S * command["dq_c"], command["dq_c"])
        elif self.generator == "CartesianPosition":
            self._drive_frame(command["O_T_EE_c"].reshape(4, 4).T)
        elif self.generator == "CartesianVelocity":
            self._drive_frame(_moved(self._frame_c, command["O_dP_EE_c"] * STEP_S))

    def _drive(self, joints: np.ndarray, speed: np.ndarray) -> None:
        steps = max(1, self.lost_in_a_row)
        if np.any(np.abs(speed) > steps * 1.05 * MAX_JOINT_SPEED):
            kind = "joint" if self.generator.startswith("Joint") else "cartesian_motion_generator_joint"
            middle = "_motion_generator" if kind == "joint" else ""
            self.reflex(f"{kind}{middle}_velocity_limits_violation")
            return
        self._physics.drive_joints(joints, speed)

    def _drive_frame(self, frame: np.ndarray) -> None:
        step = np.concatenate([frame[:3, 3] - self._frame_c[:3, 3], _turn(frame, self._frame_c)])
        if self._velocity_c.any() is np.False_ and np.linalg.norm(step[:3]) > _START_TOLERANCE_M:
            self.reflex("cartesian_position_motion_generator_start_pose_invalid")
            return
        if np.linalg.norm(step[:3]) / STEP_S > LOST_IN_A_ROW * MAX_TOOL_SPEED:
            self.reflex("cartesian_motion_generator_velocity_limits_violation")
            return
        velocity = step / STEP_S
        self._acceleration_c = (velocity - self._velocity_c) / STEP_S
        self._velocity_c, self._frame_c = velocity, frame.copy()
        joints, away = self._physics.joints_towards(frame)
        if away > 0.02:
            self.reflex("cartesian_motion_generator_joint_position_limits_violation")
            return
        self._drive(joints, (joints - self._physics.q_d) / STEP_S)

    def _towards_target(self) -> None:
        assert self._target is not None
        assert self._asynchronous is not None
        physics = self._physics
        away = self._target - physics.q_d
        # Slow down over the last tenth of a second, so that the joints arrive instead of bumping.
        speed = np.clip(away / 0.1, -self._asynchronous, self._asynchronous)
        speed = physics.dq_d + np.clip(speed - physics.dq_d, -10 * STEP_S, 10 * STEP_S)
        physics.drive_joints(physics.q_d + speed * STEP_S, speed)

    def _extrapolate(self) -> None:
        """No command: a Franka goes on for a moment, slowing down."""
        physics = self._physics
        if self.moving and self.controller == "ExternalController":
            return  # the last torque stays
        if physics.dq_d.any():
            speed = physics.dq_d * 0.95
            speed[np.abs(speed) < 1e-5] = 0
            physics.drive_joints(physics.q_d + speed * STEP_S, speed)

    def _answer(self, command: int, identity: int, status: int) -> None:
        self.requests.reply(command, identity, bytes([status]))

    def _fill_constants(self) -> None:
        state = self._state
        hand = np.eye(4)
        hand[:2, :2] = np.array([[1, 1], [-1, 1]]) * np.sqrt(0.5)  # the hand sits turned by -45 degrees
        hand[2, 3] = HAND_TCP_M
        state["F_T_EE"] = state["F_T_NE"] = hand.T.ravel()
        state["NE_T_EE"] = state["EE_T_K"] = np.eye(4).ravel()
        state["m_ee"], state["F_x_Cee"] = 0.73, (-0.01, 0.0, 0.03)
        state["I_ee"][[0, 4, 8]] = (0.001, 0.0025, 0.0017)
        state["O_ddP_O"] = (0, 0, -9.81)

    def _describe(self) -> bytes:
        state, physics = self._state, self._physics
        frame = physics.tool()
        state["message_id"] = self.number
        state["O_T_EE"] = state["O_T_EE_d"] = frame.T.ravel()
        state["O_T_EE_c"] = self._frame_c.T.ravel() if self.moving else frame.T.ravel()
        state["O_dP_EE_d"] = state["O_dP_EE_c"] = self._velocity_c
        state["O_ddP_EE_c"] = self._acceleration_c
        state["q"] = state["theta"] = physics.q
        state["dq"] = state["dtheta"] = physics.dq
        state["q_d"], state["dq_d"] = physics.q_d, physics.dq_d
        state["tau_J"], state["tau_J_d"] = physics.tau, physics.tau_d
        state["elbow"] = state["elbow_d"] = state["elbow_c"] = (physics.q[2], -1.0)
        state["tau_ext_hat_filtered"] = physics.felt_torque
        state["O_F_ext_hat_K"] = physics.felt_force
        state["K_F_ext_hat_K"][:3] = frame[:3, :3].T @ physics.felt_force[:3]
        state["K_F_ext_hat_K"][3:] = frame[:3, :3].T @ physics.felt_force[3:]
        state["motion_generator_mode"] = GENERATORS.index(self.generator)
        state["controller_mode"] = CONTROLLERS.index(self.controller)
        state["errors"] = [name in self.errors for name in ERRORS]
        state["reflex_reason"] = [name in self.reasons for name in ERRORS]
        state["robot_mode"] = ROBOT_MODES.index(self.mode)
        state["control_command_success_rate"] = (
            1 - self.lost / self.asked if self.moving and self.asked else 0
        )
        return state.tobytes()


def _turn(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Small rotation vector between two frames."""
    spin = after[:3, :3] @ before[:3, :3].T
    return 0.5 * np.array([spin[2, 1] - spin[1, 2], spin[0, 2] - spin[2, 0], spin[1, 0] - spin[0, 1]])


def _moved(frame: np.ndarray, twist: np.ndarray) -> np.ndarray:
    moved = frame.copy()
    moved[:3, 3] += twist[:3]
    x, y, z = twist[3:]
    spin = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
    left, _, right = np.linalg.svd(spin @ frame[:3, :3])
    moved[:3, :3] = left @ right
    return moved
