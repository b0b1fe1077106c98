"""The simplest world in which an agent makes sense: a point that goes where it is told, seen as its position."""

import numpy as np
import pytest
import torch

from agent.actor import Actor
from agent.agent import Agent
from agent.configurator import Configurator, ConfiguratorSettings
from agent.memory import ShortTermMemory
from agent.perception import Percept
from agent.task import Goal, Task
from data.types import Camera, Imagined, Observation
from envs.arm import Limits, Outcome
from planners.costs.goal import GoalDistance
from planners.costs.total import Term, TotalCost
from planners.seeded import Seeded


class PointArm:
    """An arm that is its tool point; its 'frames' are 1 x 1 pictures that hold nothing."""

    period_s = 0.2
    limits = Limits()

    def __init__(self, start=(0.5, 0.0, 0.2)):
        self.pose = np.array([*start, np.pi, 0, 0, 0.0])
        self.acted: list[np.ndarray] = []
        self.stopped = False
        self.shove = np.zeros(3)

    @property
    def cameras(self):
        return {"eye": Camera(name="eye", width=1, height=1)}

    def observe(self):
        return Observation(
            frames={"eye": np.zeros((1, 1, 3), np.uint8)}, pose=self.pose.copy(), commanded=self.pose.copy(),
            joints=np.zeros(7), time_s=0.2 * len(self.acted),
        )  # fmt: skip

    def act(self, action, *, blocking=True):
        self.acted.append(action)
        self.pose = self.pose + action
        self.pose[:3] += self.shove
        return Outcome(commanded=self.pose.copy())

    def reset(self, *, seed=None, options=None):
        return self.observe()

    def stop(self):
        self.stopped = True

    def close(self):
        pass


class SeesPosition:
    """The latent is the position, in decimetres."""

    def see(self, observation):
        pose = torch.from_numpy(observation.pose.astype(np.float32))[None]
        return Percept(latent=10 * pose[:, None, :3], pose=pose, observation=observation)

    def see_goal(self, goal):
        return 10 * torch.from_numpy(np.asarray(goal.pose, np.float32))[None, None, :3]


class KnowsPhysics:
    """The world model of a point: it goes where it is told."""

    def imagine(self, memory, actions, z=None):
        moved = actions[..., :3].cumsum(2) + memory.poses[:, -1, None, None, :3]
        poses = torch.cat(
            [moved, memory.poses[:, -1, None, None, 3:6].expand(*moved.shape[:3], 3), actions[..., 6:]], -1
        )
        return Imagined(latents=10 * moved[..., None, :], poses=poses)


class DistanceCosts:
    """No critic: steps to go are the distance at six centimetres a step."""

    def for_goal(self, goal, pose):
        return TotalCost([Term(name="distance", cost=GoalDistance(goal=goal))])

    def steps_to_go(self, latent, goal, pose):
        return float((latent - goal).norm()) / 0.6

    def distance(self, latent, goal):
        return float((latent - goal).square().mean())


@pytest.fixture
def point_arm():
    return PointArm()


@pytest.fixture
def make_agent(point_arm):
    def build(arm=point_arm, **parts):
        model = KnowsPhysics()
        pieces = {
            "arm": arm,
            "perception": SeesPosition(),
            "memory": lambda: ShortTermMemory(frames=3),
            "costs": DistanceCosts(),
            "actor": Actor(model, None, Seeded(horizon=2, candidates=64, iterations=3, refine_steps=4)),
            "configurator": Configurator(
                ConfiguratorSettings(mode="planner", reached_steps=0.2, reached_distance=0.0)
            ),
        }
        return Agent(**{**pieces, **parts})

    return build


@pytest.fixture
def make_task():
    def build(*positions, budget_steps=20):
        goals = [
            Goal(frames={}, pose=np.array([*p, np.pi, 0, 0, 0.0]), name=f"goal {i}")
            for i, p in enumerate(positions)
        ]
        return Task(goals=goals, budget_steps=budget_steps)

    return build
