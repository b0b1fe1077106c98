"""Tasks: where each begins, what its goal pictures show, and when it has succeeded.

Goal pictures are taken by letting the scripted hand do the task in the simulator, from a saved state, and looking.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from data.types import Observation

from .arm import Arm, ArmError, Simulated
from .expert import LIFT_M, ScriptedHand, Waypoint, grasp, lift, place, reach
from .mujoco_arm import MujocoDriver
from .scenes import Scene

TASKS = ("reach", "grasp", "reach_with_object", "pick_place")
OBJECT = "object"


@dataclass(kw_only=True, slots=True)
class GoalView:
    """One goal: what the cameras should see, and the pose they saw it from."""

    name: str
    frames: dict[str, np.ndarray]
    pose: np.ndarray  # [7]
    objects: dict[str, np.ndarray] = field(default_factory=dict)  # the truth, for judges only


@dataclass(kw_only=True, slots=True)
class TaskGoal:
    """The goals of one task in one scene, in order; the last one is the task itself."""

    task: str
    views: list[GoalView]
    target: np.ndarray  # [3] where the hand (reach) or the object should be

    def final_only(self) -> TaskGoal:
        return TaskGoal(task=self.task, views=self.views[-1:], target=self.target)


@dataclass(kw_only=True, slots=True)
class Verdict:
    success: bool
    distance_m: float


def check_task(task: str) -> str:
    if task not in TASKS:
        raise ArmError(f"no task {task!r}; there are {', '.join(TASKS)}")
    return task


def begin(task: str, arm: Arm, driver: Simulated, *, seed: int, scene: Scene | None = None) -> Observation:
    """Lay out the scene of `seed`, or the one given, and bring the arm to where the task starts."""
    check_task(task)
    observation = arm.reset(seed=seed, options={} if scene is None else {"scene": scene})
    if task == "grasp":  # from up to 15 cm away
        rng = np.random.default_rng([seed, 77])
        direction = rng.normal(size=3)
        direction[2] = abs(direction[2]) + 0.6
        away = direction / np.linalg.norm(direction) * rng.uniform(0.09, 0.15)
        start = driver.object_poses()[OBJECT][:3] + away
        start[2] = max(start[2], 0.09)
        observation = drive(arm, driver, ScriptedHand(reach(tuple(start))), 12)
    elif task == "reach_with_object":
        observation = drive(arm, driver, ScriptedHand(grasp(OBJECT) + lift(OBJECT)), 25)
    return observation


def drive(arm: Arm, driver: Simulated, hand: ScriptedHand, most_steps: int) -> Observation:
    """Let the scripted hand work until it is done."""
    observation = arm.observe()
    for _ in range(most_steps):
        action = hand.act(observation.pose, observation.commanded, driver.object_poses())
        if hand.done:
            break
        arm.act(action)
        observation = arm.observe()
    return observation


def script(task: str, driver: MujocoDriver, *, seed: int) -> tuple[list[Waypoint], list[str], np.ndarray]:
    """The expert's waypoints, the names of those after which a goal picture is taken, and the target [3]."""
    scene = driver.scene
    rng = np.random.default_rng([seed, 78])
    item = scene.objects[0]
    height = grasp_height(driver)
    if task == "reach":
        position = (
            float(rng.uniform(*driver.scene_config.start_x_m)),
            float(rng.uniform(*driver.scene_config.start_y_m)),
            float(rng.uniform(0.08, 0.30)),
        )
        return reach(position), ["reach"], np.array(position)
    if task == "grasp":
        position = np.array([item.position[0], item.position[1], LIFT_M])
        return grasp(OBJECT) + lift(OBJECT), ["close", "lift"], position
    if task == "reach_with_object":
        position = (
            float(rng.uniform(*driver.scene_config.object_x_m)),
            float(rng.uniform(*driver.scene_config.object_y_m)),
            float(rng.uniform(0.10, 0.22)),
        )
        return [Waypoint(name="reach", offset=position, closedness=1.0)], ["reach"], np.array(position)
    target = np.array([*scene.target_xy, item.half_height_m])
    waypoints = grasp(OBJECT) + lift(OBJECT) + place(scene.target_xy, height)
    return waypoints, ["close", "lift", "carry", "retreat"], target


