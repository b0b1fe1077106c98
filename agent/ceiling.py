"""The true simulator as world model: what an agent could do whose imagination is perfect.

Two ceilings, so that a model's dynamics and its eyes can be blamed separately.  `true_agent` imagines in the
simulator and scores the true state.  `seeing_agent` searches alike and imagines in the simulator too, but scores
rendered pictures as the learned model and its critic see them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data.types import CLOSEDNESS, Imagined, Memory, Observation
from envs.arm import Arm, Refused
from envs.expert import ScriptedHand
from envs.tasks import OBJECT, TaskGoal, script
from planners.actions import ActionSpace
from planners.protocols import Budget, Energy, Planner
from planners.seeded import Seeded

from .actor import Decision
from .agent import Agent, Outcome, Step, arm_action
from .build import AgentSettings, Mind, build_agent
from .choices import Mode
from .configurator import Configurator, ConfiguratorSettings
from .memory import ShortTermMemory
from .perception import Percept, Perception
from .task import Goal, Task
from .true_costs import TrueCosts

NEAR_M = 0.025  # a sub-goal is reached when hand and object are this near


class World(Protocol):
    """A simulated arm and the driver that knows the truth."""

    arm: Arm
    driver: Any


def true_state(observation: Observation, objects: Mapping[str, np.ndarray]) -> Tensor:
    """[1, 7] float32, the "latent" of a perfect eye: hand xyz, closedness, object xyz."""
    thing = objects[OBJECT][:3] if OBJECT in objects else np.zeros(3)
    state = np.concatenate([observation.pose[:3], observation.pose[CLOSEDNESS:], thing])
    return torch.from_numpy(state.astype(np.float32))[None]


@dataclass
class SimulatorModel:
    """Imagines by acting in the simulator and putting everything back.  One problem at a time; no gradients.

    `look` turns what the cameras see into latents [1, N, D]; None: latents are the true state.  Pictures are
    rendered after the last step only, unless `every_step`; the steps before carry the last latent.
    """

    world: World
    look: Callable[[Observation], Tensor] | None = None
    every_step: bool = False
    steps: int = 0  # simulated so far

    @torch.no_grad()
    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        if len(actions) != 1:
            raise ValueError(f"{len(actions)} problems for one simulator; plan them one by one")
        saved = self.world.driver.save()
        try:
            futures = [self._follow(saved, candidate) for candidate in actions[0].double().numpy()]
        finally:
            self.world.driver.restore(saved)
        latents = torch.stack([latent for latent, _ in futures])[None]
        poses = torch.stack([pose for _, pose in futures])[None]
        return Imagined(latents=latents.to(memory.latents), poses=poses.to(memory.poses))

    def _follow(self, saved: Any, actions: np.ndarray) -> tuple[Tensor, Tensor]:
        """Latents [H, N, D] and poses [H, 7] after actions [H, 7]."""
        driver = self.world.driver
        driver.restore(saved)
        latents, poses = [], []
        for action in actions:
            act(self.world.arm, driver.state(), action)
            self.steps += 1
            state = driver.state()
            poses.append(torch.from_numpy(state.pose))
            if self.look is None:
                latents.append(true_state(state, driver.object_poses()))
            elif self.every_step or len(poses) == len(actions):
                latents.append(self.look(driver.observe())[0])
        latents += [latents[-1]] * (len(poses) - len(latents))
        return torch.stack(latents), torch.stack(poses)


def act(arm: Arm, state: Observation, action: np.ndarray) -> None:
    """Carry out a model's action as the agent does; what is refused is not done."""
    try:
        arm.act(arm_action(state, action))
    except Refused:
        arm.act(np.zeros(7))


@dataclass
class NoisyScript:
    """Proposes what the scripted hand would do, shaken: an able but imprecise Mode 1.

    Each candidate, the first included, has an offset of its own and noise on every step.
    """

    world: World
    hand: ScriptedHand
    noise_m: float = 0.02

    def propose(self, memory: Memory, horizon: int, count: int, generator: torch.Generator) -> Tensor:
        driver, arm = self.world.driver, self.world.arm
        saved, start = driver.save(), driver.state()
        hand = copy.deepcopy(self.hand)
        script = np.zeros((horizon, 7))
        for h in range(horizon):
            state = driver.state()
            told = hand.act(state.pose, state.commanded, driver.object_poses())
            script[h, :3] = told[:3] + state.commanded[:3] - state.pose[:3]
            script[h, CLOSEDNESS] = told[CLOSEDNESS] + state.commanded[CLOSEDNESS]
            act(arm, state, script[h])
        driver.restore(saved)
        self.hand.act(start.pose, start.commanded, driver.object_poses())  # the real hand goes on by one step
        actions = torch.from_numpy(script).to(memory.poses).repeat(1, count, 1, 1)
        actions[..., 0, :3] += self.noise_m * torch.randn(count, 3, generator=generator)
        actions[..., :3] += 0.5 * self.noise_m * torch.randn(count, horizon, 3, generator=generator)
        return actions


@dataclass
class TruePerception:
    """Sees the true state; goals are told apart by name."""

    world: World
    goal: TaskGoal
    _seen: dict[str, Tensor] = field(default_factory=dict)

    def see(self, observation: Observation) -> Percept:
        latent = true_state(observation, self.world.driver.object_poses())[None]
        pose = torch.from_numpy(np.asarray(observation.pose, np.float32))[None]
        return Percept(latent=latent, pose=pose, observation=observation)

    def see_goal(self, goal: Goal) -> Tensor:
        view = next(view for view in self.goal.views if view.name == goal.name)
        seen = Observation(frames={}, pose=view.pose, commanded=view.pose, joints=np.zeros(7), time_s=0.0)
        return true_state(seen, view.objects)[None]


