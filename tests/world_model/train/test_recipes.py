"""Claims: every recipe learns, trains what it should and nothing else, and the official losses come out."""

import pytest
import torch
from tensordict import TensorDict

from data.types import Conventions
from world_model.encoders.vit import ViTConfig
from world_model.predictors.tokens import TokenPredictorConfig
from world_model.train.parts import parameter_groups
from world_model.train.recipes import RECIPES, Sizes, make_recipe

SEEN = Conventions(cameras=("exterior_left",), image_size=32)
COMPACT = Sizes(
    kind="compact", config={"dim": 16, "channels": (8, 16), "view_width": 32, "width": 32, "depth": 1, "dropout": 0.0}
)  # fmt: skip
MLP = {"heads": 0, "hidden": 64, "steer": 16}


def dense_sizes() -> Sizes:
    from dataclasses import asdict

    vit = asdict(ViTConfig(dim=48, depth=2, heads=2, hidden=96, patch=8, rope="interleaved"))
    tokens = asdict(
        TokenPredictorConfig(latent_dim=48, dim=48, depth=2, heads=2, grid=(4, 4), rope="interleaved")
    )
    return Sizes(
        kind="dense", config={"encoder": {"kind": "vit", **vit}, "predictor": {"kind": "tokens", **tokens}}
    )


def moving_square(batch: int = 12, frames: int = 4, seed: int = 0) -> TensorDict:
    """A square that the actions push about: there is something to predict."""
    g = torch.Generator().manual_seed(seed)
    moves = torch.randint(-4, 5, (batch, frames - 1, 2), generator=g)
    places = torch.cat([torch.randint(8, 16, (batch, 1, 2), generator=g), moves], 1).cumsum(1).clamp(0, 24)
    pictures = torch.zeros(batch, frames, 1, 32, 32, 3, dtype=torch.uint8)
    for b in range(batch):
        for t in range(frames):
            y, x = places[b, t].tolist()
            pictures[b, t, 0, y : y + 8, x : x + 8] = torch.tensor([250, 80, 30], dtype=torch.uint8)
    poses = torch.zeros(batch, frames, 7)
    poses[..., :2] = places / 100
    actions = torch.zeros(batch, frames - 1, 7)
    actions[..., :2] = poses[:, 1:, :2] - poses[:, :-1, :2]
    held = torch.cat([poses[..., :3], poses[:, -1:, :3]], 1)
    held[::2] = float("nan")  # in half of the clips nothing is ever held
    goals = {"goals": pictures[:, -1:], "goal_steps": torch.zeros(batch, 1, dtype=torch.int64), "held": held}
    return TensorDict({"frames": pictures, "poses": poses, "actions": actions, **goals}, [batch])


