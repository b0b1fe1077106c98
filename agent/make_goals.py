"""Make a goal picture: put objects and hand where they should be, look, check it, save it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.arm import Limits
from envs.envelope import clip
from envs.expert import ScriptedHand, reach
from envs.poses import rotation_from_pose
from envs.tasks import OBJECT, begin, drive

from .arms import open_arm, require_simulated
from .build import load_mind
from .goals import load_goal, write_goal
from .perception import Percept, Perception
from .settings import EnvConfig
from .surprise import SurpriseScale, surprise_at_rest
from .task import Goal

# How far a measured pose may lie beyond what may be commanded: arms lag and sag.
SLACK_M = 0.005
SLACK_RAD = 0.02


@dataclass(kw_only=True)
class Checked:
    """A goal, and what there is to say about it."""

    goal: Goal
    words: list[str] = field(default_factory=list)
    good: bool = True
    figures: dict[str, Any] = field(default_factory=dict)


def make(
    *,
    model: str,
    env: EnvConfig,
    task: str,
    seed: int,
    object_xy: list[float],
    hand_xyz: list[float],
    closed: bool,
    take: str | None,
) -> Checked:
    """Lay out the scene of a seed, move what is asked for, and look; or take a recorded step (`take`)."""
    require_simulated(env, "laying a scene out")
    mind = load_mind(model)
    arm, driver = open_arm(env)
    try:
        now = begin(task, arm, driver, seed=seed)
        if take is not None:
            goal = load_goal(take, mind.model.conventions)
        else:
            goal = _arrange(arm, driver, object_xy, hand_xyz, closed)
        return check(goal, now, arm, mind, driver.joints_for)
    finally:
        arm.close()


def check(
    goal: Goal,
    now: Any,
    arm: Any,
    mind: Any,
    joints_for: Callable[[np.ndarray], np.ndarray | None] | None = None,
) -> Checked:
    """Is it within reach and envelope, how far is it from now, and would surprise stop the agent?

    `joints_for` finds joints for a pose; None: nobody here knows.
    """
    found = Checked(goal=goal)
    if goal.pose is not None:
        wrong = [*_outside(goal.pose, arm.limits), *_out_of_reach(goal.pose, joints_for)]
        place = ", ".join(f"{value:.3f}" for value in goal.pose[:3])
        inside = "inside the envelope" + ("" if joints_for is None else " and within reach")
        found.words.append(f"the hand is at ({place}) m, " + ("; ".join(wrong) or inside))
        found.good &= not wrong
    found.figures["hand_allowed"] = None if goal.pose is None else found.good
    perception = Perception(mind.model)
    seen, wanted = perception.see(now), perception.see_goal(goal)
    scale = float(mind.normalisation.get("latent_scale", 2.0))
    distance = float((seen.latent - wanted).square().mean()) / scale
    found.figures["latent_distance"] = distance
    found.words.append(f"latent distance from now {distance:.2f}, where 1 is that of two random frames")
    if distance > 1.6:
        found.words.append(
            "that is farther than frames of the training data are from each other: is it the same camera?"
        )
        found.good = False
    stored = mind.normalisation.get("surprise")
    if stored:
        _check_surprise(found, mind.model, SurpriseScale(**stored), seen, wanted)
    critic = mind.heads.get("critic")
    if critic is not None:
        with torch.no_grad():
            steps = float(critic.steps_to_go(seen.latent, wanted, seen.pose).mean())
        found.figures["steps_to_go"] = steps
        found.words.append(
            f"the critic expects {steps:.0f} steps" + (" or more" if steps > 0.85 * critic.horizon else "")
        )
    return found


def _outside(pose: np.ndarray, limits: Limits) -> list[str]:
    """What of a measured pose is beyond the envelope, by more than arms lag behind what they are told."""
    said = [
        f"{axis} of {value:.3f} m is OUTSIDE the envelope, {low:g} to {high:g} m"
        for axis, value, low, high in zip("xyz", pose[:3], limits.low, limits.high, strict=True)
        if not low - SLACK_M <= value <= high + SLACK_M
    ]
    tilt = float(np.arccos(np.clip(-rotation_from_pose(pose)[2, 2], -1, 1)))
    if tilt > limits.max_tilt_rad + SLACK_RAD:
        allowed = np.degrees(limits.max_tilt_rad)
        said.append(
            f"tilted by {np.degrees(tilt):.0f} degrees from straight down, OUTSIDE the envelope's {allowed:.0f}"
        )
    nearest = clip(pose, pose, limits)
    higher = float(nearest.pose[2] - pose[2])
    if not said and (nearest.impossible or higher > SLACK_M):
        said.append(
            f"{pose[2] - limits.table_z:.3f} m above the table is OUTSIDE the envelope: a finger would touch it"
        )
    return said


def _out_of_reach(
    pose: np.ndarray, joints_for: Callable[[np.ndarray], np.ndarray | None] | None
) -> list[str]:
    if joints_for is None or joints_for(np.asarray(pose, np.float64)) is not None:
        return []
    return ["OUT OF REACH: no joints inside their limits take the hand there"]


def _check_surprise(
    found: Checked, model: Any, scale: SurpriseScale, seen: Percept, wanted: torch.Tensor
) -> None:
    """Will surprise stop the agent here, or at the goal where its pose is known?"""
    places = {"here": seen}
    if found.goal.pose is not None:
        pose = torch.from_numpy(np.asarray(found.goal.pose, np.float32))[None]
        places["there"] = Percept(latent=wanted, pose=pose, observation=seen.observation)
    felt = {place: surprise_at_rest(model, scale, percept) for place, percept in places.items()}
    found.figures["surprise"] = felt
    said = " and ".join(f"{value:.1f} {place}" for place, value in felt.items())
    stops = max(felt.values()) > scale.strong
    found.words.append(
        f"standing still surprises it {said}, where 1 is the limit of what is normal: "
        + (f"it would STOP, from {scale.strong:.0f} on" if stops else "surprise will not stop it")
    )
    found.good &= not stops


def save(checked: Checked, folder: Path) -> list[Path]:
    """The goal's folder and a contact sheet to look at."""
    from PIL import Image

    write_goal(folder, checked.goal)
    sheet = np.concatenate([frame.repeat(3, 0).repeat(3, 1) for frame in checked.goal.frames.values()], 1)
    picture = folder / "look.png"
    Image.fromarray(sheet).save(picture)
    return [folder, picture]


