"""The tasks as Gymnasium environments.

    import gymnasium, envs.gym
    env = gymnasium.make("forearm/PickPlace-v0", engine="pybullet")

Importing this module registers them; "envs.gym:forearm/PickPlace-v0" does both at once.  Vectorised in processes,
they need `vector_kwargs={"context": "spawn"}`: a forked process inherits an OpenGL context that it cannot use.

An observation holds the cameras' frames, the measured pose, and the goal: the frames and the pose of the arm when
the task is done.  The reward is 1 in the step that succeeds and 0 otherwise.  `info` tells the truth of the
simulator (`distance_m`, `success`), what the envelope did to the action (`clipped`, `notes`), and at a reset all
goals in order (`goals`, sub-goals first).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from data.types import Observation

from . import make_arm
from .arm import ArmError, Limits
from .scenes import SceneConfig
from .tasks import Judge, TaskGoal, begin, check_task, make_goal

ENVIRONMENTS: dict[str, tuple[str, int]] = {  # id -> task, most steps
    "forearm/Reach-v0": ("reach", 20),
    "forearm/Grasp-v0": ("grasp", 30),
    "forearm/ReachWithObject-v0": ("reach_with_object", 20),
    "forearm/PickPlace-v0": ("pick_place", 60),
}
_FREE_SEEDS = 1_000_000  # seeds that nobody names: evaluation has its own below
_FAR = 10.0  # bound of poses: metres and radians


class ArmEnv(gymnasium.Env):
    """One task, one arm, one scene after another.

    `reset(seed=n)` gives the scene of seed n, `reset(options={"scene": scene})` one of your own.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(
        self,
        task: str,
        *,
        engine: str = "mujoco",
        split: str = "train",
        cameras: tuple[str, ...] = ("exterior_left", "wrist"),
        width: int = 128,
        height: int = 128,
        period_s: float = 0.2,
        scene: SceneConfig | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.task = check_task(task)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"no render mode {render_mode!r}; there is rgb_array")
        self.render_mode = render_mode
        self.arm, self._driver = make_arm(
            engine, scene=scene, split=split, cameras=cameras, width=width, height=height, period_s=period_s
        )
        self._goal: TaskGoal | None = None
        self._judge: Judge | None = None
        limits: Limits = self.arm.limits
        reach = np.array([limits.max_step_m] * 3 + [limits.max_turn_rad] * 3 + [1.0], dtype=np.float32)
        self.action_space = spaces.Box(-reach, reach, dtype=np.float32)
        frame = spaces.Box(0, 255, (height, width, 3), np.uint8)
        pose = spaces.Box(-_FAR, _FAR, (7,), np.float64)
        views: dict[str, spaces.Space[Any]] = dict.fromkeys(cameras, frame)
        self.observation_space = spaces.Dict(
            {
                "frames": spaces.Dict(views),
                "pose": pose,
                "goal": spaces.Dict({"frames": spaces.Dict(views), "pose": pose}),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(_FREE_SEEDS, 2**31)) if seed is None else seed
        scene = (options or {}).get("scene")
        if set(options or {}) - {"scene"}:
            raise ArmError(
                f"no options {sorted(set(options or {}) - {'scene'})}; there is scene (envs.scenes.Scene)"
            )
        begin(self.task, self.arm, self._driver, seed=drawn, scene=scene)
        self._goal = make_goal(self.task, self.arm, self._driver, seed=drawn)
        self._judge = Judge(self._goal, self._driver)
        observation = self.arm.observe()
        verdict = self._judge.see(observation)
        return self._told(observation), {
            "seed": drawn,
            "success": verdict.success,
            "distance_m": verdict.distance_m,
            "goals": self._goal.views,
        }

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        assert self._judge is not None, "call reset() before step()"
        outcome = self.arm.act(action)
        observation = self.arm.observe()
        verdict = self._judge.see(observation)
        info = {
            "success": verdict.success,
            "distance_m": verdict.distance_m,
            "clipped": outcome.clipped,
            "notes": "; ".join(outcome.notes),
        }
        return self._told(observation), float(verdict.success), verdict.success, False, info

    def render(self) -> np.ndarray:
        """A picture for people: full meshes and shadows."""
        return self._driver.portrait()

    def close(self) -> None:
        self.arm.close()

    def _told(self, observation: Observation) -> dict[str, Any]:
        assert self._goal is not None
        goal = self._goal.views[-1]
        return {
            "frames": observation.frames,
            "pose": observation.pose,
            "goal": {
                "frames": {name: frame.copy() for name, frame in goal.frames.items()},
                "pose": goal.pose.copy(),
            },
        }


for _name, (_task, _steps) in ENVIRONMENTS.items():
    gymnasium.register(
        id=_name, entry_point="envs.gym:ArmEnv", kwargs={"task": _task}, max_episode_steps=_steps
    )
