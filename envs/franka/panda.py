"""Panda (FER, robot system 4.2): through panda-python.

`mode: impedance` uses its C++ Cartesian impedance controller, which needs the model library that the robot serves.
`mode: pose` sends frames a thousand times a second from a Python callback through its libfranka layer.
"""

from __future__ import annotations

import sys
import threading
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from .client import ClientError, Follow, Reading, Settings, frame_of, reading_of
from .hand import HandProcess
from .trajectory import rotation_about

_TICK_S = 0.01


class PandaClient:
    """One Panda."""

    def __init__(self, settings: Settings) -> None:
        import panda_py  # pyright: ignore[reportMissingImports]
        from panda_py import controllers, libfranka  # pyright: ignore[reportMissingImports]

        sys.setswitchinterval(0.0005)  # other threads take the interpreter for at most half a millisecond
        self._controllers, self._lib, self._settings = controllers, libfranka, settings
        self.versions = {"panda-python": version("panda-python"), "protocol": "5, robot system 4.2"}
        self.mode = settings.extra.get("mode", "impedance")
        if self.mode not in ("impedance", "pose"):
            raise ClientError(f"mode {self.mode!r} for a Panda; there are impedance and pose")
        self.loop_s = _TICK_S if self.mode == "impedance" else 0.001
        # One thread at a time in the library, and in a motion only the one that drives: a thread that waits for its
        # lock keeps Python's, which the other one needs to return.
        self._access = threading.Lock()
        self._in_control = False
        self._robot_s, self._stamp = -1.0, time.monotonic()
        self._panda: Any = None
        self._hand = HandProcess("panda", settings) if settings.gripper else None
        try:
            if self.mode == "impedance":
                self._panda = panda_py.Panda(settings.host)
                self._robot: Any = self._panda.get_robot()
            else:
                self._robot = libfranka.Robot(settings.host, libfranka.RealtimeConfig.kIgnore)
            if settings.armed:
                torque, force = [settings.max_torque_nm] * 7, [settings.max_force_n] * 6
                self._robot.set_collision_behavior(torque, torque, torque, torque, force, force, force, force)
            self._refresh()
        except Exception as error:
            self.close()
            raise ClientError(str(error)) from error

    def _refresh(self) -> None:
        if self._panda is None:
            self._state = self._robot.read_once()
        else:
            if not self._in_control:
                self._panda.refresh_state()
            self._state = self._panda.get_state()
        if (
            robot_s := self._state.time.to_sec()
        ) != self._robot_s:  # in a motion it may be the last one again
            self._robot_s, self._stamp = robot_s, time.monotonic()

    def read(self) -> Reading:
        with self._access:
            if not self._in_control:
                try:
                    self._refresh()
                except Exception as error:
                    raise ClientError(str(error)) from error
        state = self._state
        reading = reading_of(state, frame_of(state.O_T_EE), self._stamp)
        if self._hand is not None:
            self._hand.describe(reading)
        return reading

    def control(self, follow: Follow) -> None:
        try:
            if self._panda is not None:
                self._impedance(follow)
            else:
                self._pose(follow)
        except ClientError:
            raise
        except Exception as error:
            raise ClientError(str(error)) from error
        finally:
            self._in_control = False

    def _impedance(self, follow: Follow) -> None:
        assert self._panda is not None
        move, turn = self._settings.translational_stiffness, self._settings.rotational_stiffness
        stiffness, ratio = np.array([move] * 3 + [turn] * 3), self._settings.damping_ratio
        lead_s = 2.0 * ratio / np.sqrt(stiffness)  # damping over stiffness
        controller = self._controllers.CartesianImpedance(impedance=np.diag(stiffness), damping_ratio=ratio)
        with self._access:
            self._refresh()
            follow.begin(frame_of(self._state.O_T_EE))
            posture = np.array(self._state.q)
            self._panda.start_controller(controller)
            self._in_control = True
        due, before = time.perf_counter(), self._state.time.to_sec()
        while True:
            due = max(due + _TICK_S, time.perf_counter() - _TICK_S)
            time.sleep(max(0.0, due - time.perf_counter()))
            self._panda.raise_error()
            self._refresh()
            # The robot's clock, not the wall's: when its states stop coming, the targets stop, too.
            now = self._state.time.to_sec()
            frame, before = follow.next(max(0.0, now - before)), now
            if frame is None:
                with self._access:
                    self._panda.stop_controller()
                    self._in_control = False
                return
            # It knows no speeds: a target ahead by damping over stiffness keeps the damping from holding back.
            ahead = follow.speed() * lead_s
            turned = rotation_about(ahead[3:]) @ frame[:3, :3]
            controller.set_control(frame[:3, 3] + ahead[:3], _quaternion(turned), posture)

    def _pose(self, follow: Follow) -> None:
        lib, begun, last = self._lib, False, None
        with self._access:
            self._in_control = True

        def step(state: Any, elapsed: Any) -> Any:
            nonlocal begun, last
            self._state, self._stamp = state, time.monotonic()
            if not begun:
                follow.begin(frame_of(state.O_T_EE_c))
                begun, last = True, list(state.O_T_EE_c)
            frame = follow.next(elapsed.to_sec())
            last = last if frame is None else frame.T.ravel().tolist()
            command = lib.CartesianPose(last)
            command.motion_finished = frame is None
            return command

        self._robot.control_cartesian_pose(step, lib.ControllerMode.kCartesianImpedance)

    def move_fingers(self, width_m: float) -> str:
        return self._hand.ask("move", width_m) if self._hand else "no gripper"

    def grasp(self) -> str:
        return self._hand.ask("grasp", 0.0) if self._hand else "no gripper"

    def stop_fingers(self) -> None:
        if self._hand is not None:
            self._hand.stop()

    def recover(self) -> None:
        try:
            with self._access:
                if self._panda is None:
                    self._robot.automatic_error_recovery()
                else:  # its own way also ends the controller that failed, without which the next one does nothing
                    self._panda.stop_controller()
                    self._panda.recover()
        except Exception as error:
            raise ClientError(str(error)) from error

    def close(self) -> None:
        if self._hand is not None:
            self._hand.close()
        self._panda = self._robot = None


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """xyzw of a rotation matrix, from the largest of its four components."""
    m = rotation
    squares = 1 + np.array(
        [m[0, 0] - m[1, 1] - m[2, 2], m[1, 1] - m[0, 0] - m[2, 2], m[2, 2] - m[0, 0] - m[1, 1], np.trace(m)]
    )
    products = np.array(
        [
            [squares[0], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], squares[1], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squares[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
        ]
    )
    best = products[int(np.argmax(squares))]
    return best / np.linalg.norm(best)
