"""FR3 (robot system 5.9 and later): through franky-control, or through pylibfranka.

franky holds the 1 kHz loop in C++ and takes targets at any rate.  pylibfranka leaves the loop to Python and keeps
the interpreter locked while it waits, so that its gripper lives in a process of its own.
"""

from __future__ import annotations

import sys
import threading
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from .client import ClientError, Follow, Reading, Settings, frame_of, reading_of
from .hand import WIDE_M, HandProcess

_TICK_S = 0.01
FR3_PROTOCOL = "10, robot system 5.9 or later"  # a robot of another version is turned away by libfranka


class FrankyClient:
    """Cartesian impedance tracking."""

    loop_s = _TICK_S

    def __init__(self, settings: Settings) -> None:
        import franky  # pyright: ignore[reportMissingImports]

        self._franky: Any = franky
        self.versions = {"franky-control": version("franky-control"), "protocol": FR3_PROTOCOL}
        self._settings = settings
        self._hand, self._hand_s = (WIDE_M, WIDE_M, False), time.monotonic()
        self._robot_s, self._stamp = -1.0, time.monotonic()
        try:
            self._robot: Any = franky.Robot(settings.host, realtime_config=franky.RealtimeConfig.Ignore)
            self._gripper: Any = franky.Gripper(settings.host) if settings.gripper else None
            if settings.armed:
                self._robot.set_collision_behavior(settings.max_torque_nm, settings.max_force_n)
        except Exception as error:
            raise ClientError(str(error)) from error

    def read(self) -> Reading:
        state = self._robot.state
        if (
            robot_s := state.time.to_sec()
        ) != self._robot_s:  # in a motion it tells the last state again and again
            self._robot_s, self._stamp = robot_s, time.monotonic()
        reading = reading_of(state, np.asarray(state.O_T_EE.matrix), self._stamp)
        if self._gripper is not None:
            self._look_at_hand()
            reading.width_m, reading.max_width_m, reading.is_grasped = self._hand
        return reading

    def _look_at_hand(self) -> None:
        """A state of the gripper that is lost is not missed before the patience has run out."""
        try:
            hand = self._gripper.state
        except Exception as error:
            if time.monotonic() - self._hand_s > self._settings.patience_s:
                raise ClientError(f"no state from the gripper: {error}") from error
            return
        self._hand, self._hand_s = (hand.width, hand.max_width, bool(hand.is_grasped)), time.monotonic()

    def control(self, follow: Follow) -> None:
        settings, franky = self._settings, self._franky
        stiffness = [settings.translational_stiffness] * 3 + [settings.rotational_stiffness] * 3
        try:
            tracker: Any = franky.CartesianImpedanceTracker(
                self._robot,
                translational_stiffness=settings.translational_stiffness,
                rotational_stiffness=settings.rotational_stiffness,
                damping=2 * settings.damping_ratio * np.sqrt(stiffness),
                period=_TICK_S,
            )
            follow.begin(np.asarray(self._robot.state.O_T_EE.matrix))
            before = self._robot.state.time.to_sec()
            while tracker.tick():
                # The robot's clock, not the wall's: when its states stop coming, the targets stop, too.
                now = self._robot.state.time.to_sec()
                frame, before = follow.next(now - before), now
                if frame is None:
                    tracker.stop()
                    return
                # With the speed fed forward the damping does not hold the arm back behind a moving target.
                speed = follow.speed()
                tracker.set_target(franky.Affine(frame), franky.Twist(speed[:3], speed[3:]))
            self._robot.join_motion()
            raise ClientError("the tracking motion ended by itself")
        except ClientError:
            raise
        except Exception as error:
            raise ClientError(str(error)) from error

    def move_fingers(self, width_m: float) -> str:
        return self._fingers("move", width_m, self._settings.gripper_speed_m_s)

    def grasp(self) -> str:
        settings = self._settings
        return self._fingers(
            "grasp", 0.0, settings.gripper_speed_m_s, settings.gripper_force_n, WIDE_M, WIDE_M
        )

    def stop_fingers(self) -> None:
        if self._gripper is not None:
            self._gripper.stop()

    def _fingers(self, verb: str, *arguments: float) -> str:
        if self._gripper is None:
            return "no gripper"
        try:
            return "done" if getattr(self._gripper, verb)(*arguments) else "blocked or empty"
        except Exception as error:
            return f"refused: {error}"

    def recover(self) -> None:
        self._robot.recover_from_errors()
        deadline = time.monotonic() + 1.0  # the states that wait in the socket are from before
        while errors := self.read().errors:
            if time.monotonic() > deadline:
                raise ClientError(
                    f"the robot did not recover from {', '.join(errors)}; look at its lights and at Desk"
                )
            time.sleep(0.02)

    def close(self) -> None:
        self._gripper = None
        self._robot = None


