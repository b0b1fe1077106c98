"""The safety envelope: pure functions from (where the arm was sent last, where it is asked to go) to a safe pose.

Every function works on leading dimensions, in float64.  A pose is admissible from an anchor when
  * its position lies in the workspace box and in the ball of radius `max_step_m` around the anchor,
  * its rotation is at most `max_turn_rad` from the anchor's and its tool axis at most `max_tilt_rad` from straight
    down,
  * the lowest corner of the fingers, open, stays `CLEARANCE_M` above the table,
  * its closedness is within 0 and 1, and not above the anchor's while the gripper squeezes at its force limit.
An admissible pose comes back bit for bit.  Any other is replaced by the nearest admissible one: first the rotation
(geodesic distance), then the position above the floor which that rotation leaves (Euclidean distance).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from data.poses import (
    apply_action,
    euler_from_rotation,
    quaternion_from_rotation,
    rotation_from_euler,
    rotation_from_quaternion,
)

from .arm import Limits, Outcome, Refused

TOLERANCE = 1e-9  # metres and radians: what rounding may add
CLEARANCE_M = 0.002  # between the lowest corner of the fingers and the table
_FINGERTIP_M = (
    0.0105,
    0.0545,
    0.0073,
)  # the open fingers' reach from the tool point along the tool's x, y and z
_BISECTIONS = 64


@dataclass(kw_only=True, slots=True)
class Clipped:
    """Safe poses and what was done to the wanted ones; arrays over the leading dimensions."""

    pose: np.ndarray  # [..., 7]; the anchor itself where `impossible`
    moved: np.ndarray  # position changed
    turned: np.ndarray  # rotation changed
    gripped: np.ndarray  # closedness changed
    impossible: np.ndarray  # no admissible pose within one step of the anchor


def admissible(
    anchor: np.ndarray, pose: np.ndarray, limits: Limits, *, squeezing: bool | np.ndarray = False
) -> np.ndarray:
    """Whether each pose [..., 7] may be commanded from its anchor [..., 7]."""
    clipped = clip(anchor, pose, limits, squeezing=squeezing)
    return ~(clipped.moved | clipped.turned | clipped.gripped | clipped.impossible)


def clip(
    anchor: np.ndarray, wanted: np.ndarray, limits: Limits, *, squeezing: bool | np.ndarray = False
) -> Clipped:
    """The nearest admissible pose for each wanted one; both finite, [..., 7]."""
    anchor, wanted = np.broadcast_arrays(np.asarray(anchor, np.float64), np.asarray(wanted, np.float64))
    shape = wanted.shape[:-1]
    anchor, wanted = anchor.reshape(-1, 7), wanted.reshape(-1, 7)
    pose = wanted.copy()

    matrix = _rotation(wanted)
    turned = ~_rotation_fits(matrix, _rotation(anchor), limits)
    lost = np.zeros(len(pose), bool)
    if turned.any():
        quaternion, found = _nearest_rotation(
            _quaternion(wanted[turned]), _quaternion(anchor[turned]), limits
        )
        matrix[turned] = rotation_from_quaternion(torch.from_numpy(quaternion)).numpy()
        pose[turned, 3:6] = euler_from_rotation(torch.from_numpy(matrix[turned])).numpy()
        lost[turned] = ~found

    low = np.broadcast_to(np.array(limits.low, np.float64), (len(pose), 3)).copy()
    low[:, 2] = np.maximum(
        low[:, 2], limits.table_z + CLEARANCE_M + np.abs(matrix[:, 2]) @ np.array(_FINGERTIP_M)
    )
    high = np.array(limits.high, np.float64)
    fits = ((wanted[:, :3] >= low - TOLERANCE) & (wanted[:, :3] <= high + TOLERANCE)).all(-1)
    moved = ~(fits & (_length(wanted[:, :3] - anchor[:, :3]) <= limits.max_step_m + TOLERANCE))
    if moved.any():
        pose[moved, :3], found = _nearest_position(
            wanted[moved, :3], anchor[moved, :3], low[moved], high, limits.max_step_m
        )
        lost[moved] |= ~found

    ceiling = np.where(np.broadcast_to(squeezing, shape).reshape(-1), np.clip(anchor[:, 6], 0.0, 1.0), 1.0)
    pose[:, 6] = np.clip(wanted[:, 6], 0.0, ceiling)
    gripped = pose[:, 6] != wanted[:, 6]
    pose[lost] = anchor[lost]
    return Clipped(
        pose=pose.reshape(*shape, 7),
        moved=moved.reshape(shape),
        turned=turned.reshape(shape),
        gripped=gripped.reshape(shape),
        impossible=lost.reshape(shape),
    )


def check_action(action: object) -> np.ndarray:
    """The action as float64 [7], or `Refused` with what is wrong about it."""
    try:
        array = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Refused(
            f"an action is 7 numbers (dx dy dz droll dpitch dyaw dclosedness), got {action!r}"
        ) from error
    if array.shape != (7,):
        raise Refused(
            f"an action has shape (7,): dx dy dz droll dpitch dyaw dclosedness; got shape {array.shape}. The arm holds"
        )
    if not np.isfinite(array).all():
        wrong = [f"[{i}] = {array[i]}" for i in np.flatnonzero(~np.isfinite(array))]
        raise Refused(f"an action must be finite, got {', '.join(wrong)}. The arm holds")
    return array


def safe_pose(
    anchor: np.ndarray,
    action: np.ndarray,
    limits: Limits,
    *,
    joints_for: Callable[[np.ndarray], np.ndarray | None] | None = None,
    joint_low: np.ndarray | None = None,
    joint_high: np.ndarray | None = None,
    joints: np.ndarray | None = None,
    period_s: float = 0.2,
    gripper_force_n: float | None = None,
) -> Outcome:
    """The pose to command for `action` from `anchor`, with notes; `Refused` where there is none.

    `joints_for` gives the joints for a pose or None; `joints` are the measured ones.  A pose that would take the
    joints nearer than `joint_margin_rad` to their limits, or there too fast, is drawn back towards the anchor.
    """
    action = check_action(action)
    anchor = np.asarray(anchor, np.float64)
    wanted = apply_action(torch.from_numpy(anchor), torch.from_numpy(action)).numpy()
    squeezing = gripper_force_n is not None and gripper_force_n >= limits.max_gripper_force_n
    clipped = clip(anchor, wanted, limits, squeezing=squeezing)
    if clipped.impossible:
        raise Refused(
            f"the arm is outside its envelope by more than one step: tool at {np.round(anchor[:3], 3).tolist()} m, "
            f"workspace {limits.low} to {limits.high}. The arm holds; move it back by hand or call reset()"
        )
    notes = _notes(wanted, clipped, limits)
    if joints_for is None:
        return Outcome(commanded=clipped.pose, clipped=bool(notes), notes=notes)

    def fits(pose: np.ndarray) -> bool:
        then = joints_for(pose)
        if then is None:
            return False
        margin = limits.joint_margin_rad - TOLERANCE
        low = -np.inf if joint_low is None else joint_low + margin
        high = np.inf if joint_high is None else joint_high - margin
        slow = joints is None or np.abs(then - joints).max() <= limits.max_joint_speed_rad_s * period_s
        return bool(((then >= low) & (then <= high)).all() and slow)

    pose = clipped.pose
    if not np.array_equal(pose[:6], anchor[:6]) and not fits(pose):
        pose = _draw_back(anchor, pose, limits, fits)
        notes.append(
            f"moved only as far as the joints allow: {limits.joint_margin_rad} rad from their limits, "
            f"{limits.max_joint_speed_rad_s} rad/s"
        )
    return Outcome(commanded=pose, clipped=bool(notes), notes=notes)


def check_limits(limits: Limits) -> None:
    """Raise ValueError for limits that contradict themselves."""
    for axis, low, high in zip("xyz", limits.low, limits.high):
        if not low < high:
            raise ValueError(f"Limits: {axis} goes from {low} to {high} m; low must be below high")
    for name in (
        "max_step_m",
        "max_turn_rad",
        "max_tilt_rad",
        "max_joint_speed_rad_s",
        "max_gripper_force_n",
    ):
        if not getattr(limits, name) > 0:
            raise ValueError(f"Limits.{name} is {getattr(limits, name)}; it must be above zero")
    if limits.high[2] <= limits.table_z + CLEARANCE_M + _FINGERTIP_M[2]:
        raise ValueError(
            f"Limits: the workspace ends at z = {limits.high[2]} m, in the table at {limits.table_z} m"
        )


def _notes(wanted: np.ndarray, clipped: Clipped, limits: Limits) -> list[str]:
    notes = []
    if clipped.moved:
        away = float(_length(clipped.pose[:3] - wanted[:3])) * 1000
        notes.append(
            f"position moved by {away:.1f} mm into the workspace, the table clearance or the step limit"
        )
    if clipped.turned:
        notes.append(
            f"rotation held to {limits.max_turn_rad} rad a step and {limits.max_tilt_rad} rad of tilt"
        )
    if clipped.gripped:
        notes.append(f"gripper closed no further: it squeezes with {limits.max_gripper_force_n} N or more")
    return notes


def _draw_back(
    anchor: np.ndarray, pose: np.ndarray, limits: Limits, fits: Callable[[np.ndarray], bool]
) -> np.ndarray:
    """The pose farthest along the way from `anchor` to `pose` that fits, to 2 % of the step."""
    best = clip(anchor, np.concatenate([anchor[:6], pose[6:]]), limits).pose
    low, high = 0.0, 1.0
    start, end = _quaternion(anchor[None])[0], _quaternion(pose[None])[0]
    end = end if start @ end >= 0 else -end
    for _ in range(6):
        share = (low + high) / 2
        between = rotation_from_quaternion(torch.from_numpy((1 - share) * start + share * end))
        middle = np.concatenate(
            [anchor[:3] + share * (pose[:3] - anchor[:3]), euler_from_rotation(between).numpy(), pose[6:]]
        )
        middle = clip(anchor, middle, limits).pose
        if fits(middle):
            best, low = middle, share
        else:
            high = share
    return best


def _nearest_position(
    wanted: np.ndarray, anchor: np.ndarray, low: np.ndarray, high: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Projection on box and ball, [N, 3], and whether they meet.

    The optimality conditions say that it is box(anchor + s (wanted - anchor)) with the largest s in [0, 1] that
    stays in the ball.  `s` is searched on a logarithmic scale, because a wanted pose may be light years away.
    """

    def at(s: np.ndarray) -> np.ndarray:
        return np.clip(anchor + s[:, None] * (wanted - anchor), low, high)

    zero = np.zeros(len(wanted))
    found = _length(at(zero) - anchor) <= radius + TOLERANCE
    whole = _length(at(zero + 1) - anchor) <= radius
    below, above = zero - 740.0, zero.copy()
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2
        inside = _length(at(np.exp(middle)) - anchor) <= radius
        below, above = np.where(inside, middle, below), np.where(inside, above, middle)
    return np.where(whole[:, None], at(zero + 1), at(np.exp(below))), found


