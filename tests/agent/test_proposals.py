"""Mode 1 proposes to Mode 2: itself first, then itself from small detours, each with what it would lead to."""

import pytest
import torch

from agent.actor import PolicyProposals, StraightThere
from data.types import Conventions, Imagined, Memory
from world_model.compact import CompactModel
from world_model.heads.body import Body
from world_model.heads.policy import Policy


def small():
    torch.manual_seed(0)
    conventions = Conventions(cameras=("front",), image_size=32)
    model = CompactModel(
        conventions, dim=16, view_width=32, width=32, depth=2, heads=2, channels=(8, 8), shrinks=(1,)
    )
    policy = Policy(dim=16, width=32, depth=1)
    memory = Memory(
        latents=torch.randn(2, 3, 1, 16), poses=torch.rand(2, 3, 7), actions=0.02 * torch.randn(2, 2, 7)
    )
    return PolicyProposals(policy.eval(), model.eval(), torch.randn(1, 1, 16)), memory, model  # fmt: skip


def test_the_first_proposal_is_the_policy_itself_and_the_same_seed_the_same_detours():
    proposals, memory, _ = small()
    drawn = [proposals.propose(memory, 4, 6, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*drawn)
    alone = proposals.propose(memory, 4, 1, torch.Generator().manual_seed(9))
    assert torch.allclose(drawn[0][:, 0], alone[:, 0], atol=1e-6)
    assert (drawn[0][:, 1:, 0, :3] - drawn[0][:, :1, 0, :3]).abs().amax(-1).min() > 1e-4
    assert set(drawn[0][..., 6].unique().tolist()) <= {0.0, 1.0}


def test_what_a_rehearsal_led_to_is_what_the_model_imagines():
    proposals, memory, model = small()
    actions, imagined = proposals.roll(memory, 4, 5, torch.Generator().manual_seed(1))
    once = model.imagine(memory, actions)
    assert torch.equal(imagined.latents, once.latents)
    assert torch.equal(imagined.poses, once.poses)


class OnlyImagines:
    """A world model of somebody else's."""

    def __init__(self, model: CompactModel) -> None:
        self.model, self.context = model, model.context

    def imagine(self, memory: Memory, actions: torch.Tensor, z: torch.Tensor | None = None) -> Imagined:
        return self.model.imagine(memory, actions, z)


def test_a_model_that_only_imagines_is_asked_anew_at_each_step():
    proposals, memory, model = small()
    actions, imagined = proposals.roll(memory, 3, 4, torch.Generator().manual_seed(1))
    proposals.model = OnlyImagines(model)
    asked, led_to = proposals.roll(memory, 3, 4, torch.Generator().manual_seed(1))
    assert asked.shape == actions.shape
    assert led_to.latents.shape == imagined.latents.shape
    torch.testing.assert_close(asked[:, :, :2], actions[:, :, :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(led_to.latents[:, :, 0], imagined.latents[:, :, 0], atol=1e-5, rtol=0)
    # Later it has forgotten what lies farther back than its context.
    torch.testing.assert_close(led_to.latents, imagined.latents, atol=0.1, rtol=0)


@pytest.mark.parametrize("only_imagines", [False, True])
def test_proposing_is_rolling_without_imagining_what_follows_the_last_action(only_imagines: bool):
    proposals, memory, model = small()
    if only_imagines:
        proposals.model = OnlyImagines(model)
    rolled, _ = proposals.roll(memory, 3, 4, torch.Generator().manual_seed(1))
    looked: list[torch.Size] = []
    model.predictor.embed.register_forward_pre_hook(lambda _m, args: looked.append(args[0].shape[:-1]))
    assert torch.equal(proposals.propose(memory, 3, 4, torch.Generator().manual_seed(1)), rolled)
    # Two frames of the past and now, for two problems; then a frame a candidate, or all of its context anew.
    assert [size.numel() for size in looked] == ([16, 8] * 2 if only_imagines else [2, 8])
    looked.clear()
    assert proposals.propose(memory, 1, 4, torch.Generator().manual_seed(1)).shape == (2, 4, 1, 7)
    assert not looked


def test_a_problem_is_proposed_the_same_alone_and_among_others():
    proposals, memory, _ = small()
    together = proposals.propose(memory, 3, 5, torch.Generator().manual_seed(2))
    for b in range(2):
        alone = Memory(
            latents=memory.latents[b : b + 1],
            poses=memory.poses[b : b + 1],
            actions=memory.actions[b : b + 1],
        )
        found = proposals.propose(alone, 3, 5, torch.Generator().manual_seed(2))
        assert torch.allclose(found[0], together[b], atol=1e-6)


class KnowsPlaces(Body):
    """The latent is the place."""

    def forward(self, z):
        return z[..., 0, :3], z[..., 0, 3]


def test_straight_there_goes_the_way_between_two_pictures_and_keeps_the_fingers():
    latents = torch.zeros(1, 1, 1, 4)
    goal = torch.tensor([[[0.07, -0.02, 0.03, 0.0]]])
    poses = torch.tensor([[[0.5, 0.0, 0.2, 3.14, 0.0, 0.0, 0.55]]])
    memory = Memory(latents=latents, poses=poses, actions=torch.zeros(1, 0, 7))
    proposer = StraightThere(KnowsPlaces(), goal)
    actions = proposer.propose(memory, 6, 32, torch.Generator())
    whole = actions[0, proposer.shares.index(1.0)]
    assert torch.allclose(whole[:, :3].sum(0), goal[0, 0, :3], atol=1e-6)
    assert (actions[..., :3].norm(dim=-1) <= proposer.most_m + 1e-6).all()
    assert (actions[..., 6] == 1.0).all(), "what is held stays held"
    assert torch.equal(actions[..., 3:6], torch.zeros_like(actions[..., 3:6]))
    far = StraightThere(KnowsPlaces(), 5 * goal)
    assert far.propose(memory, 6, 32, torch.Generator()).shape == (1, 0, 6, 7), (
        "nothing is proposed from afar"
    )