def grasp_height(driver: Simulated) -> float:
    """Height of the tool above the table when it holds the object as the script grasps it."""
    return float(driver.object_poses()[OBJECT][2])


def make_goal(task: str, arm: Arm, driver: MujocoDriver, *, seed: int) -> TaskGoal:
    """Do the task with the scripted hand, take the pictures, and put everything back as it was."""
    saved = driver.save()
    waypoints, named, target = script(task, driver, seed=seed)
    hand = ScriptedHand(waypoints)
    views: list[GoalView] = []
    observation = arm.observe()
    for _ in range(80):
        before = hand.phase
        action = hand.act(observation.pose, observation.commanded, driver.object_poses())
        passed = [w.name for w in waypoints[: hand.index] if w.name in named]
        if len(passed) > len(views):
            views.append(
                GoalView(
                    name=passed[-1],
                    frames=observation.frames,
                    pose=observation.pose,
                    objects=driver.object_poses(),
                )
            )
        if hand.done:
            break
        arm.act(action)
        observation = arm.observe()
    else:
        raise ArmError(f"the scripted hand did not finish {task} on seed {seed}; it stopped at {before!r}")
    driver.restore(saved)
    return TaskGoal(task=task, views=views, target=target)


class Judge:
    """Decides success from the truth, over the last second, so that passing by or standing still is not enough."""

    def __init__(
        self,
        goal: TaskGoal,
        driver: Simulated,
        *,
        tolerance_m: float | None = None,
        hold_steps: int | None = None,
    ) -> None:
        self.goal, self._driver = goal, driver
        self.tolerance_m = tolerance_m or (0.02 if goal.task == "reach" else 0.03)
        hold = hold_steps or {"reach": 2, "grasp": 5, "reach_with_object": 2, "pick_place": 3}[goal.task]
        self._recent: deque[bool] = deque(maxlen=hold)
        self._last: np.ndarray | None = None

    def see(self, observation: Observation) -> Verdict:
        """Call once a model step; True once the goal has held long enough."""
        good, distance = getattr(self, "_" + self.goal.task)(observation)
        self._recent.append(good)
        return Verdict(
            success=len(self._recent) == self._recent.maxlen and all(self._recent), distance_m=distance
        )

    def _reach(self, observation: Observation) -> tuple[bool, float]:
        distance = float(np.linalg.norm(observation.pose[:3] - self.goal.target))
        return distance <= self.tolerance_m, distance

    def _grasp(self, observation: Observation) -> tuple[bool, float]:
        position = self._driver.object_poses()[OBJECT][:3]
        held = OBJECT in self._driver.touching()
        bottom = float(position[2] - self._resting_height())
        return held and bottom > 0.05, float(max(0.0, LIFT_M - position[2]))

    def _reach_with_object(self, observation: Observation) -> tuple[bool, float]:
        hand = float(np.linalg.norm(observation.pose[:3] - self.goal.target))
        position = self._driver.object_poses()[OBJECT][:3]
        distance = max(hand, float(np.linalg.norm(position - self.goal.views[-1].objects[OBJECT][:3])))
        return distance <= self.tolerance_m and OBJECT in self._driver.touching(), distance

    def _pick_place(self, observation: Observation) -> tuple[bool, float]:
        position = self._driver.object_poses()[OBJECT][:3]
        distance = float(np.linalg.norm(position[:2] - self.goal.target[:2]))
        still = self._last is not None and float(np.linalg.norm(position - self._last)) < 0.003
        self._last = position
        on_table = position[2] < self._resting_height() + 0.02
        released = OBJECT not in self._driver.touching() and observation.pose[6] < 0.5
        return distance <= self.tolerance_m and still and on_table and released, distance

    def _resting_height(self) -> float:
        scene = getattr(self._driver, "scene", None)
        return scene.object(OBJECT).half_height_m if scene is not None else 0.02