def _nearest_rotation(
    wanted: np.ndarray, anchor: np.ndarray, limits: Limits
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest quaternions xyzw [N, 4] in the cone and the ball of turns, and whether those meet.

    Straight down are the quaternions with z = w = 0, and the cone those within half the tilt of that plane; as
    for positions, the optimum is cone(between(anchor, wanted; s)) with the largest s that stays in the ball.
    """
    cosine = np.cos(min(limits.max_turn_rad, np.pi) / 2)
    aligned = (wanted * anchor).sum(-1, keepdims=True)
    best, found = _retreat(np.where(aligned < 0, -wanted, wanted), anchor, cosine, limits.max_tilt_rad)
    # For turns of nearly half a circle the other way round may end nearer, when the cone is in the way.
    both = np.abs(aligned[:, 0]) < np.sin(min(limits.max_turn_rad, np.pi) / 2)
    if both.any():
        other, _ = _retreat(
            np.where(aligned < 0, wanted, -wanted)[both], anchor[both], cosine, limits.max_tilt_rad
        )
        nearer = np.abs((other * wanted[both]).sum(-1)) > np.abs((best[both] * wanted[both]).sum(-1))
        best[both] = np.where(nearer[:, None], other, best[both])
    return best, found


def _retreat(
    wanted: np.ndarray, anchor: np.ndarray, cosine: float, tilt: float
) -> tuple[np.ndarray, np.ndarray]:
    def at(s: np.ndarray) -> np.ndarray:
        between = s[:, None] * wanted + (1 - s[:, None]) * anchor
        return _into_cone(between / np.maximum(_length(between), 1e-300)[:, None], anchor, tilt)

    def inside(q: np.ndarray) -> np.ndarray:
        return (q * anchor).sum(-1) >= cosine

    zero = np.zeros(len(wanted))
    found = (at(zero) * anchor).sum(-1) >= cosine - TOLERANCE
    whole = inside(at(zero + 1))
    below, above = zero.copy(), zero + 1
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2
        fits = inside(at(middle))
        below, above = np.where(fits, middle, below), np.where(fits, above, middle)
    return at(np.where(whole, 1.0, below)), found


def _into_cone(q: np.ndarray, fallback: np.ndarray, tilt: float) -> np.ndarray:
    """The quaternion nearest to `q` whose tool axis is within `tilt` of straight down."""
    cosine, sine = np.cos(min(tilt, np.pi) / 2), np.sin(min(tilt, np.pi) / 2)
    plane, rest = q[:, :2], q[:, 2:]
    plane = np.where(
        _length(plane)[:, None] < 1e-12, fallback[:, :2] + 1e-15, plane
    )  # straight up: any way will do
    inside = _length(q[:, :2]) >= cosine
    pulled = np.concatenate([cosine * _unit(plane), sine * _unit(rest)], -1)
    return np.where(inside[:, None], q, pulled)


def _rotation_fits(matrix: np.ndarray, anchor: np.ndarray, limits: Limits) -> np.ndarray:
    # Chord lengths, not arc cosines: those lose half the digits at small angles.
    chord = np.sqrt(((matrix - anchor) ** 2).sum((-1, -2)))
    fits = chord <= 2 * np.sqrt(2) * np.sin((min(limits.max_turn_rad, np.pi) + TOLERANCE) / 2)
    down = np.array([0.0, 0.0, -1.0])
    tilt = _length(matrix[..., 2] - down) <= 2 * np.sin((min(limits.max_tilt_rad, np.pi) + TOLERANCE) / 2)
    return fits & tilt


def _rotation(poses: np.ndarray) -> np.ndarray:
    return rotation_from_euler(torch.from_numpy(np.ascontiguousarray(poses[:, 3:6]))).numpy()


def _quaternion(poses: np.ndarray) -> np.ndarray:
    return quaternion_from_rotation(torch.from_numpy(_rotation(poses))).numpy()


def _length(vectors: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinitely far is far enough
        return np.sqrt((vectors * vectors).sum(-1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(_length(vectors), 1e-300)[..., None]