def _arrange(arm: Any, driver: Any, object_xy: list[float], hand_xyz: list[float], closed: bool) -> Goal:
    if object_xy:
        low, high = arm.limits.low, arm.limits.high
        if not all(low[i] <= object_xy[i] <= high[i] for i in range(2)):
            raise ValueError(
                f"object_xy_m is {object_xy}: the hand may not go there; x goes from {low[0]:g} to {high[0]:g} m, y from "
                f"{low[1]:g} to {high[1]:g} m (env.workspace_low_m, env.workspace_high_m)"
            )
        here = driver.object_poses()[OBJECT][:2]
        driver.move_object(OBJECT, np.array(object_xy) - here)
    if hand_xyz:
        drive(
            arm,
            driver,
            ScriptedHand(reach((hand_xyz[0], hand_xyz[1], hand_xyz[2]), 1.0 if closed else 0.0)),
            40,
        )
    else:
        arm.act(np.array([0, 0, 0, 0, 0, 0, (1.0 if closed else 0.0) - arm.observe().commanded[6]]))
    seen = arm.observe()
    if hand_xyz and float(np.linalg.norm(seen.pose[:3] - hand_xyz)) > 0.02:
        raise ValueError(
            f"the hand stopped at {np.round(seen.pose[:3], 3).tolist()} on its way to {hand_xyz}: that place is out of reach, "
            "outside the envelope or blocked; choose another hand_xyz_m"
        )
    return Goal(frames=seen.frames, pose=seen.pose, name="goal")
