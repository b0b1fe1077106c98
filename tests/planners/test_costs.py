"""Energies: what they measure, that they add, that their scales come from data."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from data.types import Imagined, Memory
from planners.actions import GripperRule
from planners.costs.critic import CriticCost, NearGoal
from planners.costs.goal import Distance, GoalDistance, Over, latent_scale
from planners.costs.intrinsic import (
    Action,
    Disagreement,
    GripperChatter,
    Jerk,
    JointLimits,
    Speed,
    Table,
    Workspace,
)
from planners.costs.pose import PoseDistance
from planners.costs.total import Term, TotalCost
from planners.futures import SampledFutures

B, K, H, N, D = 2, 5, 3, 4, 6


@pytest.fixture
def world():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    memory = Memory(latents=draw(B, 2, N, D), poses=draw(B, 2, 7), actions=draw(B, 1, 7) * 0.01)
    imagined = Imagined(latents=draw(B, K, H, N, D), poses=draw(B, K, H, 7) * 0.3)
    return memory, imagined, draw(B, K, H, 7) * 0.05, draw(B, N, D)


def test_latent_distances_by_hand(world) -> None:
    memory, imagined, actions, goal = world
    gap = imagined.latents - goal[:, None, None]
    cosine = 1 - torch.nn.functional.cosine_similarity(
        imagined.latents, goal[:, None, None].expand_as(gap), dim=-1
    )
    by_hand = {
        Distance.L1: gap.abs().mean((-2, -1)),
        Distance.L2: gap.square().mean((-2, -1)),
        Distance.COSINE: cosine.mean(-1),
    }
    for kind, steps in by_hand.items():
        for over, want in {
            Over.LAST: steps[..., -1],
            Over.SUM: steps.sum(-1),
            Over.MIN: steps.amin(-1),
        }.items():
            cost = GoalDistance(goal=goal, distance=kind, over=over)
            torch.testing.assert_close(cost(memory, imagined, actions), want)


def test_one_goal_serves_all_problems(world) -> None:
    memory, imagined, actions, goal = world
    one = GoalDistance(goal=goal[0])(memory, imagined, actions)
    torch.testing.assert_close(one[0], GoalDistance(goal=goal)(memory, imagined, actions)[0])
    assert (one[1] - GoalDistance(goal=goal)(memory, imagined, actions)[1]).abs().max() > 1e-3


def test_token_weights_say_where_to_look(world) -> None:
    memory, imagined, actions, goal = world
    mask = torch.tensor([0.0, 1.0, 0.0, 1.0])
    cost = GoalDistance(goal=goal, token_weights=mask)
    before = cost(memory, imagined, actions)
    torch.testing.assert_close(
        before, (imagined.latents - goal[:, None, None])[:, :, -1, 1::2].square().mean((-2, -1))
    )
    imagined.latents[..., 0, :] += 100.0  # something changes where nobody looks
    torch.testing.assert_close(cost(memory, imagined, actions), before)
    imagined.latents[..., 1, :] += 100.0
    assert (cost(memory, imagined, actions) > before + 1).all()
    with pytest.raises(ValueError, match="at least one above zero"):
        GoalDistance(goal=goal, token_weights=torch.zeros(N))


def test_a_goal_of_another_model_is_named(world) -> None:
    memory, imagined, actions, _ = world
    with pytest.raises(ValueError, match="encode the goal with the model that plans"):
        GoalDistance(goal=torch.zeros(B, N + 1, D))(memory, imagined, actions)
    with pytest.raises(ValueError, match="give one, or one each"):
        GoalDistance(goal=torch.zeros(B + 1, N, D))(memory, imagined, actions)


def test_energies_add_and_keep_their_names(world) -> None:
    memory, imagined, actions, goal = world
    parts = [
        Term(name="goal", cost=GoalDistance(goal=goal), weight=2.0, scale=4.0),
        Term(name="effort", cost=Action(), weight=0.5),
        Term(name="off", cost=Disagreement(), weight=0.0),  # would complain if it were asked
    ]
    total = TotalCost(parts)
    terms = total.terms(memory, imagined, actions)
    assert list(terms) == ["goal", "effort"]
    torch.testing.assert_close(terms["goal"], 0.5 * GoalDistance(goal=goal)(memory, imagined, actions))
    torch.testing.assert_close(total(memory, imagined, actions), terms["goal"] + terms["effort"])
    with pytest.raises(ValueError, match="two costs are called 'goal'"):
        TotalCost([parts[0], parts[0]])


def test_scales_come_from_data(world) -> None:
    memory, imagined, actions, goal = world
    huge = Imagined(latents=1000 * imagined.latents, poses=imagined.poses)
    total = TotalCost(
        [
            Term(name="goal", cost=GoalDistance(goal=goal)),
            Term(name="table", cost=Table(), scale=0.01, scale_from_data=False),
        ]
    )
    scales = total.calibrate([(memory, huge, actions), (memory, huge, actions)])
    assert scales["table"] == 0.01
    assert 1e5 < scales["goal"] < 1e7
    typical = total.terms(memory, huge, actions)["goal"].median()
    assert float(typical) == pytest.approx(1.0, rel=0.3)
    with pytest.raises(ValueError, match="no samples"):
        total.calibrate([])


def test_latent_scale_is_the_distance_of_strangers() -> None:
    latents = torch.randn(4000, 2, 8, generator=torch.Generator().manual_seed(1))
    assert latent_scale(latents, Distance.L2) == pytest.approx(2.0, rel=0.05)
    assert latent_scale(latents, Distance.L1) == pytest.approx(2 / math.sqrt(math.pi), rel=0.05)


def test_pose_distance_is_in_the_units_that_it_names() -> None:
    goal = torch.tensor([0.4, 0.1, 0.2, 3.1, 0.1, -0.4, 1.0])
    turn = Rotation.from_euler("xyz", [0.0, 0.0, 0.2])
    turned = torch.tensor((turn * Rotation.from_euler("xyz", goal[3:6].numpy())).as_euler("xyz")).float()
    poses = goal.expand(1, 1, 1, 7).clone()
    poses[..., 0] += 0.05
    poses[..., 3:6] = turned
    poses[..., 6] = 0.5
    imagined = Imagined(latents=torch.zeros(1, 1, 1, 1, 1), poses=poses)
    memory = Memory(latents=torch.zeros(1, 1, 1, 1), poses=poses[:, 0], actions=torch.zeros(1, 0, 7))
    nothing = torch.zeros(1, 1, 1, 7)

    def energy(**settings: float) -> float:
        return float(PoseDistance(goal=goal, **settings)(memory, imagined, nothing))

    assert energy(position_m=0.1) == pytest.approx(0.5, abs=2e-3)
    assert energy(position_m=0.0, rotation_rad=0.2) == pytest.approx(1.0, abs=5e-3)
    assert energy(position_m=0.0, closedness=1.0) == pytest.approx(0.5, abs=1e-6)
    poses[..., :] = goal
    assert energy(position_m=0.1, rotation_rad=0.2, closedness=1.0) == pytest.approx(0.0, abs=1e-5)


def states(poses: torch.Tensor) -> tuple[Memory, Imagined]:
    """poses [H, 7] as one candidate of one problem, from a memory at rest."""
    imagined = Imagined(latents=torch.zeros(1, 1, len(poses), 1, 1), poses=poses[None, None])
    memory = Memory(latents=torch.zeros(1, 3, 1, 1), poses=torch.zeros(1, 3, 7), actions=torch.zeros(1, 2, 7))
    return memory, imagined


def test_intrinsic_hinges_are_zero_inside_and_grow_outside() -> None:
    inside, outside = torch.zeros(2, 7), torch.zeros(2, 7)
    inside[:, 2], outside[:, 2] = 0.1, -0.03
    outside[:, 0] = 0.5
    still = torch.zeros(1, 1, 2, 7)
    box = Workspace(low=[-0.3, -0.3, 0.0], high=[0.3, 0.3, 0.5])
    assert float(box(*states(inside), still)) == 0
    assert float(box(*states(outside), still)) == pytest.approx(2 * (0.2 + 0.03))
    assert float(Table(height_m=0.01)(*states(outside), still)) == pytest.approx(2 * 0.04)
    assert float(Table(height_m=0.01)(*states(inside), still)) == 0
    fast = still.clone()
    fast[..., :2] = torch.tensor([0.06, 0.08])
    fast[..., 5] = 0.5
    assert float(Speed(max_step_m=0.075, max_turn_rad=0.35)(*states(inside), fast)) == pytest.approx(
        2 * (0.025 + 0.15), abs=1e-5
    )
    assert float(Speed()(*states(inside), still)) == 0


def test_joint_limits_use_what_turns_poses_into_joints() -> None:
    limits = JointLimits(
        low=[-1.0, -1.0], high=[1.0, 1.0], margin_rad=0.1, joints=lambda poses: poses[..., :2]
    )
    poses = torch.zeros(1, 7)
    still = torch.zeros(1, 1, 1, 7)
    assert float(limits(*states(poses), still)) == 0
    poses[0, 0], poses[0, 1] = 0.95, -1.2
    assert float(limits(*states(poses), still)) == pytest.approx(0.05 + 0.3, abs=1e-5)
    limits.joints = None
    with pytest.raises(ValueError, match="joint limits need joints"):
        limits(*states(poses), still)
    memory, imagined = states(poses)
    imagined.extras["joints"] = poses[None, None, :, :2]
    assert float(limits(memory, imagined, still)) == pytest.approx(0.35, abs=1e-5)


def test_jerk_counts_the_step_from_rest() -> None:
    steady, sudden = torch.zeros(1, 1, 4, 7), torch.zeros(1, 1, 4, 7)
    steady[..., 0] = torch.tensor([0.01, 0.02, 0.03, 0.04])
    sudden[..., 0] = torch.tensor([0.04, 0.0, 0.04, 0.0])
    poses = torch.zeros(4, 7)
    assert float(Jerk()(*states(poses), steady)) < 0.1 * float(Jerk()(*states(poses), sudden))
    memory, imagined = states(poses)
    memory.actions[..., 0] = torch.tensor([-0.01, 0.0])  # already accelerating as the plan goes on
    assert float(Jerk()(memory, imagined, steady)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("rule", [GripperRule.TARGET, GripperRule.DELTA, GripperRule.SWITCH])
def test_chatter_counts_the_switches(rule: GripperRule) -> None:
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0])
    actions = torch.zeros(1, 1, 4, 7)
    actions[..., 6] = targets if rule is GripperRule.TARGET else torch.tensor([1.0, -1.0, 0.0, 1.0])
    memory, imagined = states(torch.zeros(4, 7))
    assert float(GripperChatter(rule=rule)(memory, imagined, actions)) == 3
    memory.poses[..., 6] = 1.0  # closed already: the first is none
    if rule is GripperRule.TARGET:
        assert float(GripperChatter(rule=rule)(memory, imagined, actions)) == 2


def test_disagreement_of_sampled_futures() -> None:
    class Noisy:
        def imagine(self, memory, actions, z=None) -> Imagined:
            size = actions[..., :1].abs().cumsum(2)  # the longer the way, the less is known
            latents = size * (0 if z is None else z)
            return Imagined(latents=latents[..., None, :], poses=torch.zeros(*actions.shape[:3], 7))

    futures = SampledFutures(
        model=Noisy(), draw=lambda _m, a, g: torch.randn(*a.shape[:3], 1, generator=g), samples=64
    )
    actions = torch.zeros(1, 2, 3, 7)
    actions[:, 0, :, 0], actions[:, 1, :, 0] = 0.01, 0.1
    memory, _ = states(torch.zeros(3, 7))
    imagined = futures.imagine(memory, actions)
    energy = Disagreement()(memory, imagined, actions)
    assert float(energy[0, 1] / energy[0, 0]) == pytest.approx(10, rel=0.2)
    assert torch.equal(futures.imagine(memory, actions).latents, imagined.latents)
    with pytest.raises(ValueError, match="imagines no extras"):
        Disagreement()(memory, Imagined(latents=imagined.latents, poses=imagined.poses), actions)


def one_way(latents: torch.Tensor, poses: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Steps to go along one number: down costs one a unit, up costs three."""
    gap = (goal - latents)[..., 0, 0]
    return torch.where(gap > 0, 3 * gap, -gap)


