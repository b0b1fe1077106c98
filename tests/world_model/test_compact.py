"""The compact model: what is imagined quickly is what is predicted slowly."""

import pytest
import torch

from data.types import Conventions, Memory
from world_model.compact import CompactModel, absolute


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = CompactModel(
        Conventions(image_size=32), dim=32, channels=(8, 8, 8), view_width=16, width=32, depth=2
    )
    for parameter in model.predictor.parameters():  # zero-initialised gates would hide a broken path
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def history(batch: int, frames: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    poses = torch.randn(batch, frames, 7) * 0.1
    poses[..., 6] = torch.rand(batch, frames)
    actions = torch.randn(batch, frames - 1, 7) * 0.02
    actions[..., 3:6] = 0
    return torch.randn(batch, frames, 1, 32), poses, actions


def slow_imagine(model, latents, poses, actions, plan):
    """Feed the whole growing sequence again for every step."""
    told = torch.cat([absolute(actions, poses[:, :-1]), plan], 1)
    for h in range(plan.shape[1]):
        now = latents.shape[1]
        z, s = model.predict(latents, poses, told[:, :now])
        latents, poses = torch.cat([latents, z[:, -1:]], 1), torch.cat([poses, s[:, -1:]], 1)
        assert latents.shape[1] == now + 1
        del h
    return latents[:, -plan.shape[1] :], poses[:, -plan.shape[1] :]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_imagining_with_kept_keys_equals_recomputing_everything(model, frames):
    latents, poses, actions = history(2, frames)
    plan = torch.randn(2, 5, 4, 7) * 0.02
    plan[..., 6] = torch.rand(2, 5, 4)
    imagined = model.imagine(Memory(latents=latents, poses=poses, actions=actions), plan)
    for k in range(5):
        z, s = slow_imagine(model, latents, poses, actions, plan[:, k])
        torch.testing.assert_close(imagined.latents[:, k], z, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(imagined.poses[:, k], s, atol=1e-5, rtol=1e-5)


def test_frames_beyond_the_context_change_nothing(model):
    latents, poses, actions = history(1, 5)
    plan = torch.randn(1, 2, 3, 7) * 0.02
    whole = model.imagine(Memory(latents=latents, poses=poses, actions=actions), plan)
    recent = model.imagine(
        Memory(latents=latents[:, -3:], poses=poses[:, -3:], actions=actions[:, -2:]), plan
    )
    torch.testing.assert_close(whole.latents, recent.latents)


def test_gradients_reach_the_actions(model):
    latents, poses, actions = history(1, 3)
    plan = (torch.randn(1, 1, 3, 7) * 0.02).double().requires_grad_()
    double = model.double()
    memory = Memory(latents=latents.double(), poses=poses.double(), actions=actions.double())

    def energy(p):
        out = double.predict  # the float casts of `_advance` limit precision; compare with a wide step
        del out
        imagined = double.imagine(memory, p)
        return imagined.latents.double().square().mean() + imagined.poses.square().mean()

    (gradient,) = torch.autograd.grad(energy(plan), plan)
    for index in [(0, 0, 0, 0), (0, 0, 1, 2), (0, 0, 2, 6)]:
        step = torch.zeros_like(plan)
        step[index] = 1e-2
        numeric = (energy(plan + step) - energy(plan - step)) / 2e-2
        assert numeric.item() == pytest.approx(gradient[index].item(), rel=0.05, abs=1e-4)


def test_each_candidate_is_imagined_alone(model):
    latents, poses, actions = history(2, 3)
    plan = torch.randn(2, 6, 3, 7) * 0.02
    memory = Memory(latents=latents, poses=poses, actions=actions)
    together = model.imagine(memory, plan).latents
    for k in range(6):
        torch.testing.assert_close(
            model.imagine(memory, plan[:, k : k + 1]).latents[:, 0], together[:, k], atol=1e-5, rtol=1e-5
        )
