"""The compact model: what is imagined quickly is what is predicted slowly."""

import copy

import pytest
import torch

from data.types import Conventions, Memory
from world_model.compact import CompactModel, absolute

KINDS = {"transformer": {}, "vector": {"heads": 0, "hidden": 48, "steer": 16}}


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    model = CompactModel(
        Conventions(image_size=32), dim=32, channels=(8, 8, 8), view_width=16, width=32, depth=2,
        **KINDS[request.param],
    )  # fmt: skip
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
    model = model.double()
    memory = Memory(latents=latents.double(), poses=poses.double(), actions=actions.double())
    plan = (torch.randn(1, 2, 3, 7) * 0.02).double().requires_grad_()

    def energy(p):
        imagined = model.imagine(memory, p)
        return imagined.latents.pow(3).mean() + imagined.poses.sin().sum()

    assert torch.autograd.gradcheck(energy, (plan,), atol=1e-6)
    (gradient,) = torch.autograd.grad(energy(plan), plan)
    assert gradient.abs().amin((0, 1, 2)).min() > 0  # of every coordinate, turns too


def test_each_candidate_is_imagined_alone(model):
    latents, poses, actions = history(2, 3)
    plan = torch.randn(2, 6, 3, 7) * 0.02
    memory = Memory(latents=latents, poses=poses, actions=actions)
    together = model.imagine(memory, plan).latents
    for k in range(6):
        torch.testing.assert_close(
            model.imagine(memory, plan[:, k : k + 1]).latents[:, 0], together[:, k], atol=1e-5, rtol=1e-5
        )


def looked_at(model) -> list[int]:
    """Frames that the predictor is shown, call by call."""
    shown: list[int] = []
    model.predictor.embed.register_forward_pre_hook(lambda _m, args: shown.append(args[0].shape[:-1].numel()))
    return shown


def test_the_past_is_looked_at_once_for_all_candidates_and_all_calls_with_one_memory(model):
    latents, poses, actions = history(1, 3)
    memory, plan = Memory(latents=latents, poses=poses, actions=actions), torch.randn(1, 6, 4, 7) * 0.02
    shown = looked_at(model)
    with torch.no_grad():
        first = model.imagine(memory, plan).latents
        assert shown == [2, 1, 6, 6, 6]  # the past; now, which all share; then a frame a candidate
        assert torch.equal(model.imagine(memory, plan).latents, first)
        assert shown[5:] == [1, 6, 6, 6]
        fresh = Memory(latents=latents.clone(), poses=poses, actions=actions)
        assert torch.equal(model.imagine(fresh, plan).latents, first)
        assert shown[9:] == [2, 1, 6, 6, 6]


@pytest.mark.parametrize("change", ["memory", "written", "weights"])
def test_a_past_that_is_no_longer_true_is_not_used(model, change):
    latents, poses, actions = history(1, 3)
    memory, plan = Memory(latents=latents, poses=poses, actions=actions), torch.randn(1, 2, 2, 7) * 0.02
    with torch.no_grad():
        before = model.imagine(memory, plan).latents
        if change == "memory":
            memory.actions = actions + 0.02
        elif change == "written":
            memory.latents[:, 0] += 1
        else:
            for parameter in model.predictor.parameters():
                parameter.mul_(1.1)
        now = model.imagine(memory, plan).latents
        anew = copy.deepcopy(model).imagine(memory, plan).latents
    assert torch.equal(now, anew)
    assert (now - before).abs().max() > 1e-4


def test_gradients_are_whole_after_a_call_without_them(model):
    latents, poses, actions = history(1, 3)
    latents.requires_grad_()
    memory, plan = Memory(latents=latents, poses=poses, actions=actions), torch.randn(1, 2, 2, 7) * 0.02
    grads = []
    for calls in range(3):
        if calls:
            with torch.no_grad() if calls == 1 else torch.inference_mode():
                model.imagine(memory, plan)
        model.zero_grad()
        (grad,) = torch.autograd.grad(model.imagine(memory, plan).latents.square().sum(), latents)
        grads.append(grad)
    assert grads[0][:, 0].abs().max() > 0
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


def test_half_precision_is_cast_once_ranks_alike_and_follows_the_weights(model):
    latents, poses, actions = history(1, 3)
    memory, plan = Memory(latents=latents, poses=poses, actions=actions), torch.randn(1, 64, 4, 7) * 0.05
    goal, names = torch.randn(1, 32), set(model.state_dict())
    plan[..., 3:6] = 0

    def energies():
        imagined = model.imagine(memory, plan)
        assert imagined.latents.dtype == torch.float32
        return (imagined.latents[0, :, -1] - goal).square().mean((-1, -2))

    with torch.no_grad():
        whole = energies()
        model.think_in(torch.bfloat16)
        half, light = energies(), model._thinker()
        assert light.out.weight.dtype == torch.bfloat16
        assert model._thinker() is light
        ranks = torch.stack([e.argsort().argsort().float() for e in (whole, half)])
        assert not torch.equal(whole, half)
        assert torch.corrcoef(ranks)[0, 1] > 0.99
        model.predictor.out.weight.mul_(0)
        assert (energies() - half).abs().max() > 1e-3
    assert set(model.state_dict()) == names
    wanted = plan.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model.imagine(memory, wanted).poses.sum(), wanted)
    assert grad.isfinite().all()
    with pytest.raises(ValueError, match=r"cannot imagine in torch\.int8"):
        model.think_in(torch.int8)


def test_what_was_done_before_counts(model):
    latents, poses, actions = history(1, 3)
    plan = torch.randn(1, 1, 2, 7) * 0.02
    with torch.no_grad():
        one = model.imagine(Memory(latents=latents, poses=poses, actions=actions), plan).latents
        for frame in range(2):
            other = actions.clone()
            other[:, frame] += 0.5
            changed = model.imagine(Memory(latents=latents, poses=poses, actions=other), plan).latents
            assert (changed - one).abs().max() > 1e-4


def test_a_sequence_may_go_on_where_another_ended(model):
    frames, conditions = torch.randn(2, 6, 42), torch.randn(2, 6, 8)
    with torch.no_grad():
        whole, _ = model.predictor(frames, conditions)
        for cut in range(1, 6):
            first, past = model.predictor(frames[:, :cut], conditions[:, :cut])
            rest, _ = model.predictor(frames[:, cut:], conditions[:, cut:], past)
            torch.testing.assert_close(torch.cat([first, rest], 1), whole, atol=1e-5, rtol=1e-5)