def test_the_critic_is_asked_about_the_end_and_need_not_be_symmetric(world) -> None:
    memory, imagined, actions, goal = world
    there = CriticCost(steps_to_go=one_way, goal=goal)(memory, imagined, actions)
    torch.testing.assert_close(
        there,
        one_way(imagined.latents[:, :, -1], imagined.poses[:, :, -1], goal[:, None].expand(B, K, N, D)),
    )
    start, end = torch.zeros(1, N, D), torch.full((1, N, D), 2.0)
    back = one_way(end, torch.zeros(1, 7), start)
    assert float(one_way(start, torch.zeros(1, 7), end)) == 3 * float(back)
    every = torch.stack(
        [one_way(imagined.latents[:, :, h], imagined.poses[:, :, h], goal[:, None]) for h in range(H)], -1
    )
    fastest = CriticCost(steps_to_go=one_way, goal=goal, over=Over.MIN)(memory, imagined, actions)
    torch.testing.assert_close(fastest, (every + torch.arange(1, H + 1)).amin(-1))
    with pytest.raises(ValueError, match="the critic returned"):
        CriticCost(steps_to_go=lambda z, p, g: z, goal=goal)(memory, imagined, actions)


def test_near_the_goal_the_distance_takes_over(world) -> None:
    memory, imagined, actions, goal = world
    goal = memory.latents[:, -1].clone()
    goal[0, 0, 0] -= 1.0  # one step to go
    goal[1, 0, 0] -= 30.0  # thirty
    near = NearGoal(steps_to_go=one_way, goal=goal, near_steps=5.0, width_steps=1.0)
    far = NearGoal(steps_to_go=one_way, goal=goal, near_steps=5.0, width_steps=1.0, far=True)
    torch.testing.assert_close(near(memory), torch.tensor([1.0, 0.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(near(memory) + far(memory), torch.ones(2))
    total = TotalCost(
        [
            Term(name="distance", cost=GoalDistance(goal=goal), gate=near),
            Term(name="critic", cost=CriticCost(steps_to_go=one_way, goal=goal), gate=far),
        ]
    )
    terms = total.terms(memory, imagined, actions)
    assert terms["distance"][0].abs().max() > 10 * terms["distance"][1].abs().max() / 100
    assert terms["critic"][0].abs().max() < 0.05 * terms["critic"][1].abs().max()
