"""What a calibration is worth, in simulation: reaching goal pictures with a turned camera, before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from envs.arm import Arm
from envs.scenes import CameraSpec, Scene, draw_scene

from .build import AgentSettings, Mind, build_agent, planner_from
from .calibrate import CalibratedArm, Calibration
from .choices import Mode
from .configurator import ConfiguratorSettings
from .seen_places import with_places
from .task import Goal, Task

BUDGET_STEPS = 16


def turned_cameras(scene: Scene, yaw_deg: float) -> Scene:
    """The scene with its outside cameras carried about the vertical through what they look at."""
    angle = np.deg2rad(yaw_deg)
    cosine, sine = np.cos(angle), np.sin(angle)

    def turned(camera: CameraSpec) -> CameraSpec:
        if camera.on_hand:
            return camera
        x, y, z = np.array(camera.position) - np.array(camera.look_at)
        place = np.array([cosine * x - sine * y, sine * x + cosine * y, z]) + np.array(camera.look_at)
        return dataclasses.replace(camera, position=tuple(place.tolist()))

    return dataclasses.replace(scene, cameras=[turned(camera) for camera in scene.cameras])


def lay_out(arm: Arm, driver: Any, *, seed: int, camera_yaw_deg: float = 0.0) -> None:
    """The scene of a seed, with its outside cameras turned."""
    if camera_yaw_deg and not hasattr(driver, "scene_config"):
        raise ValueError("camera_yaw_deg turns simulated cameras; turn a real one by hand")
    options = None
    if camera_yaw_deg:
        scene = draw_scene(driver.scene_config, seed, driver.split)
        options = {"scene": turned_cameras(scene, camera_yaw_deg)}
    arm.reset(seed=seed, options=options)


def reach_errors(
    arm: Arm,
    driver: Any,
    mind: Mind,
    seeds: Iterable[int],
    *,
    camera_yaw_deg: float,
    calibration: Calibration | None,
    planner: Any = None,
    mode: str = "both",
    reach_m: float = 0.12,
) -> list[float]:
    """Distance (m) between where the goal picture was taken and where the hand is after `BUDGET_STEPS`.

    Whether it has arrived is not the agent's to judge: with an unfamiliar view it is wrong about that, too.
    """
    settings = AgentSettings(
        planner=planner or planner_from(),
        stop_on_surprise=False,
        configurator=ConfiguratorSettings(mode=Mode(mode), reached_steps=0, reached_distance=0),
    )
    errors = []
    for seed in seeds:
        goal, target = _goal_picture(arm, driver, seed, camera_yaw_deg, reach_m)
        used = arm if calibration is None else CalibratedArm(arm, calibration)
        knowing = mind if calibration is None else with_places(mind, calibration.places)
        agent = build_agent(knowing, used, settings)
        agent.pursue(Task(goals=[goal], budget_steps=BUDGET_STEPS), seed=seed)
        errors.append(float(np.linalg.norm(arm.observe().pose[:3] - target)))
    return errors


def _goal_picture(
    arm: Arm, driver: Any, seed: int, camera_yaw_deg: float, reach_m: float
) -> tuple[Goal, np.ndarray]:
    """Go somewhere `reach_m` away within the workspace, look, and come back to the start of the scene."""
    lay_out(arm, driver, seed=seed, camera_yaw_deg=camera_yaw_deg)
    start = arm.observe().pose[:3]
    random = np.random.default_rng([seed, 30])
    low, high = np.array(arm.limits.low) + 0.05, np.array(arm.limits.high) - 0.05
    target = start
    while np.linalg.norm(target - start) < 0.8 * reach_m:
        way = random.normal(size=3) * np.array([1.0, 1.0, 0.4])
        target = np.clip(start + reach_m * way / np.linalg.norm(way), low, high)
    for _ in range(8):
        move = target - arm.observe().pose[:3]
        length = max(float(np.linalg.norm(move)), 1e-9)
        arm.act(np.concatenate([move * min(1.0, 0.04 / length), np.zeros(4)]))
    observation = arm.observe()
    lay_out(arm, driver, seed=seed, camera_yaw_deg=camera_yaw_deg)
    return Goal(frames=observation.frames, pose=None, name=f"reach {seed}"), observation.pose[:3].copy()
