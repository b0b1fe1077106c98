"""V-JEPA 2's planner from its recorded noise: every energy, mean and deviation of the official runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data.types import Imagined, Memory
from planners.cem_vjepa2 import CEMVJepa2
from planners.costs.goal import Distance, GoalDistance
from planners.costs.total import Term, TotalCost
from world_model.imagine import imagine_tokens
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

CASES = ["h1", "h2", "h2_close1", "h1_axis_z0", "h1_defaults"]


class Official:
    """The predictor with the recorded weights."""

    def __init__(self, folder: Path) -> None:
        self.predictor = TokenPredictor(
            TokenPredictorConfig(latent_dim=96, dim=48, depth=3, heads=3, grid=(4, 4))
        )
        self.predictor.load_state_dict(load_file(folder / "b_ac_predictor_weights.safetensors"))
        self.predictor.eval()

    def imagine(self, memory: Memory, actions: torch.Tensor, z: torch.Tensor | None = None) -> Imagined:
        return imagine_tokens(self.predictor, memory, actions, z)


@pytest.fixture(scope="module")
def official(fixtures: Path):
    folder = fixtures / "vjepa2"
    tensors = load_file(folder / "d_planning.safetensors")
    cases = {
        case["name"]: case for case in json.loads((folder / "d_planning.json").read_text())["cem"]["cases"]
    }
    memory = Memory(latents=tensors["context"][:, None], poses=tensors["pose"], actions=torch.zeros(1, 0, 7))
    energy = TotalCost([Term(name="goal", cost=GoalDistance(goal=tensors["goal"], distance=Distance.L1))])
    return Official(folder), memory, energy, tensors, cases


def planner_of(case: dict, noise: torch.Tensor | None) -> CEMVJepa2:
    told = case["mpc_args"]
    names = {"rollout": "horizon", "cem_steps": "iterations", "maxnorm": "maxnorm_m", "axis": "fixed"}
    settings = {names.get(name, name): value for name, value in told.items() if name != "verbose"}
    if "momentum_mean" not in settings:  # the case that runs on the defaults of the function itself
        settings |= {"momentum_mean": 0.25, "momentum_std": 0.95}
    settings["fixed"] = {int(axis): value for axis, value in settings.get("fixed", {}).items()}
    return CEMVJepa2(**settings, close_gripper=case["close_gripper"], noise=noise)


@pytest.mark.parametrize("name", CASES)
def test_every_energy_mean_and_deviation(official, name: str) -> None:
    model, memory, energy, tensors, cases = official
    plan = planner_of(cases[name], tensors[f"{name}.noise"]).plan(memory, model, energy)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(plan.info["mean"][:, 0], tensors[f"{name}.mean_before"], **close)
    torch.testing.assert_close(plan.info["std"][:, 0], tensors[f"{name}.std_before"], **close)
    torch.testing.assert_close(plan.info["energies"][:, 0], tensors[f"{name}.energies"], **close)
    torch.testing.assert_close(plan.actions[0], tensors[f"{name}.action"], **close)


def test_the_noise_is_what_makes_the_run(official) -> None:
    model, memory, energy, tensors, cases = official
    plan = planner_of(cases["h1"], tensors["h1.noise"].flip(1)).plan(memory, model, energy)
    assert (
        plan.info["mean"][1, 0] - tensors["h1.mean_before"][1]
    ).abs().max() < 1e-5  # samples in another order
    plan = planner_of(cases["h1"], tensors["h1.noise"] * 0.9).plan(memory, model, energy)
    assert (plan.actions[0] - tensors["h1.action"]).abs().max() > 1e-3


def test_two_problems_at_once_are_the_two_alone(official) -> None:
    model, memory, energy, _tensors, cases = official
    both = Memory(
        latents=memory.latents.repeat(2, 1, 1, 1),
        poses=memory.poses.repeat(2, 1, 1),
        actions=torch.zeros(2, 0, 7),
    )
    alone = planner_of(cases["h2"], None).plan(memory, model, energy, seed=5)
    pair = planner_of(cases["h2"], None).plan(both, model, energy, seed=[5, 6])
    torch.testing.assert_close(pair.actions[:1], alone.actions, atol=1e-4, rtol=1e-4)
    assert (pair.actions[1] - pair.actions[0]).abs().max() > 1e-3


@pytest.mark.parametrize("repeat", [1, 2])
def test_the_energy_grid(official, repeat: int) -> None:
    model, memory, energy, tensors, _ = official
    actions = tensors[f"grid27_rep{repeat}.actions"].repeat(1, repeat, 1)[None]  # [1, 27, H, 7]
    with torch.no_grad():
        imagined = model.imagine(memory, actions)
    torch.testing.assert_close(
        energy(memory, imagined, actions)[0], tensors[f"grid27_rep{repeat}.energy"], atol=1e-5, rtol=1e-5
    )