def learn(recipe, steps: int, rate: float = 1e-3) -> tuple[torch.nn.Module, list[dict[str, float]]]:
    torch.manual_seed(0)
    model = recipe.build(SEEN).train()
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=rate)
    history = []
    for step in range(steps):
        loss, figures = recipe.loss(
            model, moving_square(seed=step % 4), step, torch.Generator().manual_seed(step)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if hasattr(recipe, "after_step"):
            recipe.after_step(model, step)
        history.append({"loss": loss.item(), **{name: float(value) for name, value in figures.items()}})
    return model, history


CASES = {
    "vjepa2_ac": lambda: make_recipe("vjepa2_ac", model=dense_sizes()),
    "lewm": lambda: make_recipe("lewm", model=COMPACT, directions=32),
    "vicreg_idm dense": lambda: make_recipe("vicreg_idm", model=dense_sizes()),
    "vicreg_idm": lambda: make_recipe("vicreg_idm", model=COMPACT),
    "vjepa": lambda: make_recipe("vjepa", model=dense_sizes(), predictor_dim=48, predictor_depth=1, predictor_heads=2),
    "ijepa": lambda: make_recipe("ijepa", model=dense_sizes(), predictor_dim=48, predictor_depth=1, predictor_heads=2),
    "panda": lambda: make_recipe("panda", model=COMPACT.config, directions=32),
    "panda without attention": lambda: make_recipe("panda", model={**COMPACT.config, **MLP}, directions=32),
    "lewm without attention": lambda: make_recipe("lewm", model=Sizes(config={**COMPACT.config, **MLP}), directions=32),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_learns(name):
    _, history = learn(CASES[name](), steps=25)
    early = sum(h["loss"] for h in history[:4])
    late = sum(h["loss"] for h in history[-4:])
    assert late < 0.9 * early
    assert all(value == value for h in history for value in h.values())


def test_every_registered_recipe_is_tried_here():
    assert set(RECIPES) == {name.split()[0] for name in CASES}


def test_a_frozen_encoder_stays_and_its_latents_can_come_from_a_cache():
    recipe = CASES["vjepa2_ac"]()
    model, _ = learn(recipe, steps=3)
    torch.manual_seed(0)
    fresh = recipe.build(SEEN)
    for before, after in zip(fresh.world.encoder.parameters(), model.world.encoder.parameters(), strict=True):
        assert torch.equal(before, after)
    assert not any(torch.equal(p, q) for p, q in zip(fresh.world.predictor.predictor_blocks[0].mlp.parameters(),
                                                     model.world.predictor.predictor_blocks[0].mlp.parameters(), strict=True))  # fmt: skip
    clip, g = moving_square(), torch.Generator()
    cached = clip.clone()
    with torch.no_grad():
        cached["latents"] = model.world.encode(clip["frames"].flatten(0, 1)).unflatten(0, (12, 4))
    del cached["frames"]
    a, b = (recipe.loss(model, c, 0, g)[0] for c in (clip, cached))
    torch.testing.assert_close(a, b)


def test_the_recipe_gives_the_official_loss(golden, golden_text, meta_encoder, meta_predictor):
    """Fixture c: latents of the official encoder, loss and gradient norms of the official training step."""
    from world_model.dense import DenseModel
    from world_model.train.recipes import Learner

    given = golden("c_train_loss")
    case = next(c for c in golden_text("c_train_loss")["cases"] if c["name"] == "official_2step_L1")
    world = DenseModel(SEEN, encoder=meta_encoder, predictor=meta_predictor())
    pixels = given["clips"].transpose(1, 2)  # [B, T, 3, H, W]
    with torch.no_grad():
        latents = torch.nn.functional.layer_norm(meta_encoder(pixels.flatten(0, 1)), (96,)).unflatten(
            0, (2, 5)
        )
    clip = TensorDict({"latents": latents, "actions": given["actions"], "poses": given["states"]}, [2])
    loss, figures = make_recipe("vjepa2_ac").loss(Learner(world), clip, 0, torch.Generator())
    assert loss.item() == pytest.approx(case["loss"], abs=1e-5)
    assert float(figures["teacher_forced"]) == pytest.approx(case["jloss_teacher_forced"], abs=1e-5)
    loss.backward()
    for name, norm in case["grad_norms"].items():
        grad = world.get_submodule("predictor").get_parameter(name).grad
        assert (grad is None) == (norm is None), name
        if norm is not None and norm > 1e-4:
            assert grad.norm().item() == pytest.approx(norm, rel=1e-3), name


def test_the_averaged_encoder_follows_and_is_what_is_kept():
    recipe = make_recipe(
        "vjepa",
        model=dense_sizes(),
        predictor_dim=48,
        predictor_depth=1,
        predictor_heads=2,
        momentum=0.5,
        momentum_steps=4,
    )
    model, _ = learn(recipe, steps=4)
    online, kept = model.world.encoder, recipe.result(model).encoder
    away = [(p - q).abs().max().item() for p, q in zip(online.parameters(), kept.parameters(), strict=True)]
    assert 0 < max(away) < 0.05
    assert not any(p.requires_grad for p in kept.parameters())


def test_a_misspelt_setting_is_named_with_what_exists():
    with pytest.raises(ValueError, match="lewm has no setting 'sigregg'; it has model, rollout"):
        make_recipe("lewm", sigregg=1.0)
    with pytest.raises(ValueError, match="recipe 'lewn' is not known; there are vjepa2_ac, lewm"):
        make_recipe("lewn")
