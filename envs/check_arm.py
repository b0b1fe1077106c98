"""A conformance check for arms: does this one do what `envs.arm` promises, and if not, what is the likely cause?

It moves the arm by a few centimetres around its start pose; keep the emergency stop of a real arm at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from data.poses import pose_difference
from data.types import Observation

from .arm import Arm, ArmError, Refused
from .envelope import admissible, check_limits

MOVE_M, TURN_RAD, GRIP = 0.03, 0.15, 0.4


class NonConformant(ArmError):
    """An arm that breaks the contract; the message lists every broken promise with its likely cause."""


@dataclass(kw_only=True, slots=True)
class Report:
    """What was found, one line each."""

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def expect(self, good: bool | np.bool_, promise: str, otherwise: str) -> None:
        if good:
            self.passed.append(promise)
        else:
            self.failed.append(f"{promise}: {otherwise}")

    def __str__(self) -> str:
        return "\n".join(
            [f"  ok    {line}" for line in self.passed] + [f"  FAILS {line}" for line in self.failed]
        )


def check_arm(arm: Arm, *, seed: int = 0, tolerance_m: float = 0.012, tolerance_rad: float = 0.06) -> Report:
    """Try every promise of `envs.arm`; raise `NonConformant` with all that are broken.  Leaves the arm reset."""
    report = Report()
    observation = arm.reset(seed=seed)
    _check_description(arm, report)
    if not _check_observation(arm, observation, report):
        raise NonConformant(f"this arm cannot be tried further:\n{report}")
    _check_stillness(arm, report)
    _check_motion(arm, report, tolerance_m, tolerance_rad)
    _check_gripper(arm, report)
    _check_refusals(arm, report)
    _check_envelope(arm, report)
    _check_stop(arm, report, seed)
    if getattr(arm, "truth", None) is not None:
        _check_simulation(arm, report, seed)
    arm.reset(seed=seed)
    if report.failed:
        raise NonConformant(f"{len(report.failed)} promises of envs/arm.py are broken:\n{report}")
    return report


def _check_description(arm: Arm, report: Report) -> None:
    period = arm.period_s
    report.expect(
        0.02 <= period <= 2.0, "period_s is a model step", f"it is {period}; seconds, not Hz or milliseconds?"
    )
    try:
        check_limits(arm.limits)
        report.passed.append("limits agree with themselves")
    except ValueError as error:
        report.failed.append(str(error))
    for name, camera in arm.cameras.items():
        if camera.K is not None:
            good = camera.K.shape == (3, 3) and camera.K[0, 0] > 0 and 0 < camera.K[0, 2] < camera.width
            report.expect(
                good,
                f"{name}: K fits the picture",
                f"K = {camera.K.tolist()} for {camera.width} px; calibrated at another size?",
            )
        if camera.base_T_cam is not None:
            turn = camera.base_T_cam[:3, :3]
            good = np.allclose(turn @ turn.T, np.eye(3), atol=1e-5) and np.linalg.det(turn) > 0
            report.expect(
                good, f"{name}: base_T_cam is rigid", "its rotation is not one; transposed or scaled?"
            )


def _check_observation(arm: Arm, observation: Observation, report: Report) -> bool:
    before = len(report.failed)
    for name, size in (("pose", 7), ("commanded", 7), ("joints", 7)):
        value = np.asarray(getattr(observation, name))
        good = value.shape == (size,) and bool(np.isfinite(value).all())
        report.expect(
            good, f"{name} is {size} finite numbers", f"got {value!r}; is the robot's state received?"
        )
    if len(report.failed) > before:
        return False
    pose, limits = observation.pose, arm.limits
    inside = ((pose[:3] >= np.array(limits.low) - 0.01) & (pose[:3] <= np.array(limits.high) + 0.01)).all()
    report.expect(
        inside,
        "the start pose is in the workspace",
        f"tool at {np.round(pose[:3], 3).tolist()}, workspace {limits.low} to {limits.high}; "
        "millimetres, another base frame, or limits of another table?",
    )
    report.expect(
        -1e-6 <= pose[6] <= 1 + 1e-6,
        "closedness is within 0 and 1",
        f"it is {pose[6]:.3f}; a width in metres, or not homed?",
    )
    report.expect(
        pose[6] < 0.5,
        "the gripper starts open",
        f"closedness {pose[6]:.2f}; is 1 open in the driver? It is closed",
    )
    for name, camera in arm.cameras.items():
        frame = observation.frames.get(name)
        if frame is None:
            report.failed.append(
                f"camera {name!r} is listed but gives no frame; there are {list(observation.frames)}"
            )
            continue
        shape = (camera.height, camera.width, 3)
        good = frame.dtype == np.uint8 and frame.shape == shape
        report.expect(
            good,
            f"{name}: frames are uint8 {shape}",
            f"got {frame.dtype} {frame.shape}; not converted, transposed or with alpha?",
        )
        report.expect(
            frame.std() > 2, f"{name}: sees something", "the picture is of one colour; lens cap, light, GL?"
        )
        late = abs(observation.time_s - observation.frame_times_s.get(name, observation.time_s))
        report.expect(
            late < 0.5,
            f"{name}: frames are fresh",
            f"{late:.2f} s between frame and state; one clock for both?",
        )
    return len(report.failed) == before


def _check_stillness(arm: Arm, report: Report) -> None:
    first, second = arm.observe(), arm.observe()
    moved = np.linalg.norm(second.pose[:3] - first.pose[:3])
    report.expect(
        moved < 0.002, "observe() moves nothing", f"the tool moved {moved * 1000:.1f} mm between two looks"
    )
    for _ in range(4):
        arm.act(np.zeros(7))
    last = arm.observe()
    moved = np.linalg.norm(last.pose[:3] - first.pose[:3])
    report.expect(
        moved < 0.003,
        "a zero action holds still",
        f"the tool drifted {moved * 1000:.1f} mm in 4 steps; gravity compensation, payload, "
        "or zero added to the measured pose instead of the commanded one?",
    )
    took = (last.time_s - second.time_s) / 4
    report.expect(
        0.7 * arm.period_s <= took <= 2.0 * arm.period_s,
        "a blocking act takes one period",
        f"it took {took:.3f} s of {arm.period_s} s; does go() wait, and is time_s in seconds?",
    )


def _check_motion(arm: Arm, report: Report, tolerance_m: float, tolerance_rad: float) -> None:
    centre = (np.array(arm.limits.low) + np.array(arm.limits.high)) / 2
    for index, name in enumerate(("x", "y", "z", "roll", "pitch", "yaw")):
        before = arm.observe()
        action = np.zeros(7)
        size, tolerance = (MOVE_M, tolerance_m) if index < 3 else (TURN_RAD, tolerance_rad)
        action[index] = size if index >= 3 or before.pose[index] < centre[index] else -size
        arm.act(action)
        arm.act(np.zeros(7))
        after = arm.observe()
        change = pose_difference(torch.from_numpy(before.pose), torch.from_numpy(after.pose)).numpy()
        error = change - action
        good = np.linalg.norm(error[:3]) < tolerance_m and np.linalg.norm(error[3:6]) < tolerance_rad
        report.expect(good, f"moves along {name} as told", _guess(index, action, change, tolerance))
        if index == 0:
            same = [n for n in before.frames if np.array_equal(before.frames[n], after.frames[n])]
            report.expect(
                not same, "pictures change when the arm moves", f"{same} did not; frozen or buffered?"
            )
        arm.act(-action)
        arm.act(np.zeros(7))


def _guess(index: int, action: np.ndarray, change: np.ndarray, tolerance: float) -> str:
    told, did = action[index], change[index]
    block = change[:3] if index < 3 else change[3:6]
    unit = "m" if index < 3 else "rad"
    text = f"told {told:+.3f} {unit}, measured {np.round(block, 3).tolist()}; "
    largest = int(np.abs(block).argmax())
    if np.abs(block).max() < 0.2 * abs(told):
        return (
            text
            + "it hardly moves: brakes, a blocked arm, a controller that was not started, or much too soft?"
        )
    if largest != index % 3:
        return (
            text + "another axis moved: another base frame, another order of angles, or tool-frame rotations?"
        )
    if did * told < 0:
        return text + "the sign is wrong: base frame turned by 180 degrees, or R_prev R_next^T?"
    if not 0.5 < did / told < 2:
        return text + "the size is wrong: units, a speed instead of a step, or not enough time to arrive?"
    return (
        text
        + f"off by more than {tolerance}: another tool point, slow tracking, or rotation about the flange?"
    )


def _check_gripper(arm: Arm, report: Report) -> None:
    before = arm.observe().pose[6]
    for _ in range(3):
        arm.act(np.array([0, 0, 0, 0, 0, 0, GRIP / 3]))
    arm.act(np.zeros(7))
    after = arm.observe().pose[6]
    hint = (
        "sign: is 1 open in the driver?"
        if after < before
        else "range: homed? is the width divided by the stroke?"
    )
    good = abs(after - before - GRIP) < 0.15
    report.expect(good, "the gripper closes as told", f"told +{GRIP}, measured {after - before:+.2f}; {hint}")
    arm.act(np.array([0, 0, 0, 0, 0, 0, -1.0]))
    arm.act(np.zeros(7))


def _check_refusals(arm: Arm, report: Report) -> None:
    before = arm.observe().pose
    for name, action in (
        ("NaN", np.full(7, np.nan)),
        ("infinite", np.array([0, 0, np.inf, 0, 0, 0, 0])),
        ("six numbers", np.zeros(6)),
    ):
        report.expect(_refuses(arm, action), f"refuses {name}", "act() took it; is it behind GuardedArm?")
    moved = np.linalg.norm(arm.observe().pose[:3] - before[:3])
    report.expect(moved < 0.003, "holds after a refusal", f"the tool moved {moved * 1000:.1f} mm")


def _check_envelope(arm: Arm, report: Report) -> None:
    before = arm.observe()
    away = (np.array(arm.limits.low) + np.array(arm.limits.high)) / 2 - before.pose[:3]
    outcome = arm.act(np.concatenate([10 * away / np.linalg.norm(away), np.zeros(4)]))
    step = np.linalg.norm(outcome.commanded[:3] - before.commanded[:3])
    good = step <= arm.limits.max_step_m + 1e-6 and outcome.clipped
    report.expect(good, "clips a step of 10 m", f"commanded {step:.3f} m; is it behind GuardedArm?")
    fits = admissible(before.commanded, outcome.commanded, arm.limits)
    report.expect(
        bool(fits), "commands stay in the envelope", f"commanded {np.round(outcome.commanded, 3).tolist()}"
    )


def _check_stop(arm: Arm, report: Report, seed: int) -> None:
    arm.stop()
    report.expect(_refuses(arm, np.zeros(7)), "stop() refuses later actions", "act() moved a stopped arm")
    arm.reset(seed=seed)
    report.expect(not _refuses(arm, np.zeros(7)), "reset() ends a stop", "act() is still refused")


def _check_simulation(arm: Arm, report: Report, seed: int) -> None:
    action = np.array([0.01, -0.01, 0.01, 0, 0, 0.05, 0.2])

    def play() -> Observation:
        for _ in range(3):
            arm.act(action)
        return arm.observe()

    def differ(one: Observation, other: Observation) -> bool:
        frames = any(not np.array_equal(one.frames[n], other.frames[n]) for n in one.frames)
        return frames or not np.array_equal(one.pose, other.pose)

    arm.reset(seed=seed)
    first = play()
    arm.reset(seed=seed)
    truth = arm.truth  # type: ignore[attr-defined]
    saved = truth.save()
    report.expect(
        not differ(first, play()), "same seed, same bits", "an unseeded source, or state left by reset()?"
    )
    truth.restore(saved)
    report.expect(not differ(first, play()), "save and restore are exact", "something is missing from save()")


def _refuses(arm: Arm, action: np.ndarray) -> bool:
    act: Callable[[np.ndarray], object] = arm.act
    try:
        act(action)
    except Refused:
        return True
    return False
