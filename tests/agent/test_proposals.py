"""Mode 1 proposes to Mode 2: itself first, then itself from small detours, each with what it would lead to."""

import torch

from agent.actor import PolicyProposals
from data.types import Conventions, Memory
from world_model.compact import CompactModel
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
    actions, imagined = proposals.roll(memory, 3, 4, torch.Generator().manual_seed(1))
    once = model.imagine(memory, actions)
    assert imagined.latents.shape == once.latents.shape
    assert torch.allclose(imagined.latents[:, :, 0], once.latents[:, :, 0], atol=1e-5)
    assert torch.allclose(imagined.poses[:, :, 0], once.poses[:, :, 0], atol=1e-5)
