"""The only public arm: a driver behind the safety envelope, with re-anchoring, a watchdog and a stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from data.types import Camera, Observation

from .arm import ArmError, Driver, Limits, Outcome, Refused, Stopped
from .envelope import check_action, check_limits, safe_pose

REANCHOR_M = 0.02
log = logging.getLogger(__name__)


class GuardedArm:
    """An `Arm` (see `envs.arm` for the contract).  Nobody else keeps the driver, so that nothing bypasses this.

    A motion that nobody waits for (`blocking=False`) is ended by the watchdog when `watchdog_s` pass without
    another action (two periods: the next one is late by one then); a simulated arm needs none, since its time stands
    still between actions.
    `truth` is the simulator's own knowledge, or None for a real arm.
    """

    def __init__(
        self, driver: Driver, *, limits: Limits | None = None, watchdog_s: float | None = None
    ) -> None:
        self.limits = limits or Limits()
        check_limits(self.limits)
        self.period_s = driver.period_s
        self.truth = Truth(driver) if _is_simulated(driver) else None
        self.__driver = driver
        self._read = getattr(driver, "state", driver.observe)  # a cheap state where the driver offers one
        self._watchdog_s = watchdog_s or (None if self.truth else 2 * driver.period_s)
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()
        self._moving = False
        self._stopped = self._closed = False

    @property
    def cameras(self) -> Mapping[str, Camera]:
        self._require_open()
        return self.__driver.cameras

    def observe(self) -> Observation:
        self._require_open()
        return self.__driver.observe()

    def act(self, action: np.ndarray, *, blocking: bool = True) -> Outcome:
        with self._lock:
            self._require_open()
            if self._stopped:
                raise Stopped("the arm was stopped and holds; call reset() to move again")
            self._cancel_watchdog()
            try:
                action = check_action(action)
                state = self._read()
                anchor, notes = self._anchor(state)
                outcome = safe_pose(
                    anchor,
                    action,
                    self.limits,
                    joints_for=self.__driver.joints_for,
                    joint_low=self.__driver.joint_low,
                    joint_high=self.__driver.joint_high,
                    joints=state.joints,
                    period_s=self.period_s,
                    gripper_force_n=state.gripper_force_n,
                )
            except Refused:
                if self._moving:
                    self._hold()
                raise
            outcome.notes = notes + outcome.notes
            if self._stopped:  # from another thread, while the envelope was asked
                raise Stopped("the arm was stopped and holds; call reset() to move again")
            self._moving = not blocking
            try:
                self.__driver.go(outcome.commanded, duration_s=self.period_s, blocking=blocking)
            except BaseException:
                self._hold()
                raise
            if self._stopped:  # from another thread, while the arm moved
                self._hold()
            elif not blocking and self._watchdog_s:
                self._timer = threading.Timer(self._watchdog_s, self._too_late)
                self._timer.daemon = True
                self._timer.start()
            return outcome

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        with self._lock:
            self._require_open()
            self._cancel_watchdog()
            before, self._stopped = self._stopped, False
            try:
                observation = self.__driver.reset(seed=seed, options=options)
            except BaseException:
                self._stopped |= before  # it holds as it did
                raise
            self._moving = False
            if self._stopped:  # from another thread, while the arm went to its start
                self._hold()
                raise Stopped("the arm was stopped on its way to its start, and holds")
            return observation

    def stop(self) -> None:
        """Hold now; safe to call from any thread, a motion under way included."""
        if not self._closed:
            self._stopped = True
            self._hold()

    def close(self) -> None:
        with self._lock:
            self._cancel_watchdog()
            if not self._closed:
                self._closed = True
                self.__driver.close()

    def __enter__(self) -> GuardedArm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _anchor(self, state: Observation) -> tuple[np.ndarray, list[str]]:
        measured = np.asarray(state.pose, np.float64)
        if measured.shape != (7,) or not np.isfinite(measured).all():
            raise Refused(
                f"the arm reports the pose {measured}, which is not 7 finite numbers. The arm holds"
            )
        commanded = np.asarray(state.commanded, np.float64)
        if not np.isfinite(commanded).all():  # a driver that was never told anything
            return measured.copy(), []
        away = float(np.linalg.norm(measured[:3] - commanded[:3]))
        if away <= REANCHOR_M:
            return commanded.copy(), []
        # The gripper stays as commanded: taking the measured one would let go of what it squeezes.
        anchor = np.concatenate([measured[:6], commanded[6:]])
        return anchor, [f"re-anchored: the tool is {away * 1000:.0f} mm from where it was sent"]

    def _too_late(self) -> None:
        log.warning("no action for %.2f s: the arm holds", self._watchdog_s)
        self._hold()

    def _hold(self) -> None:
        self.__driver.hold()
        self._moving = False

    def _cancel_watchdog(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _require_open(self) -> None:
        if self._closed:
            raise ArmError("the arm is closed; make a new one")


class Truth:
    """What a simulator knows: for judges, experts and ceilings, never an input of the agent."""

    def __init__(self, driver: Any) -> None:
        self._driver: Any = driver

    @property
    def scene(self) -> Any:
        return self._driver.scene

    @property
    def scene_config(self) -> Any:
        return self._driver.scene_config

    def object_poses(self) -> dict[str, np.ndarray]:
        return self._driver.object_poses()

    def touching(self) -> set[str]:
        return self._driver.touching()

    def save(self) -> Any:
        return self._driver.save()

    def restore(self, state: Any) -> None:
        self._driver.restore(state)

    def portrait(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return self._driver.portrait(*args, **kwargs)


def _is_simulated(driver: Any) -> bool:
    return all(hasattr(driver, name) for name in ("object_poses", "touching", "save", "restore"))
