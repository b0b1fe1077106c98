"""Claims: a model's folder gives back the model, and refuses what is damaged, foreign or taken for granted otherwise."""

import json

import pytest
import torch

from data.types import Conventions
from world_model import checkpoint
from world_model.compact import CompactModel
from world_model.heads.critic import Critic
from world_model.heads.policy import Policy

SEEN = Conventions(cameras=("exterior_left",), image_size=32)
CONFIG = {"dim": 16, "channels": (8, 16), "view_width": 16, "width": 16, "depth": 1, "heads": 2}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = CompactModel(SEEN, **CONFIG)
    with torch.no_grad():
        stored = model.state_dict()
        for name, buffer in model.named_buffers():
            if name in stored and buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    path = checkpoint.save_model(
        tmp_path / "model", model, kind="compact", config=CONFIG, conventions=SEEN, normalisation={"latents": "none"},
        card={"data": "none", "steps": 0},
    )  # fmt: skip
    for name, head in (
        ("policy", Policy(dim=16, width=8, depth=1)),
        ("critic", Critic(dim=16, width=8, depth=1)),
    ):
        checkpoint.save_head(path, name, head, config={"dim": 16, "width": 8, "depth": 1})
    return path, model.eval()


def test_the_model_comes_back_with_its_conventions(saved):
    path, model = saved
    loaded = checkpoint.load_model(path)
    frames = torch.randint(0, 256, (4, 1, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(loaded.encode(frames), model.encode(frames))
    assert loaded.conventions == SEEN
    assert not loaded.training
    assert checkpoint.describe(path).normalisation == {"latents": "none"}
    assert checkpoint.read_card(path)["steps"] == 0


def test_colleagues_may_read_what_one_has_trained(saved):
    path, _ = saved
    (path / "as usual").touch()
    assert {file.stat().st_mode for file in path.iterdir()} == {(path / "as usual").stat().st_mode}


def test_heads_come_back_all_or_by_name(saved):
    path, _ = saved
    assert set(checkpoint.load_heads(path)) == {"policy", "critic"}
    assert set(checkpoint.load_heads(path, names=["critic"])) == {"critic"}
    with pytest.raises(ValueError, match=r"has no head 'decoder'; it has \['critic', 'policy'\]"):
        checkpoint.load_heads(path, names=["decoder"])


def test_half_precision_halves_the_file_and_still_loads(saved, tmp_path):
    path, model = saved
    half = checkpoint.save_model(
        tmp_path / "half", model, kind="compact", config=CONFIG, conventions=SEEN, dtype=torch.float16
    )
    sizes = [(p / "model.safetensors").stat().st_size for p in (half, path)]
    assert sizes[0] < 0.6 * sizes[1]
    frames = torch.randint(0, 256, (4, 1, 32, 32, 3), dtype=torch.uint8)
    again = checkpoint.load_model(half)
    assert next(again.parameters()).dtype == torch.float32
    torch.testing.assert_close(again.encode(frames), model.encode(frames), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("name", ["model", "policy"])
def test_a_flipped_bit_is_noticed(saved, name):
    path, _ = saved
    file = path / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}.safetensors is damaged or was replaced: its sha256 is"):
        checkpoint.load_model(path) if name == "model" else checkpoint.load_heads(path)


def test_conventions_that_differ_are_named_one_by_one():
    arm = Conventions(cameras=("exterior_left",), image_size=32, period_s=0.5, tool="flange")
    with pytest.raises(ValueError, match=r"period_s: 0.2 here, 0.5 there; tool: 'tcp' here, 'flange' there"):
        checkpoint.check_conventions(SEEN, arm, whose="the arm")
    checkpoint.check_conventions(SEEN, SEEN, whose="the arm")


def test_what_is_no_model_is_said_to_be_none(tmp_path, saved):
    path, model = saved
    with pytest.raises(FileNotFoundError, match=r"neither a folder with config.json nor a shipped model"):
        checkpoint.load_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"model kind 'huge' is not known; there are \['compact', 'dense'\]"):
        checkpoint.save_model(tmp_path / "x", model, kind="huge", config={}, conventions=SEEN)
    text = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**text, "config": {**text["config"], "dim": 24}}))
    with pytest.raises(ValueError, match=r"does not fit the model that config.json describes"):
        checkpoint.load_model(path)
    (path / "config.json").write_text(json.dumps({**text, "format": 99}))
    with pytest.raises(ValueError, match="has format 99, this version reads up to 1: update forearm"):
        checkpoint.load_model(path)