def ceiling_planner(
    *, proposals: int = 16, candidates: int = 48, iterations: int = 1, horizon: int = 4
) -> Seeded:
    """The small budget that a simulator affords: 64 candidates x 4 steps a decision."""
    space = ActionSpace()
    return Seeded(
        space=space, horizon=horizon, candidates=candidates, iterations=iterations, elites=8, spread=0.35,
        trust=0.8, refine_steps=0, suggestions=proposals,
    )  # fmt: skip


def search_for(task: str) -> dict[str, Any]:
    """Planner and shake of the proposing hand for a task.

    A reach is steps that can be taken one by one; on a long way a hand that is shaken much wanders.
    """
    if task == "reach":
        return {"planner": ceiling_planner(candidates=16, iterations=2, horizon=1), "noise_m": None}
    if task == "pick_place":
        return {"planner": ceiling_planner(candidates=24, iterations=2), "noise_m": 0.01}
    return {"planner": ceiling_planner(), "noise_m": 0.02}


@dataclass
class SimulatingActor:
    """The agent's `Acts`: a planner in the simulator, with a scripted hand for Mode 1.  `mode` is not asked."""

    model: SimulatorModel
    planner: Planner
    proposer: NoisyScript | None

    def decide(
        self,
        memory: Memory,
        goal: Tensor,
        energy: Energy,
        *,
        mode: str = "planner",
        budget: Budget | None = None,
        seed: int = 0,
        keep_clouds: bool = False,
    ) -> Decision:
        plan = self.planner.plan(
            memory,
            self.model,
            energy,
            proposers=() if self.proposer is None else (self.proposer,),
            budget=budget,
            seed=seed,
            keep_clouds=keep_clouds,
        )
        return Decision(action=plan.actions[0, 0], mode="planner", plan=plan)


def true_agent(
    world: World, goal: TaskGoal, *, seed: int, planner: Planner | None = None, noise_m: float | None = 0.02
) -> Agent:
    """An agent that imagines in the simulator and scores the true state.

    Where the one goal is a thing elsewhere, distances do not lead: there it scores what is still to be done.

    Args:
        noise_m: shake of the scripted hand that proposes; None: the planner gets no proposals.
    """
    hand = _shaken_hand(world, goal, seed, noise_m)
    return Agent(
        arm=world.arm,
        perception=TruePerception(world, goal),
        memory=lambda: ShortTermMemory(frames=2),
        costs=TrueCosts(way_to_go=goal.task == "pick_place" and len(goal.views) == 1),
        actor=SimulatingActor(SimulatorModel(world), planner or ceiling_planner(), hand),
        configurator=Configurator(
            ConfiguratorSettings(mode=Mode.planner, reached_distance=NEAR_M, reached_steps=-1.0)
        ),
    )


def seeing_agent(
    mind: Mind,
    world: World,
    goal: TaskGoal,
    *,
    seed: int,
    planner: Planner | None = None,
    noise_m: float | None = 0.02,
    settings: AgentSettings | None = None,
) -> Agent:
    """As `true_agent`, but goals and futures are pictures, seen and scored by the learned model: true dynamics, learned
    eyes.  The same search as there, so that the two ceilings differ by the eyes alone."""
    settings = settings or AgentSettings(
        stop_on_surprise=False, configurator=ConfiguratorSettings(mode=Mode.planner)
    )
    perception = Perception(mind.model)
    model = SimulatorModel(world, look=lambda observation: perception.see(observation).latent)
    hand = _shaken_hand(world, goal, seed, noise_m)
    agent = build_agent(mind, world.arm, settings)
    agent.actor = SimulatingActor(model, planner or ceiling_planner(), hand)
    return agent


def _shaken_hand(world: World, goal: TaskGoal, seed: int, noise_m: float | None) -> NoisyScript | None:
    if noise_m is None:
        return None
    waypoints, _, _ = script(goal.task, world.driver, seed=seed)
    # A shaken hand never stands exactly at its waypoint: one that waits for that would hover for ever.
    loose = [replace(w, tolerance_m=max(w.tolerance_m, 1.25 * noise_m)) for w in waypoints]
    if goal.task == "pick_place":  # on its long way it passes some waypoints by
        passed = ("hover", "lift", "carry")
        loose = [replace(w, tolerance_m=0.03) if w.name in passed else w for w in loose]
        return NoisyScript(world, ScriptedHand(loose, patience=5), noise_m)
    return NoisyScript(world, ScriptedHand(loose), noise_m)


def pursue_with_simulator(
    cell: Any, seed: int, world: World, goal: TaskGoal, budget: int, watch: Callable[[Observation], bool]
) -> Outcome:
    """One trial of the evaluation's `ceiling` method."""
    agent = true_agent(world, goal, seed=seed, **search_for(goal.task))
    goals = [Goal(frames=view.frames, pose=view.pose, name=view.name) for view in goal.views]
    task = Task(goals=goals, budget_steps=budget, name=goal.task)

    def see(step: Step) -> bool:
        return watch(step.percept.observation)

    return agent.pursue(task, seed=seed, on_step=see, stop_when_reached=False)
