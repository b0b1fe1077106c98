"""Every planner that a config names can be made, and plans."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate

from planners.protocols import Budget

HOUSE = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (HOUSE / "configs" / "planner").glob("*.yaml"))


def test_every_planner_has_a_config() -> None:
    assert {"seeded", "fast", "rehearse", "cem", "cem_vjepa2", "icem", "mppi", "gradient"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_configured_planner_plans(quadratic, name: str) -> None:
    planner = instantiate(yaml.safe_load((HOUSE / "configs" / "planner" / f"{name}.yaml").read_text()))
    inner = getattr(planner, "planner", planner)
    horizon = getattr(inner, "alone_horizon", None) or inner.horizon  # nobody proposes here
    problem = quadratic(1, horizon=horizon)
    plan = planner.plan(
        problem.memory, problem.world, problem.energy(), budget=Budget(candidate_steps=2000), seed=1
    )
    assert plan.actions.shape == (1, horizon, 7)


@pytest.mark.parametrize(
    "path", sorted((HOUSE / "configs" / "cost").glob("*.yaml")), ids=lambda path: path.stem
)
def test_cost_configs_hold_the_settings_of_the_agents_cost(path: Path) -> None:
    from agent.cost import CostSettings

    settings = yaml.safe_load(path.read_text())
    assert set(settings) <= {field.name for field in dataclasses.fields(CostSettings)}
    CostSettings(**settings)
