"""The loop, with every module the simplest thing that obeys its protocol."""

import numpy as np
import pytest
import torch

from agent.agent import arm_action
from agent.configurator import Configurator, ConfiguratorSettings, Situation
from agent.memory import ShortTermMemory
from agent.surprise import Surprise, SurpriseScale, scale_from
from agent.task import Task
from data.types import Observation


def test_it_goes_to_the_goal_and_says_so(make_agent, make_task, point_arm):
    outcome = make_agent().pursue(make_task((0.6, 0.1, 0.3)))
    assert outcome.reached
    assert np.linalg.norm(point_arm.pose[:3] - [0.6, 0.1, 0.3]) < 0.015
    assert len(outcome.steps) <= 8


def test_goals_are_taken_in_order(make_agent, make_task, point_arm):
    seen = []
    outcome = make_agent().pursue(
        make_task((0.6, 0.0, 0.2), (0.6, 0.15, 0.2)), on_step=lambda s: seen.append(s.goal_index)
    )
    assert outcome.reached
    assert sorted(seen) == seen
    assert set(seen) == {0, 1}
    passed = min(np.linalg.norm(s.percept.observation.pose[:3] - [0.6, 0.0, 0.2]) for s in outcome.steps)
    assert passed < 0.02


def test_it_says_when_the_steps_are_used_up(make_agent, make_task):
    outcome = make_agent().pursue(make_task((0.7, 0.3, 0.4), budget_steps=2))
    assert outcome.status == "out of steps"
    assert len([s for s in outcome.steps if s.decision is not None]) == 2


def test_the_same_seed_acts_the_same(make_agent, make_task, point_arm):
    start = point_arm.pose.copy()
    make_agent().pursue(make_task((0.6, 0.1, 0.3)), seed=5)
    first = [a.copy() for a in point_arm.acted]
    point_arm.pose, point_arm.acted = start, []
    make_agent().pursue(make_task((0.6, 0.1, 0.3)), seed=5)
    np.testing.assert_array_equal(first, point_arm.acted)


def test_a_shove_is_a_surprise_and_stops_the_arm(make_agent, make_task, point_arm):
    scale = SurpriseScale(latent=0.01, position_m=0.01, strong=3.0)
    agent = make_agent(surprise=lambda: Surprise(scale))

    def shove(step):
        point_arm.shove = np.array([0.0, 0.08, 0.0]) if step.index == 1 else np.zeros(3)

    outcome = agent.pursue(make_task((0.7, 0.0, 0.2)), on_step=shove)
    assert outcome.status.startswith("stopped")
    assert "since" in outcome.status or "for 1 step" in outcome.status
    assert point_arm.stopped
    assert outcome.steps[-1].decision is None


def test_an_undisturbed_arm_is_never_stopped(make_agent, make_task, point_arm):
    agent = make_agent(surprise=lambda: Surprise(SurpriseScale(latent=0.01, position_m=0.01)))
    assert agent.pursue(make_task((0.6, 0.1, 0.3))).reached
    assert not point_arm.stopped


def test_memory_holds_measured_changes_and_the_commanded_gripper(make_agent, make_task, point_arm):
    agent = make_agent()
    agent.pursue(make_task((0.6, 0.1, 0.3)))
    memory = agent.memory.context()
    assert memory.latents.shape[1] == 3
    torch.testing.assert_close(
        memory.poses[0, 1, :3] - memory.poses[0, 0, :3], memory.actions[0, 0, :3], atol=1e-6, rtol=0
    )


def test_memory_tells_a_squeezed_object_from_a_closed_hand():
    from agent.perception import Percept

    memory = ShortTermMemory()
    pose = torch.tensor([[0.5, 0, 0.2, np.pi, 0, 0, 0.45]], dtype=torch.float32)
    observation = Observation(
        frames={}, pose=np.zeros(7), commanded=np.zeros(7), joints=np.zeros(7), time_s=0.0
    )
    for _ in range(2):
        memory.perceive(Percept(latent=torch.zeros(1, 1, 3), pose=pose, observation=observation))
        memory.did(np.array([0.5, 0, 0.2, np.pi, 0, 0, 1.0]))
    # The fingers did not move, but they were told to close: that is what the model is told.
    assert memory.context().actions[0, 0, 6].item() == pytest.approx(0.55)


