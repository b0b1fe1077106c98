"""The problems on which planners are compared: a memory, and what was seen some steps later.

With a trained model they come of held-out scenes on the way to a grasp; without one of random but smooth dynamics.
Scenes of seeds 30000 to 30019 were looked at while the planners were made; 31000 up were not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.types import CLOSEDNESS, Conventions, Memory
from planners.protocols import Imagines, Proposes

FIRST_SEED = 31000
Problem = tuple[Memory, Tensor]
Proposer = Callable[[Tensor], tuple[Proposes, ...]]


def random_model(seed: int = 0) -> Imagines:
    """A compact model of the usual size whose untrained predictor listens to the actions."""
    from world_model.compact import CompactModel

    torch.manual_seed(seed)
    model = CompactModel(Conventions()).eval()
    for name, weight in model.predictor.named_parameters():
        if weight.dim() > 1 and not weight.any():  # AdaLN and the output start at zero
            torch.nn.init.normal_(weight, std=0.3 / weight.shape[1] ** 0.5)
        elif "bias" in name:
            torch.nn.init.zeros_(weight)
    return model.requires_grad_(False)


def random_problems(model: Imagines, count: int, horizon: int) -> list[Problem]:
    """Goals that some plan leads to, and a little noise that none does."""
    generator = torch.Generator().manual_seed(1)
    problems = []
    for _ in range(count):
        poses = torch.tensor([0.5, 0.0, 0.2, 3.1416, 0.0, 0.0, 0.0]).repeat(1, 3, 1)
        poses[..., :3] += 0.05 * torch.randn(1, 3, 3, generator=generator)
        moves = torch.zeros(1, 2, 7)
        moves[..., :3] = 0.03 * torch.randn(1, 2, 3, generator=generator)
        memory = Memory(latents=torch.randn(1, 3, 1, 256, generator=generator), poses=poses, actions=moves)
        plan = torch.zeros(1, 1, horizon, 7)
        plan[..., :3] = (0.03 * torch.randn(1, 1, 1, 3, generator=generator)).clamp(-0.045, 0.045)
        plan[..., CLOSEDNESS] = float(torch.rand((), generator=generator) < 0.5)
        with torch.no_grad():
            goal = model.imagine(memory, plan).latents[:, 0, -1]
        problems.append((memory, goal + 0.05 * torch.randn(goal.shape, generator=generator)))
    return problems


def simulated_problems(model: Any, count: int, horizon: int) -> list[Problem]:
    """Held-out scenes on the way to a grasp: the last three moments, and what is seen `horizon` steps later."""
    from agent.memory import ShortTermMemory
    from agent.perception import Perception
    from envs import make_arm
    from envs.expert import ScriptedHand
    from envs.tasks import begin, script

    conventions, perception, problems = model.conventions, Perception(model), []
    arm, driver = make_arm(
        split="held_out",
        cameras=conventions.cameras,
        width=conventions.image_size,
        height=conventions.image_size,
        period_s=conventions.period_s,
    )
    for index in range(count):
        observation = begin("grasp", arm, driver, seed=FIRST_SEED + index)
        hand = ScriptedHand(script("grasp", driver, seed=FIRST_SEED + index)[0], step_m=0.04)
        memory, rng = ShortTermMemory(frames=3), np.random.default_rng(index)
        for _ in range(2 + int(rng.integers(0, 5))):
            memory.perceive(perception.see(observation))
            outcome = arm.act(hand.act(observation.pose, observation.commanded, driver.object_poses()))
            memory.did(outcome.commanded)
            observation = arm.observe()
        memory.perceive(perception.see(observation))
        context = memory.context()
        for _ in range(horizon):
            arm.act(hand.act(observation.pose, observation.commanded, driver.object_poses()))
            observation = arm.observe()
        problems.append((context, perception.see(observation).latent))
    return problems


def chosen_model(
    path: str | None, *, random: bool
) -> tuple[Imagines, str, Callable[[int, int], list[Problem]], Proposer | None]:
    """The model, what it is, what makes problems for it, and who proposes plans for a goal where it has a policy."""
    from agent.actor import PolicyProposals
    from world_model.checkpoint import SHIPPED, describe, load_heads, load_model

    shipped = sorted(p.parent for p in SHIPPED.glob("*/config.json"))
    if path is None and shipped and not random:
        path = str(shipped[0])
    if path is None or random:
        untrained = random_model()
        return (
            untrained,
            "random dynamics",
            lambda count, horizon: random_problems(untrained, count, horizon),
            None,
        )
    model: Any = load_model(path).eval().requires_grad_(False)

    def problems(count: int, horizon: int) -> list[Problem]:
        return simulated_problems(model, count, horizon)

    if "policy" not in describe(path).heads:
        return model, f"model {Path(path).name}", problems, None
    policy: Any = load_heads(path, names=["policy"])["policy"].requires_grad_(False)

    def propose(goal: Tensor) -> tuple[Proposes, ...]:
        return (PolicyProposals(policy, model, goal),)

    return model, f"model {Path(path).name}", problems, propose
