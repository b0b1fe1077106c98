"""A real Franka as a `Driver`: frames from cameras, motion through a servant process, nothing moved until told."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.types import Camera, Observation

from ..arm import ArmError, Limits, Refused
from ..controller import InverseKinematics
from ..poses import pose_from, rotation_from_pose
from .body import START_POSE, joint_ranges, kinematics, why_it_does_not_move
from .cameras import WatchedCamera
from .client import Reading, Settings
from .config import FIRST_SPEED
from .link import Link
from .promises import promises_of
from .stop import OperatorStop
from .trajectory import shortest_duration

MAX_SPEED_M_S, MAX_TURN_RAD_S = 0.5, 1.0
SETTLED_SHARE = 0.8  # of a model step is motion; the rest lets the impedance settle
ARRIVED_M, RESTING_M_S = 0.003, 0.015
log = logging.getLogger(__name__)


class FrankaDriver:
    """`client` is franky or pylibfranka (FR3), panda, or droid.

    Without `dry_run=False` and `confirm=True` it plans, shows and logs, and its process sends no motion.
    `speed` is a share of 0.5 m/s and 1 rad/s; steps that would be faster take longer instead.
    `patience_s` (None: one period) is how late the agent, a camera or the connection may be before the arm holds;
    `max_plan_age_s` how long after what it saw, or after the last motion, a plan may come (None: any time).
    """

    def __init__(
        self,
        *,
        client: str = "franky",
        settings: Settings | None = None,
        cameras: Mapping[str, WatchedCamera] | None = None,
        period_s: float = 0.2,
        patience_s: float | None = None,
        dry_run: bool = True,
        confirm: bool = False,
        speed: float = FIRST_SPEED,
        tool_beyond_ee_m: float = 0.0016,
        start_pose: np.ndarray = START_POSE,
        limits: Limits | None = None,
        max_plan_age_s: float | None = None,
        stop: OperatorStop | None = None,
        python: str | Path | None = None,
    ) -> None:
        if not 0.0 < speed <= 1.0:
            raise ArmError(f"speed is a share of the full speed, above 0 and at most 1; got {speed}")
        if not dry_run and not confirm:
            raise ArmError(
                "this run would move a real arm: look at the envelope that a dry run prints, keep a hand on the "
                "emergency stop, and add confirm=true"
            )
        self.client = client
        self.period_s, self.speed, self.dry_run = period_s, speed, dry_run
        self._patience_s = patience_s or period_s
        self.limits = limits or Limits()
        self.joint_low, self.joint_high = joint_ranges(client)
        self.settings = settings or Settings()
        self.settings.armed, self.settings.patience_s = not dry_run, self._patience_s
        self.settings.gripper_force_n = min(self.settings.gripper_force_n, self.limits.max_gripper_force_n)
        self._cameras = dict(cameras or {})
        self._start_pose = np.asarray(start_pose, dtype=np.float64)
        self._max_plan_age_s = max_plan_age_s
        self._ee_T_tool = np.eye(4)
        self._ee_T_tool[2, 3] = tool_beyond_ee_m
        self._ik = InverseKinematics(kinematics())
        self._number = 0
        self._commanded: np.ndarray | None = None
        self._holds, self._held = 0, -1  # how often it was told to hold, and the number of the motion then
        self._seen_s = time.monotonic()
        self._closed = False
        self.would: list[np.ndarray] = []  # what a dry run would have commanded
        self._link = Link(client, self.settings, python=str(python) if python else None)
        self._stop = stop or OperatorStop()
        self._stop.on_press(self.hold)
        try:
            self._await_reading()
        except ArmError:
            self.close()
            raise

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return {name: camera.info for name, camera in self._cameras.items()}

    def promises(self) -> list[str]:
        """What this run will keep, for the operator to read before anything moves."""
        return promises_of(
            self.limits, self.settings, dry_run=self.dry_run, patience_s=self._patience_s,
            speed=(self.speed * MAX_SPEED_M_S, self.speed * MAX_TURN_RAD_S, self.speed),
            max_plan_age_s=self._max_plan_age_s, how_to_stop=self._stop.describe(),
        )  # fmt: skip

    @property
    def versions(self) -> dict[str, str]:
        """Of the client's library, and of the protocol that both sides speak."""
        return self._link.versions

    @property
    def patience_s(self) -> float:
        return self._patience_s

    def frame_times(self) -> dict[str, float]:
        """When the newest frame of each camera was taken, for those that have one."""
        taken = {name: camera.taken_s for name, camera in self._cameras.items()}
        return {name: seconds for name, seconds in taken.items() if seconds is not None}

    def newest_reading(self) -> Reading:
        """All that the robot told last; ArmError when that is too long ago."""
        return self._reading()

    def state(self) -> Observation:
        """The arm's side of an observation, without frames."""
        reading = self._reading()
        pose = self._pose(reading)
        commanded = pose.copy() if self._commanded is None else self._commanded.copy()
        if self._commanded is None and (told := self._link.newest.get("closedness")) is not None:
            commanded[6] = told
        if self._held_before_its_goal():
            commanded[:6] = pose[:6]  # the fingers keep squeezing
        return Observation(
            frames={},
            pose=pose,
            commanded=commanded,
            joints=np.array(reading.joints),
            time_s=reading.time_s,
        )

    def observe(self) -> Observation:
        """State and the newest frame of each camera; holds and raises when a camera or the line is late."""
        try:
            observation = self.state()
            for name, camera in self._cameras.items():
                observation.frames[name], observation.frame_times_s[name] = camera.latest(self._patience_s)
        except ArmError:
            self.hold()
            raise
        self._seen_s = time.monotonic()
        return observation

    def joints_for(self, pose: np.ndarray) -> np.ndarray | None:
        joints = np.array(self._reading().joints)
        return self._ik.solve(joints, pose[:3], rotation_from_pose(pose))

    def go(self, pose: np.ndarray, *, duration_s: float, blocking: bool = True) -> None:
        self._stop.check()
        if self.dry_run:
            self.would.append(np.array(pose, dtype=np.float64))
            log.info("dry run: would go to %s", np.round(pose, 4).tolist())
            return
        goal = np.eye(4)
        goal[:3, :3], goal[:3, 3] = rotation_from_pose(pose), pose[:3]
        goal = goal @ np.linalg.inv(self._ee_T_tool)
        here = self._frame(self._reading())
        least = shortest_duration(here, goal, self.speed * MAX_SPEED_M_S, self.speed * MAX_TURN_RAD_S)
        seconds = max(SETTLED_SHARE * duration_s, least)
        age = self._max_plan_age_s if blocking else self._max_plan_age_s or 2 * self.period_s
        until = {} if age is None else {"seen_s": self._seen_s, "max_age_s": age}
        begun, before = time.monotonic(), self._commanded
        self._number, self._commanded = self._number + 1, np.array(pose, dtype=np.float64)
        order = {"frame": goal.ravel().tolist(), "duration_s": seconds, "number": self._number, **until}
        try:
            self._link.order("go", closedness=float(pose[6]), **order)
        except Refused:
            self._number, self._commanded = self._number - 1, before  # nothing came of it
            raise
        self._stop.check()  # pressed in the meantime
        if blocking:
            self._await_arrival(self._number, begun, max(duration_s, seconds))
            self._await_rest(goal, begun + max(duration_s, seconds))
            self._link.await_fingers(self._watch, still_s=max(10.0, 5 * self._patience_s))
            self._seen_s = time.monotonic()

    def hold(self) -> None:
        """Brake and stay; from any thread, at any time.  After the operator's stop moving fingers stop, too."""
        if self.dry_run or self._closed:
            return
        self._holds += 1
        if self._outcome() != (self._number, "arrived"):
            self._held = self._number
        try:
            self._link.order("hold", fingers=self._stop.pressed)
        except ArmError as error:
            log.error("hold: %s", error)  # without a line the servant and the robot hold by themselves

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        """To the start pose, straight up first.  options: {"stay": True} moves nothing, {"recover": True} clears a reflex.

        An operator's stop that nobody has been told of yet is raised, not cleared.  A real arm has no seeds: objects are
        laid out by people.
        """
        options = options or {}
        self._stop.clear()
        stopped = why_it_does_not_move(self._reading()) or self._link.newest.get("error")
        if options.get("recover") and stopped:
            self._link.order("recover")
            recovered = time.monotonic()
            self._await_reading(after_s=recovered)
            # The library may still hand out a state from before it recovered.
            while why_it_does_not_move(self._reading()) and time.monotonic() < recovered + self._patience_s:
                self._link.wait(0.02)
        self._raise_error()
        if not self.dry_run and (stopped := why_it_does_not_move(self._reading())):
            raise ArmError(f"{stopped[0]}: {stopped[1]}")
        self._commanded = None
        if not self.dry_run and not options.get("stay"):
            here = self.state().pose
            low, high = np.array(self.limits.low), np.array(self.limits.high)
            if np.any(here[:3] < low - 0.02) or np.any(here[:3] > high + 0.02):
                raise ArmError(
                    f"the tool is at {np.round(here[:3], 3).tolist()} m, outside the workspace {self.limits.low} to "
                    f"{self.limits.high}: guide the arm back by hand, then call reset() again"
                )
            self._link.order("forget")
            above = np.concatenate(
                [here[:2], [max(here[2], self._start_pose[2])], here[3:6], self._start_pose[6:]]
            )
            holds = self._holds
            for pose in (above, self._start_pose):
                if self._holds > holds:  # between the two motions, too
                    raise Refused("the arm was told to hold on its way to the start pose, and holds")
                self._seen_s = time.monotonic()
                self.go(pose, duration_s=self.period_s)
        return self.observe()

    def report(self) -> dict[str, Any]:
        """Punctuality of the control loop, late plans, holds of the watchdog, camera faults."""
        newest = self._link.newest
        return {
            "control": newest.get("times", {}),
            "late_plans_dropped": newest.get("late", 0),
            "watchdog_holds": newest.get("held", 0),
            "command_success": (newest.get("reading") or {}).get("success"),
            "gripper": newest.get("fingers"),
            "cameras": {name: camera.report() for name, camera in self._cameras.items()},
        }

    def close(self) -> None:
        if not self._closed:
            self.hold()
            self._closed = True
            self._stop.close()
            self._link.close()
            for camera in self._cameras.values():
                camera.close()

    def _await_arrival(self, number: int, begun: float, seconds: float) -> None:
        # A fake controller on a busy machine, and a robot that loses packets, keep time of their own.
        deadline = begun + 20 * seconds + max(10.0, 5 * self._patience_s)
        while (outcome := self._outcome())[0] < number:
            self._watch()
            if time.monotonic() > deadline:
                self.hold()
                raise ArmError(
                    f"the arm did not arrive within {deadline - begun:.1f} s of a {seconds:.1f} s motion"
                )
            self._link.wait(0.05)
        self._stop.check()
        self._raise_error()
        if outcome[1] != "arrived":
            raise Refused(f"the arm holds before its goal: {outcome[1]}")

    def _await_rest(self, goal: np.ndarray, due: float) -> None:
        """The path has ended; give a soft controller up to one more step to bring the arm there."""
        before, place = 0.0, goal[:3, 3]
        while time.monotonic() < due + self.period_s:
            reading = self._reading()
            if reading.time_s > before:
                last, place = place, self._frame(reading)[:3, 3]
                still = np.linalg.norm(place - last) < RESTING_M_S * (reading.time_s - before)
                before = reading.time_s
                if still and np.linalg.norm(place - goal[:3, 3]) < ARRIVED_M:
                    break
            self._link.wait(0.02)
        time.sleep(max(0.0, due - time.monotonic()))

    def _outcome(self) -> tuple[int, str]:
        """Number of the newest motion that ended; arrived, or why it was held."""
        return tuple(self._link.newest.get("outcome", (0, "")))

    def _held_before_its_goal(self) -> bool:
        number, how = self._outcome()
        return self._held == self._number or (number == self._number and how not in ("", "arrived"))

    def _watch(self) -> None:
        self._stop.check()
        self._raise_error()
        for camera in self._cameras.values():  # a slow step takes seconds: nobody moves blindly for so long
            camera.latest(self._patience_s)

    def _raise_error(self) -> None:
        error = self._link.newest.get("error")
        if error:
            raise ArmError(
                f"the robot stopped: {error}. It holds. Look at the arm, then recover: "
                "env.recover=true, or reset(options={'recover': True})"
            )
        if not self._link.alive:
            raise ArmError("the robot client's process has ended; the arm holds. Start again")

    def _reading(self) -> Reading:
        newest = self._link.newest.get("reading")
        if newest is None:
            self._raise_error()
            raise ArmError("the robot has not been read yet")
        reading = Reading(**newest)
        age = time.monotonic() - reading.time_s
        if age > max(self._patience_s, 0.1):
            self._raise_error()
            raise ArmError(f"the robot's state is {age:.2f} s old; the connection stalls. The arm holds")
        return reading

    def _await_reading(self, after_s: float = 0.0) -> None:
        limit_s = max(3.0, self._patience_s)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            newest = self._link.newest
            if newest.get("reading") and newest["reading"]["time_s"] > after_s and not newest["error"]:
                return
            self._link.wait(0.1)
        self._raise_error()
        raise ArmError(f"no state from the robot at {self.settings.host} within {limit_s:.0f} s")

    def _frame(self, reading: Reading) -> np.ndarray:
        return np.array(reading.frame).reshape(4, 4)

    def _pose(self, reading: Reading) -> np.ndarray:
        tool = self._frame(reading) @ self._ee_T_tool
        return pose_from(tool[:3, 3], tool[:3, :3], reading.closedness)
