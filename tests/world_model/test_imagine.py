"""Imagining with cached keys and values is the same as predicting the whole sequence again, and cheaper."""

import json

import pytest
import torch

from data.poses import apply_action
from data.types import Conventions, Imagined, Memory
from world_model.dense import DenseModel, dense_config
from world_model.encoders.vit import VisionTransformer, ViTConfig
from world_model.imagine import bytes_per_candidate, imagine_tokens
from world_model.losses import layer_norm, prediction_error
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

GRID = (3, 4)


@pytest.fixture
def predictor() -> TokenPredictor:
    torch.manual_seed(0)
    net = TokenPredictor(TokenPredictorConfig(latent_dim=24, dim=48, depth=3, heads=3, grid=GRID, z_dim=5))
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return net.eval()


def a_memory(frames: int, batch: int = 2, seed: int = 1) -> Memory:
    g = torch.Generator().manual_seed(seed)
    return Memory(
        latents=layer_norm(torch.randn(batch, frames, 12, 24, generator=g)),
        poses=0.3 * torch.randn(batch, frames, 7, generator=g),
        actions=0.1 * torch.randn(batch, frames - 1, 7, generator=g),
    )


def slow(predictor: TokenPredictor, memory: Memory, actions: torch.Tensor, z=None) -> Imagined:
    """The official way: the whole sequence again for every step of every candidate."""
    b, k, horizon = actions.shape[:3]
    past = memory.latents.shape[1] - 1

    def each(x):
        return x.unsqueeze(1).expand(b, k, *x.shape[1:]).flatten(0, 1)

    latents, poses, done = each(memory.latents), each(memory.poses), each(memory.actions)
    todo = actions.flatten(0, 1)
    zs = None if z is None else z.flatten(0, 1)
    for h in range(horizon):
        a = torch.cat([done, todo[:, : h + 1]], 1)
        extra = {}
        if zs is not None:
            given = torch.cat([torch.zeros(b * k, past, zs.shape[-1]), zs[:, : h + 1]], 1)
            keep = torch.arange(past + h + 1).ge(past).expand(b * k, -1)
            extra = {"z": given, "keep": keep}
        out = layer_norm(predictor(latents, a, poses, **extra)[:, -1:])
        latents = torch.cat([latents, out], 1)
        poses = torch.cat([poses, apply_action(poses[:, -1], todo[:, h]).unsqueeze(1)], 1)
    first = past + 1
    return Imagined(
        latents=latents[:, first:].unflatten(0, (b, k)), poses=poses[:, first:].unflatten(0, (b, k))
    )


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("with_z", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_fast_is_slow(predictor, frames: int, with_z: bool, grad: bool) -> None:
    memory, actions = a_memory(frames), 0.1 * torch.randn(2, 5, 4, 7)
    z = torch.randn(2, 5, 4, 5) if with_z else None
    with torch.set_grad_enabled(grad):
        fast, reference = imagine_tokens(predictor, memory, actions, z), slow(predictor, memory, actions, z)
    torch.testing.assert_close(fast.latents, reference.latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(fast.poses, reference.poses, atol=1e-6, rtol=0)
    assert fast.latents.shape == (2, 5, 4, 12, 24)


def test_gradients_reach_the_actions_and_are_those_of_the_slow_path(predictor) -> None:
    memory = a_memory(3)
    grads = []
    for way in (imagine_tokens, slow):
        actions = (0.1 * torch.randn(2, 3, 3, 7, generator=torch.Generator().manual_seed(5))).requires_grad_()
        out = way(predictor, memory, actions)
        (out.latents[:, :, -1].abs().mean() + out.poses.square().mean()).backward()
        assert actions.grad is not None
        grads.append(actions.grad)
    assert grads[0].abs().amin(dim=(0, 1, 2))[:6].min() > 0  # every step and coordinate matters
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-3)


def test_gradients_agree_with_finite_differences(predictor) -> None:
    predictor.double()
    memory = a_memory(2, batch=1)
    memory = Memory(
        latents=memory.latents.double(), poses=memory.poses.double(), actions=memory.actions.double()
    )

    def energy(actions):
        return imagine_tokens(predictor, memory, actions).latents[:, :, -1].pow(3).mean()

    assert torch.autograd.gradcheck(
        energy, (0.1 * torch.randn(1, 1, 2, 7).double().requires_grad_(),), atol=1e-6
    )


def test_a_memory_limit_changes_nothing_but_the_number_of_candidates_at_once(predictor) -> None:
    memory, actions, z = a_memory(3), 0.1 * torch.randn(2, 11, 3, 7), torch.randn(2, 11, 3, 5)
    rows = []
    whole_step = predictor.step

    def step(latents, *args, **kwargs):
        rows.append(len(latents))
        return whole_step(latents, *args, **kwargs)

    predictor.step = step
    with torch.no_grad():
        free = imagine_tokens(predictor, memory, actions, z)
        assert max(rows) == 22
        rows.clear()
        limit = 2 * 4 * bytes_per_candidate(predictor, 3, 3) / 2**20
        bounded = imagine_tokens(predictor, memory, actions, z, memory_limit_mb=limit)
        assert max(rows) == 8
        rows.clear()
        tiny = imagine_tokens(predictor, memory, actions, memory_limit_mb=0)
        assert max(rows) == 2  # one candidate of each row of the batch is the least
    torch.testing.assert_close(bounded.latents, free.latents, atol=1e-6, rtol=0)
    assert tiny.latents.shape == free.latents.shape


def test_each_imagined_step_costs_one_frame_and_the_past_is_seen_once(predictor) -> None:
    frames = []
    predictor.predictor_embed.register_forward_pre_hook(lambda _m, args: frames.append(args[0].shape[:2]))
    with torch.no_grad():
        imagine_tokens(predictor, a_memory(3, batch=1), 0.1 * torch.randn(1, 6, 4, 7))
    assert frames == [(1, 2), (6, 1), (6, 1), (6, 1), (6, 1)]


def test_imagined_energies_are_the_official_ones(golden, meta_encoder, meta_predictor) -> None:
    """Fixture d: 27 actions, one step and the same action twice."""
    d = golden("d_planning")
    model = DenseModel(
        Conventions(cameras=("left",), image_size=64), encoder=meta_encoder, predictor=meta_predictor()
    )
    with torch.no_grad():
        latents = layer_norm(meta_encoder(d["frames"].transpose(1, 2).flatten(0, 1)))
    torch.testing.assert_close(latents[:1], d["context"], atol=1e-5, rtol=0)
    memory = Memory(latents=d["context"][None], poses=d["pose"], actions=torch.zeros(1, 0, 7))
    for name, repeats in [("grid27_rep1", 1), ("grid27_rep2", 2)]:
        actions = d[f"{name}.actions"].expand(-1, repeats, -1)[None]
        with torch.no_grad():
            out = model.imagine(memory, actions)
        energy = (out.latents[0, :, -1] - d["goal"]).abs().mean((-1, -2))
        torch.testing.assert_close(energy, d[f"{name}.energy"], atol=1e-6, rtol=0)
        torch.testing.assert_close(out.poses[0, :, -1], d[f"{name}.final_pose"], atol=1e-5, rtol=0)


def test_official_cem_energies_are_reproduced_sample_by_sample(
    golden, golden_text, meta_encoder, meta_predictor
) -> None:
    """Each recorded sample of each recorded CEM iteration, imagined by us, has the recorded energy."""
    d = golden("d_planning")
    model = DenseModel(
        Conventions(cameras=("left",), image_size=64), encoder=meta_encoder, predictor=meta_predictor()
    )
    memory = Memory(latents=d["context"][None], poses=d["pose"], actions=torch.zeros(1, 0, 7))
    for case in golden_text("d_planning")["cem"]["cases"]:
        name, args = case["name"], case["mpc_args"]
        horizon, limit = args.get("rollout", 1), args.get("maxnorm", 0.05)
        noise = d[f"{name}.noise"].unflatten(0, (-1, horizon)).transpose(1, 2)  # [iterations, samples, H, 4]
        x = d[f"{name}.mean_before"][:, None] + d[f"{name}.std_before"][:, None] * noise
        x = torch.cat([x[..., :3].clamp(-limit, limit), x[..., 3:].clamp(-0.75, 0.75)], -1)
        for axis, value in args.get("axis", {}).items():
            x[..., int(axis)] = value
        if case["close_gripper"] is not None:
            x[:, :, case["close_gripper"] :, 3] = 1.0
        actions = torch.cat([x[..., :3], torch.zeros(*x.shape[:-1], 3), x[..., 3:]], -1)
        with torch.no_grad():
            last = model.imagine(memory, actions.flatten(0, 1)[None]).latents[0, :, -1]
        energy = (last - d["goal"]).abs().mean((-1, -2)).view(x.shape[:2])
        torch.testing.assert_close(energy, d[f"{name}.energies"], atol=2e-6, rtol=0)


def test_a_memory_whose_parts_do_not_fit_is_refused(predictor) -> None:
    memory = a_memory(3)
    memory.actions = memory.actions[:, :1]
    with pytest.raises(ValueError, match="memory of 3 frames needs one action less, got 1"):
        imagine_tokens(predictor, memory, torch.zeros(2, 1, 1, 7))


@pytest.fixture
def dense() -> DenseModel:
    torch.manual_seed(0)
    conventions = Conventions(cameras=("left", "wrist"), image_size=32)
    vit = VisionTransformer(ViTConfig(dim=48, depth=2, heads=3, hidden=96, rope="interleaved"))
    predictor = TokenPredictor(TokenPredictorConfig(latent_dim=48, dim=48, depth=2, heads=3, grid=(4, 2)))
    return DenseModel(conventions, encoder=vit, predictor=predictor).eval()


def test_frames_to_imagination_with_two_views(dense) -> None:
    frames = torch.randint(0, 256, (3, 2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        latents = dense.encode(frames)
        swapped = dense.encode(frames.flip(1))
        assert latents.shape == (3, 8, 48)
        assert torch.allclose(latents, torch.cat([swapped[:, 4:], swapped[:, :4]], 1), atol=1e-6)
        torch.testing.assert_close(latents.mean(-1), torch.zeros(3, 8), atol=1e-5, rtol=0)
        memory = Memory(latents=latents[:, None], poses=torch.zeros(3, 1, 7), actions=torch.zeros(3, 0, 7))
        out = dense.imagine(memory, torch.zeros(3, 2, 2, 7))
    assert out.latents.shape == (3, 2, 2, 8, 48)


def test_wrong_frames_are_named(dense) -> None:
    with pytest.raises(ValueError, match="64 x 48 px, but this model sees 32 x 32"):
        dense.encode(torch.zeros(1, 2, 64, 48, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="1 views, but this model sees 2: left, wrist"):
        dense.encode(torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no encoder size 'enormous'"):
        dense_config(Conventions(), encoder="enormous")


def test_a_model_is_built_again_from_its_config_even_through_json(dense) -> None:
    again = DenseModel(dense.conventions, **json.loads(json.dumps(dense.config))).eval()
    again.load_state_dict(dense.state_dict())
    frames = torch.randint(0, 256, (1, 2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.encode(frames), dense.encode(frames))
    assert again.predictor.config == dense.predictor.config
    own = DenseModel(Conventions(image_size=32), **dense_config(Conventions(image_size=32), depth=1))
    assert own.predictor.tokens == 8
    with pytest.raises(ValueError, match="encoder kind 'resnet' is not known"):
        DenseModel(dense.conventions, encoder={"kind": "resnet"})


def test_training_rolls_out_by_the_same_imagine(dense) -> None:
    latents, poses = torch.randn(2, 5, 8, 48), torch.randn(2, 5, 7)
    actions = torch.randn(2, 4, 7)
    memory = Memory(latents=latents[:, :2], poses=poses[:, :2], actions=actions[:, :1])
    imagined = dense.imagine(memory, actions[:, None, 1:])
    assert imagined.latents.shape == (2, 1, 3, 8, 48)
    prediction_error(imagined.latents[:, 0], latents[:, 2:]).backward()
    assert all(p.grad is not None for n, p in dense.predictor.named_parameters() if "extrinsics" not in n)


def test_bfloat16_ranks_candidates_as_single_precision_does(dense) -> None:
    memory = Memory(
        latents=layer_norm(torch.randn(1, 3, 8, 48)), poses=torch.zeros(1, 3, 7), actions=torch.zeros(1, 2, 7)
    )
    actions, goal = torch.randn(1, 64, 3, 7), layer_norm(torch.randn(8, 48))
    with torch.no_grad():  # actions that matter as much as they do in a trained model
        for block in dense.predictor.predictor_blocks:
            block.attn.qkv.weight *= 5
            block.attn.proj.weight *= 20
        dense.predictor.action_encoder.weight *= 20
    with torch.no_grad():
        full = dense.imagine(memory, actions).latents
        half = dense.bfloat16().imagine(memory, actions).latents
    assert half.dtype == torch.float32
    ranks = [(x[0, :, -1] - goal).abs().mean((-1, -2)).argsort().argsort().float() for x in (full, half)]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.95


@pytest.mark.slow
def test_the_predictor_is_traced_as_one_graph(predictor) -> None:
    """What a compiler on a GPU needs: no break in the graph, for the whole sequence."""
    inputs = torch.randn(2, 2, 12, 24), torch.randn(2, 2, 7), torch.randn(2, 2, 7)
    with torch.no_grad():
        wanted = predictor(*inputs)
        traced = torch.compile(predictor, backend="eager", fullgraph=True)(*inputs)
    torch.testing.assert_close(traced, wanted)