def test_the_arm_is_told_from_where_it_was_commanded():
    observation = Observation(
        frames={}, pose=np.array([0.5, 0, 0.2, np.pi, 0, 0, 0.45]), commanded=np.array([0.502, 0, 0.2, np.pi, 0, 0, 1.0]),
        joints=np.zeros(7), time_s=0.0,
    )  # fmt: skip
    told = arm_action(observation, np.array([0.01, 0, 0, 0, 0, 0, 0.9]))
    assert told[0] == pytest.approx(0.008)
    assert told[6] == pytest.approx(0.0)  # keep squeezing
    assert arm_action(observation, np.zeros(7))[6] == pytest.approx(-1.0)  # open, wide


def situation(**changes):
    base = {"goal_index": 0, "steps_on_goal": 3, "steps_to_go": 5.0, "distance": 0.5, "surprise": None}
    return Situation(**{**base, **changes})


@pytest.mark.parametrize(
    ("changes", "next_goal", "done"),
    [
        ({}, False, False),
        ({"steps_to_go": 0.1}, True, False),
        ({"distance": 0.001}, True, False),
        ({"steps_on_goal": 99}, True, False),
        ({"goal_index": 1, "steps_to_go": 0.1}, False, True),
        ({"goal_index": 1, "steps_on_goal": 99}, False, False),
    ],
)
def test_the_configurator_moves_on_with_a_reason(make_task, changes, next_goal, done):
    choice = Configurator().choose(make_task((0.5, 0, 0.2), (0.6, 0, 0.2)), situation(**changes))
    assert (choice.next_goal, choice.done) == (next_goal, done)
    assert bool(choice.reasons) == (next_goal or done)


def test_mode_one_acts_alone_only_while_it_gets_on(make_task):
    configurator = Configurator(ConfiguratorSettings(hesitation_steps=2))
    task = make_task((0.5, 0, 0.2))
    assert configurator.choose(task, situation(surprise=0.5)).mode == "policy"
    assert configurator.choose(task, situation(surprise=1.5)).mode == "both"
    assert configurator.choose(task, situation(still_steps=1)).mode == "policy"
    hesitant = configurator.choose(task, situation(still_steps=2))
    assert hesitant.mode == "both"
    assert "Mode 2" in hesitant.reasons[0]
    assert Configurator(ConfiguratorSettings(hesitation_steps=0)).choose(task, situation()).mode == "both"


def test_surprise_is_calibrated_on_normal_steps():
    rng = np.random.default_rng(0)
    latent, position = rng.exponential(0.01, 2000), rng.exponential(0.004, 2000)
    scale = scale_from(latent, position)
    assert np.mean(latent > scale.latent) == pytest.approx(0.01, abs=0.005)
    assert np.mean(position > scale.position_m) == pytest.approx(0.01, abs=0.005)


def test_a_task_without_goals_is_refused():
    with pytest.raises(ValueError, match="at least one goal"):
        Task(goals=[])


@pytest.mark.parametrize("quick", [torch.bfloat16, torch.float32])
def test_it_imagines_in_the_type_that_is_quickest_here(tiny_model, point_arm, monkeypatch, quick):
    """An arm with the model's cameras; what is imagined differs by rounding alone, and can be asked to be exact."""
    from agent import build
    from data.types import Camera, Memory

    mind = build.load_mind(tiny_model)
    for weights in mind.model.predictor.parameters():  # a fresh AdaLN imagines that nothing changes
        weights.data += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
    cameras = {name: Camera(name=name, width=32, height=32) for name in mind.model.conventions.cameras}
    monkeypatch.setattr(type(point_arm), "cameras", cameras)
    monkeypatch.setattr(build, "quick_type", lambda: quick)
    memory = Memory(
        latents=torch.randn(1, 3, 1, 16), poses=torch.zeros(1, 3, 7), actions=torch.zeros(1, 2, 7)
    )
    imagined = {}
    for light in (False, True):
        build.build_agent(mind, point_arm, build.AgentSettings(light=light))
        with torch.no_grad():
            imagined[light] = mind.model.imagine(memory, torch.zeros(1, 4, 2, 7)).latents
    gap = (imagined[True] - imagined[False]).abs().max()
    assert gap < 0.05 * imagined[False].std()
    assert (gap > 0) == (quick == torch.bfloat16)
