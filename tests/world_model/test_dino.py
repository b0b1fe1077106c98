"""DINOv2 and DINOv3 as frozen encoders compute what the `transformers` package computes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data.types import Conventions
from world_model.dense import DenseModel
from world_model.encoders.dino import load_dino

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
KINDS = {
    "v2": ("Dinov2", {"image_size": 56, "patch_size": 14, "mlp_ratio": 2}),
    "v2_giant": ("Dinov2", {"image_size": 56, "patch_size": 14, "mlp_ratio": 2, "use_swiglu_ffn": True}),
    "v2_registers": ("Dinov2WithRegisters", {"image_size": 56, "patch_size": 14, "mlp_ratio": 2}),
    "v3": ("DINOv3ViT", {"intermediate_size": 96, "num_register_tokens": 4}),
    "v3_huge": (
        "DINOv3ViT",
        {"intermediate_size": 96, "num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    name, extra = KINDS[kind]
    theirs = getattr(transformers, f"{name}Model")(
        getattr(transformers, f"{name}Config")(**SMALL, **extra)
    ).eval()
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    theirs.save_pretrained(tmp_path)
    ours = load_dino(tmp_path, heads=2)
    patch = ours.config.patch
    for rows, columns in [(4, 4), (3, 5)]:  # the second resizes v2's positions
        images = torch.randn(2, 3, rows * patch, columns * patch)
        with torch.no_grad():
            wanted = theirs(images).last_hidden_state
        torch.testing.assert_close(ours.tokens(images), wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours(images), wanted[:, 1 + ours.config.registers :], atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in ours.parameters())
    assert not ours.train().training


def test_a_dense_model_on_dino_tokens(tmp_path: Path) -> None:
    import transformers

    transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**SMALL, intermediate_size=96)).save_pretrained(
        tmp_path
    )
    conventions = Conventions(cameras=("left",), image_size=64)
    predictor = {"kind": "tokens", "latent_dim": 48, "dim": 48, "depth": 1, "heads": 3, "grid": (4, 4)}
    model = DenseModel(conventions, encoder=load_dino(tmp_path, heads=2), predictor=predictor)
    latents = model.encode(torch.randint(0, 256, (2, 1, 64, 64, 3), dtype=torch.uint8))
    assert latents.shape == (2, 16, 48)
    assert not latents.requires_grad
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(n.startswith("predictor.") for n in trained)
    again = DenseModel(conventions, **model.config)
    again.load_state_dict(model.state_dict())


def test_what_is_no_dino_is_refused(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"no DINO in these tensors: a\.weight"):
        load_dino(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors file"):
        load_dino(tmp_path / "nowhere")
