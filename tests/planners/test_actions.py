"""The box, the searched axes and the gripper as a persistent switch."""

from __future__ import annotations

import pytest
import torch

from data.poses import apply_action
from data.types import Memory
from planners.actions import ActionSpace, GripperRule
from planners.belief import Belief
from planners.icem import coloured
from planners.proposals import shifted
from planners.search import Search


def memory_with(closedness: list[float], gripper_change: list[float]) -> Memory:
    """One problem; the last numbers of its poses and actions."""
    poses, actions = torch.zeros(1, len(closedness), 7), torch.zeros(1, len(gripper_change), 7)
    poses[0, :, 6], actions[0, :, 6] = torch.tensor(closedness), torch.tensor(gripper_change)
    return Memory(latents=torch.zeros(1, len(closedness), 1, 3), poses=poses, actions=actions)


def space_of(rule: GripperRule) -> ActionSpace:
    low = 0.0 if rule is GripperRule.TARGET else -1.0
    return ActionSpace(low=[-0.06] * 6 + [low], high=[0.06] * 6 + [1.0], gripper=rule)


def test_plans_switch_at_most_once_and_are_all_there() -> None:
    table = ActionSpace().gripper_plans(5, torch.zeros(1))
    assert table.shape == (10, 5)
    assert (table.diff(dim=1).abs().sum(1) <= 1).all()
    assert len({tuple(row) for row in table.tolist()}) == 10


@pytest.mark.parametrize("rule", [GripperRule.TARGET, GripperRule.DELTA, GripperRule.SWITCH])
@pytest.mark.parametrize("now", [0.0, 1.0])
def test_targets_come_back_from_actions(rule: GripperRule, now: float) -> None:
    space, memory = space_of(rule), memory_with([now], [])
    targets = space.gripper_plans(4, torch.zeros(1))[None]
    actions = space.with_targets(torch.zeros(1, 8, 4, 7), targets, memory)
    assert torch.equal(space.targets(actions, memory), targets)


def test_delta_actions_lead_the_imagined_pose_to_the_targets() -> None:
    """Integrated as poses are, from a half closed gripper, the closedness is the target after every step."""
    space, memory = space_of(GripperRule.DELTA), memory_with([0.45], [])
    targets = space.gripper_plans(4, torch.zeros(1))[None]
    actions = space.with_targets(torch.zeros(1, 8, 4, 7), targets, memory)
    pose = memory.poses[:, -1:].expand(1, 8, 7)
    for h in range(4):
        pose = apply_action(pose, actions[:, :, h])
        torch.testing.assert_close(pose[..., 6], targets[..., h])


def test_switch_actions_are_zero_but_at_the_switch() -> None:
    space, memory = space_of(GripperRule.SWITCH), memory_with([0.0], [])
    targets = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]]])
    asked = space.with_targets(torch.zeros(1, 2, 4, 7), targets, memory)[..., 6]
    assert asked.tolist() == [[[0, 0, 1, 0], [1, 0, -1, 0]]]


def test_holding_an_object_keeps_squeezing() -> None:
    """Fingers around a cube measure 0.45; the command was 1.  Holding still must not open them."""
    memory = memory_with([0.0, 0.45, 0.45], [1.0, 0.55])
    assert float(ActionSpace().commanded(memory)) == pytest.approx(1.0)
    assert (ActionSpace().hold(memory, 3)[..., 6] == 1).all()
    assert (ActionSpace().hold(memory_with([0.45], []), 3)[..., 6] == 0).all()
    for rule in (GripperRule.DELTA, GripperRule.SWITCH):
        assert (space_of(rule).hold(memory, 3) == 0).all()


def test_clip_makes_anything_safe() -> None:
    space = ActionSpace()
    wild = torch.tensor([[1e9, -1e9, float("nan"), float("inf"), -float("inf"), 0.0, 5.0]])
    low, high = space.box(wild)
    clipped = space.clip(wild)
    assert ((clipped >= low) & (clipped <= high)).all()


def test_a_search_samples_within_the_box_on_its_axes_only() -> None:
    space = ActionSpace(axes=(0, 2, 6))
    memory = memory_with([0.0], [])
    search = Search(memory=memory, model=None, energy=None, space=space, horizon=4)  # pyright: ignore
    belief = Belief.around(search, space.hold(memory, 4), spread=2.0)
    actions, plans = belief.sample(search, 500)
    low, high = space.box(actions)
    assert ((actions >= low) & (actions <= high)).all()
    assert (actions[..., [1, 3, 4, 5]] == 0).all()
    assert actions[..., 0].std() > 0.02
    assert plans is not None
    assert set(plans.flatten().tolist()) == set(range(8))  # every gripper plan is tried
    counts = torch.bincount(plans.flatten(), minlength=8)
    assert counts.max() - counts.min() <= 6  # and evenly, when nothing is known


def test_patience_keeps_the_gripper_near_the_proposal() -> None:
    memory = memory_with([0.0], [])
    space = ActionSpace()
    search = Search(memory=memory, model=None, energy=None, space=space, horizon=6)  # pyright: ignore
    centre = torch.zeros(1, 6, 7)
    centre[:, 3:, 6] = 1.0
    actions, _ = Belief.around(search, centre, spread=0.3, patience=0.5).sample(search, 400)
    differ = (actions[..., 6] - centre[:, None, :, 6]).abs().sum(-1)
    assert (differ == 0).float().mean() > 0.5
    assert differ.max() <= 2
    assert differ.max() > 0


def test_coloured_noise_is_of_unit_variance_and_smooth() -> None:
    white = torch.randn(1, 20000, 8, 2, generator=torch.Generator().manual_seed(0))
    for colour in (0.5, 2.0):
        noise = coloured(white, colour)
        torch.testing.assert_close(noise.std((0, 1)), torch.ones(8, 2), atol=0.03, rtol=0)
        assert (noise[:, :, 1:] * noise[:, :, :-1]).mean() > 0.1 * colour
    assert torch.equal(coloured(white, 0.0), white)


def test_shifting_a_plan_keeps_the_gripper() -> None:
    actions = torch.arange(4.0)[:, None].repeat(1, 7)[None]
    ahead = shifted(actions, 1, 4, GripperRule.TARGET)
    assert ahead[0, :, 0].tolist() == [1, 2, 3, 0]
    assert ahead[0, :, 6].tolist() == [1, 2, 3, 3]
    assert shifted(actions, 1, 4, GripperRule.DELTA)[0, -1].abs().sum() == 0
    assert shifted(actions, 9, 2, GripperRule.TARGET)[0, :, 0].tolist() == [0, 0]
    assert shifted(actions, 0, 2, GripperRule.TARGET)[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"low": [0.0] * 7, "high": [-1.0] * 7}, "above high"),
        ({"low": [0.0] * 7, "high": [1.0] * 6}, "one each"),
        ({"axes": (0, 0)}, "different numbers"),
        ({"axes": (0, 7)}, "different numbers"),
        ({"low": [-1.0] * 7}, "from 0 to 1"),
        ({"low": [-1.0] * 3, "high": [1.0] * 3, "axes": (0,)}, "has no gripper"),
        ({"gripper": "clap"}, "clap"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ActionSpace(**settings)