class PylibfrankaClient:
    """Cartesian pose control, a thousand frames a second from Python."""

    loop_s = 0.001

    def __init__(self, settings: Settings) -> None:
        import pylibfranka  # pyright: ignore[reportMissingImports]

        sys.setswitchinterval(0.0005)  # other threads take the interpreter for at most half a millisecond
        self._lib, self._settings = pylibfranka, settings
        self.versions = {"pylibfranka": version("pylibfranka"), "protocol": FR3_PROTOCOL}
        self._hand = HandProcess("pylibfranka", settings) if settings.gripper else None
        self._access = threading.Lock()  # the library refuses to read idly while a motion starts
        self._in_control = False
        try:
            self._robot: Any = pylibfranka.Robot(settings.host, pylibfranka.RealtimeConfig.kIgnore)
            if settings.armed:
                torque, force = [settings.max_torque_nm] * 7, [settings.max_force_n] * 6
                self._robot.set_collision_behavior(torque, torque, force, force)
            self._state, self._stamp = self._robot.read_once(), time.monotonic()
        except Exception as error:
            self.close()
            raise ClientError(str(error)) from error

    def read(self) -> Reading:
        with self._access:
            if not self._in_control:
                try:
                    self._state = self._robot.read_once()
                except Exception as error:
                    raise ClientError(str(error)) from error
                self._stamp = time.monotonic()
        state = self._state
        reading = reading_of(state, frame_of(state.O_T_EE), self._stamp)
        if self._hand is not None:
            self._hand.describe(reading)
        return reading

    def control(self, follow: Follow) -> None:
        lib = self._lib
        try:
            with self._access:
                self._in_control, begun = True, False
                active = self._robot.start_cartesian_pose_control(lib.ControllerMode.CartesianImpedance)
            while True:
                self._state, elapsed = active.readOnce()
                self._stamp = time.monotonic()
                if not begun:
                    follow.begin(frame_of(self._state.O_T_EE_c))
                    begun, last = True, self._state.O_T_EE_c
                frame = follow.next(elapsed.to_sec())
                command = lib.CartesianPose(last if frame is None else frame.T.ravel().tolist())
                command.motion_finished = frame is None
                last = command.O_T_EE
                active.writeOnce(command)
                if frame is None:
                    return
        except Exception as error:
            raise ClientError(str(error)) from error
        finally:
            self._in_control = False

    def move_fingers(self, width_m: float) -> str:
        return self._hand.ask("move", width_m) if self._hand else "no gripper"

    def grasp(self) -> str:
        return self._hand.ask("grasp", 0.0) if self._hand else "no gripper"

    def stop_fingers(self) -> None:
        raise ClientError("pylibfranka lets nobody in while fingers move; they end where they were sent")

    def recover(self) -> None:
        try:
            self._robot.automatic_error_recovery()
        except Exception as error:
            raise ClientError(str(error)) from error

    def close(self) -> None:
        if self._hand is not None:
            self._hand.close()
        self._robot = None
