"""A look at a real arm before the first plan: what it tells is checked for sense; a small motion only when asked."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from data.kinematics import PANDA

from ..arm import Arm
from ..check_arm import NonConformant, check_arm
from ..poses import rotation_from_pose
from .body import why_it_does_not_move
from .driver import FrankaDriver

SAME_PLACE_M, SAME_TURN_RAD = 0.01, 0.05
LIFT_M = 0.05
LONGEST_LATENCY_S = 0.6


@dataclass(kw_only=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    good: bool
    found: str
    remedy: str = ""


def look(driver: FrankaDriver, *, seconds: float = 2.0) -> list[Check]:
    """Connection, versions, jitter, units, polarity and cameras, without moving anything."""
    stamps: dict[float, float] = {}  # when a reading was taken -> the robot's clock then
    ages: list[float] = []
    frame_ages: dict[str, list[float]] = {name: [] for name in driver.cameras}
    pictures = {name: camera["frames"] for name, camera in driver.report()["cameras"].items()}
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        reading = driver.newest_reading()
        stamps[reading.time_s] = reading.robot_s
        ages.append(time.monotonic() - reading.time_s)
        for name, taken_s in driver.frame_times().items():
            frame_ages[name].append(time.monotonic() - taken_s)
        time.sleep(0.01)
    took = time.monotonic() - started
    late_ms = 1000 * float(np.percentile(ages, 99))
    checks = [
        Check(
            what="connection",
            good=late_ms < 1000 * driver.patience_s,
            found=f"{len(stamps) / took:.0f} readings a second, {late_ms:.0f} ms old at worst",
            remedy="a cable straight to the robot, no switch, no wireless; nothing else on this machine",
        ),
        _versions(driver),
        _mode(driver),
        _jitter(stamps, driver.patience_s),
        *_pose(driver),
    ]
    for name, camera in driver.report()["cameras"].items():
        rate_hz, faults = (camera["frames"] - pictures[name]) / took, camera["faults"]
        told = ", ".join(f"{kind} {count}" for kind, count in faults.items()) or "no faults"
        old_ms = 1000 * np.percentile(frame_ages[name], [50, 99]) if frame_ages[name] else [np.nan, np.nan]
        checks.append(
            Check(
                what=f"camera {name}",
                good=not faults and rate_hz >= 2 / driver.period_s,
                found=f"{rate_hz:.0f} pictures a second, {old_ms[0]:.0f} ms old (99 %: {old_ms[1]:.0f}), {told}",
                remedy=f"at least {2 / driver.period_s:.0f} a second: a USB 3 port of its own, fewer pixels, more light",
            )
        )
    if not driver.cameras:
        checks.append(
            Check(
                what="cameras",
                good=False,
                found="none",
                remedy="env.camera_addresses.exterior_left=v4l:0 and so on, named as the model names them",
            )
        )
    return checks


def try_motion(arm: Arm, driver: FrankaDriver) -> list[Check]:
    """The conformance check (a few centimetres each way, the gripper), and how late pictures show a motion."""
    try:
        passed = check_arm(arm).passed
        checks = [
            Check(
                what="motion", good=True, found=f"{len(passed)} promises of an arm kept, axes and gripper too"
            )
        ]
    except NonConformant as error:
        checks = [
            Check(what="motion", good=False, found=str(error), remedy="docs/own_arm.md names the causes")
        ]
    for name, seconds in camera_latency(arm).items():
        known = np.isfinite(seconds)
        checks.append(
            Check(
                what=f"latency {name}",
                good=bool(known and seconds < driver.period_s),
                found=f"pictures show a motion {1000 * seconds:.0f} ms after the joints tell it"
                if known
                else "the pictures do not show that the arm moved",
                remedy=""
                if known and seconds < driver.period_s
                else "is it the right camera, and does it see the arm?",
            )
        )
    return checks


def camera_latency(arm: Arm) -> dict[str, float]:
    """Lift the hand a little, lower it again, and see how much later the pictures change than the pose; NaN where they do not.

    Curves of both against time, each from 0 to 1, are laid over each other.
    """
    start = arm.observe()
    times: list[float] = []
    heights: list[float] = []
    changes: dict[str, list[float]] = {name: [] for name in start.frames}

    def see() -> None:
        seen = arm.observe()
        times.append(time.monotonic())
        heights.append(float(np.linalg.norm(seen.pose[:3] - start.pose[:3])))
        for name, frame in seen.frames.items():
            change = np.abs(frame.astype(np.float32) - start.frames[name]).mean()
            changes[name].append(float(change))

    for _ in range(10):
        see()
        time.sleep(0.03)
    noise = {name: max(values) for name, values in changes.items()}
    up = -1.0 if start.pose[2] + LIFT_M > arm.limits.high[2] else 1.0
    lift = threading.Thread(target=arm.act, args=(np.array([0, 0, up * LIFT_M, 0, 0, 0, 0]),))
    lift.start()
    ends = float("inf")
    while time.monotonic() < ends:
        see()
        if not lift.is_alive() and ends == float("inf"):
            ends = time.monotonic() + 2 * LONGEST_LATENCY_S
        time.sleep(0.01)
    arm.act(np.array([0, 0, -up * LIFT_M, 0, 0, 0, 0]))
    moved = _from_0_to_1(np.array(heights))
    found: dict[str, float] = {}
    for name, values in changes.items():
        if max(values) < 1.3 * noise[name]:
            found[name] = float("nan")
            continue
        found[name] = _lag(np.array(times), moved, _from_0_to_1(np.array(values)))
    return found


def _versions(driver: FrankaDriver) -> Check:
    told = ", ".join(f"{name} {version}" for name, version in driver.versions.items())
    # libfranka itself turns a robot of another protocol away, so that whoever is connected agrees.
    return Check(
        what="versions", good=bool(told), found=f"{told or 'the client does not tell'}; the robot agrees"
    )


def _mode(driver: FrankaDriver) -> Check:
    stopped = why_it_does_not_move(driver.newest_reading())
    if stopped is None:
        return Check(what="mode", good=True, found="the robot takes motions")
    return Check(what="mode", good=False, found=stopped[0], remedy=stopped[1])


def _jitter(stamps: dict[float, float], patience_s: float) -> Check:
    """How unevenly states arrive: by this machine's clock against the robot's."""
    ours, theirs = np.array(sorted(stamps)), np.array([stamps[t] for t in sorted(stamps)])
    if not np.any(theirs):
        return Check(what="jitter", good=True, found="not known: the robot does not tell its clock")
    late_s = ours - theirs
    late_ms = 1000 * (late_s - late_s.min())
    median, most = np.percentile(late_ms, [50, 99])
    return Check(
        what="jitter",
        good=bool(most < 1000 * patience_s),
        found=f"states arrive {median:.1f} ms (99 %: {most:.1f}) later than the fastest",
        remedy="libfranka's communication_test says more; a real-time kernel, and the processor's full speed",
    )


def _pose(driver: FrankaDriver) -> list[Check]:
    observation, limits = driver.state(), driver.limits
    pose = observation.pose
    far = float(np.linalg.norm(pose[:3]))
    inside = bool(np.all(pose[:3] >= limits.low) and np.all(pose[:3] <= limits.high))
    down = float(np.arccos(np.clip(-rotation_from_pose(pose)[2, 2], -1, 1)))
    return [
        Check(
            what="units",
            good=0.1 < far < 1.2,
            found=f"tool {far:.2f} m from the base (a Franka reaches 0.9)",
            remedy="metres and radians are wanted",
        ),
        _kinematics(driver, observation.joints, pose),
        Check(
            what="workspace",
            good=inside,
            found=f"tool at {np.round(pose[:3], 3).tolist()} m, box {limits.low} to {limits.high}",
            remedy="guide the arm into it, or set env.workspace_low_m and env.workspace_high_m for this table",
        ),
        Check(
            what="pose polarity",
            good=down <= limits.max_tilt_rad,
            found=f"the hand points {np.degrees(down):.0f} degrees off straight down",
            remedy="guide the hand so that it points down; if it does, the robot's tool frame is another",
        ),
        Check(
            what="gripper",
            good=bool(0 <= pose[6] <= 1),
            found=f"closedness {pose[6]:.2f}: 0 must be open, look at it",
            remedy="home the gripper in Desk",
        ),
    ]


def _kinematics(driver: FrankaDriver, joints: np.ndarray, pose: np.ndarray) -> Check:
    """The pose that the joints give, against the one that is told: another tool, another base, another arm?"""
    if driver.client == "droid":
        return Check(what="kinematics", good=True, found="not compared: DROID's hand is another")
    expected = PANDA.base_T_tool(joints, "tcp")
    away = float(np.linalg.norm(expected[:3, 3] - pose[:3]))
    turn = expected[:3, :3].T @ rotation_from_pose(pose)
    turned = float(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return Check(
        what="kinematics",
        good=away < SAME_PLACE_M and turned < SAME_TURN_RAD,
        found=f"joints and pose agree to {1000 * away:.0f} mm and {np.degrees(turned):.1f} degrees",
        remedy="is the end effector in Desk Franka's hand (0.1034 m beyond the flange, turned by -45 degrees)?",
    )


def _from_0_to_1(values: np.ndarray) -> np.ndarray:
    low, high = values[:5].mean(), values[-10:].mean()
    return np.clip((values - low) / max(float(high - low), 1e-9), 0.0, 1.0)


def _lag(times: np.ndarray, cause: np.ndarray, effect: np.ndarray) -> float:
    """The delay at which `effect` is most like `cause` before it."""
    lags = np.arange(0.0, LONGEST_LATENCY_S, 0.005)
    errors = [np.abs(np.interp(times - lag, times, cause) - effect).mean() for lag in lags]
    return float(lags[int(np.argmin(errors))])
