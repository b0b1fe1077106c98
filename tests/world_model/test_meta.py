"""Checkpoints in the layouts that Meta and Hugging Face publish load exactly, and what does not fit is named."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from data.types import Memory
from world_model import load_vjepa2
from world_model.encoders.vit import VisionTransformer, ViTConfig
from world_model.predictors.masked import MaskedPredictor, MaskedPredictorConfig
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
HEADS = {"heads": 2, "predictor_heads": 2, "image_size": 64}


@pytest.fixture
def ac_file(fixtures: Path) -> Path:
    return fixtures / "vjepa2" / "f_vjepa2_ac_like.pt"


def check_outputs(model, io) -> None:
    with torch.no_grad():
        clip = io["frames"].expand(-1, -1, 2, -1, -1)
        torch.testing.assert_close(model.encoder(clip), io["encoder_out"], **CLOSE)
        predicted = model.predictor(io["predictor_tokens"], io["actions"], io["states"])
    torch.testing.assert_close(predicted, io["predictor_out"], **CLOSE)


def test_ac_checkpoint(ac_file: Path, golden) -> None:
    model = load_vjepa2(ac_file, **HEADS)
    check_outputs(model, golden("f_vjepa2_ac_like_io"))
    assert not model.training


@pytest.mark.parametrize("variant", ["slim", "backbone", "encoder_only", "old_format"])
def test_variants_of_the_official_layout(ac_file: Path, golden, tmp_path: Path, variant: str) -> None:
    content = torch.load(ac_file, weights_only=True)
    if variant == "slim":
        content = {k: content[k] for k in ("encoder", "predictor")}
    if variant == "backbone":
        for part in ("encoder", "target_encoder"):
            content[part] = {k.replace("module.", "module.backbone."): v for k, v in content[part].items()}
            content[part]["module.backbone.pos_embed"] = torch.zeros(1, 16, 48)
    if variant == "encoder_only":
        del content["predictor"]
    path = tmp_path / "variant.pt"
    torch.save(content, path, _use_new_zipfile_serialization=variant != "old_format")
    model = load_vjepa2(path, **HEADS)
    if variant == "encoder_only":
        assert model.predictor is None
        memory = Memory(
            latents=torch.zeros(1, 1, 16, 48), poses=torch.zeros(1, 1, 7), actions=torch.zeros(1, 0, 7)
        )
        with pytest.raises(TypeError, match="no action-conditioned predictor"):
            model.imagine(memory, torch.zeros(1, 1, 1, 7))
    else:
        check_outputs(model, golden("f_vjepa2_ac_like_io"))


def test_the_target_encoder_is_preferred_and_either_can_be_asked_for(ac_file: Path, tmp_path: Path) -> None:
    content = torch.load(ac_file, weights_only=True)
    content["target_encoder"] = {k: v + 1 for k, v in content["encoder"].items()}
    torch.save(content, tmp_path / "two.pt")
    target = load_vjepa2(tmp_path / "two.pt", **HEADS)
    online = load_vjepa2(tmp_path / "two.pt", encoder_key="encoder", **HEADS)
    torch.testing.assert_close(target.encoder.norm.weight, online.encoder.norm.weight + 1)
    with pytest.raises(ValueError, match=r"has no ema_encoder; it has encoder, predictor"):
        load_vjepa2(tmp_path / "two.pt", encoder_key="ema_encoder", **HEADS)


def test_what_does_not_fit_is_named(ac_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"48 channels is no published width.*give heads="):
        load_vjepa2(ac_file, image_size=64)
    content = torch.load(ac_file, weights_only=True)
    content["predictor"].pop("module.state_encoder.bias")
    content["predictor"]["module.surprise.weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(
        ValueError, match=r"missing \['state_encoder.bias'\], left over \['surprise.weight'\]"
    ):
        load_vjepa2(tmp_path / "odd.pt", **HEADS)
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        load_vjepa2(tmp_path / "nothing.pt")
    with pytest.raises(ValueError, match="must be a multiple of the patch"):
        load_vjepa2(ac_file, **{**HEADS, "image_size": 70})


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Surprise:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"encoder": Surprise()}, tmp_path / "bad.pt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        load_vjepa2(tmp_path / "bad.pt")


def test_bfloat16_and_mapped_weights(ac_file: Path, golden) -> None:
    io = golden("f_vjepa2_ac_like_io")
    half = load_vjepa2(ac_file, dtype=torch.bfloat16, **HEADS)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        out = half.encoder(io["frames"].bfloat16()).float()
    assert (out - io["encoder_out"]).abs().mean() < 0.03
    mapped = load_vjepa2(ac_file, **HEADS)
    before = ac_file.read_bytes()
    with torch.no_grad():
        for p in mapped.parameters():
            p.add_(1)  # training in place must not reach the file
    assert ac_file.read_bytes() == before


def newer_encoder() -> VisionTransformer:
    config = ViTConfig(
        dim=48,
        depth=4,
        heads=2,
        hidden=96,
        rope="interleaved",
        rope_grid=16,
        image_tokens=True,
        levels=(0, 1, 2, 3),
    )
    encoder = VisionTransformer(config)
    for p in encoder.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return encoder.eval()


def test_vjepa2_1_layout(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = newer_encoder()
    predictor = MaskedPredictor(
        MaskedPredictorConfig(
            latent_dim=48, dim=24, depth=2, heads=2, levels=4, mask_tokens=8, dense=True, modalities=True,
            rope="interleaved",
        )
    ).eval()  # fmt: skip
    wrapped = {f"module.backbone.{k}": v for k, v in encoder.state_dict().items()}
    torch.save(
        {
            "ema_encoder": wrapped,
            "predictor": {f"module.backbone.{k}": v for k, v in predictor.state_dict().items()},
        },
        tmp_path / "newer.pt",
    )
    model = load_vjepa2(tmp_path / "newer.pt", heads=2, predictor_heads=2)
    assert model.encoder.config == encoder.config
    assert isinstance(model.predictor, MaskedPredictor)
    assert model.predictor.config == MaskedPredictorConfig(
        latent_dim=48, dim=24, depth=2, heads=2, hidden=96, levels=4, out_dim=192, mask_tokens=8, dense=True,
        modalities=True, rope="interleaved",
    )  # fmt: skip
    video, image = torch.randn(1, 3, 4, 32, 48), torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        for x in (video, image):
            torch.testing.assert_close(model.encoder(x), encoder(x))
        levels = model.encoder(video, levels=encoder.config.levels)
        assert levels.shape == (1, 12, 4 * 48)
        seen, hidden = torch.arange(8)[None], torch.arange(8, 12)[None]
        a, b = model.predictor(levels[:, :8], seen, hidden, (2, 2, 3))
        assert a.shape == (1, 4, 192)
        assert b.shape == (1, 8, 192)


def test_an_image_and_its_double_take_different_paths_in_2_1_and_the_same_in_2(meta_encoder) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 32, 32)
    double = image.unsqueeze(2).expand(-1, -1, 2, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(meta_encoder(image), meta_encoder(double))
        newer = newer_encoder()
        assert (newer(image) - newer(double)).abs().max() > 0.1


def by_the_book(w: dict[str, torch.Tensor], video: torch.Tensor, heads: int, image: bool) -> torch.Tensor:
    """V-JEPA 2.1's encoder written out plainly: complex rotations, softmax by hand, one head at a time."""
    embed, kind = ("patch_embed_img", "img") if image else ("patch_embed", "video")
    kernel = w[f"{embed}.proj.weight"]
    x = F.conv3d(video, kernel, w[f"{embed}.proj.bias"], stride=kernel.shape[2:])
    h, columns = x.shape[3:]
    x = x.flatten(2).transpose(1, 2)[0] + w[f"{kind}_mod_embed"][0]
    dim = x.shape[1]
    head = dim // heads
    axis = 2 * (head // 3 // 2)
    ids = torch.arange(len(x))
    places = [
        ids // (h * columns), ids // columns % h * 15 / (h - 1), ids % columns * 15 / (columns - 1)
    ]  # fmt: skip

    def turn(y: torch.Tensor) -> torch.Tensor:
        parts = []
        for i, place in enumerate(places):
            pairs = torch.view_as_complex(y[:, i * axis : (i + 1) * axis].unflatten(1, (-1, 2)).contiguous())
            speed = 10000 ** (-torch.arange(axis // 2) / (axis / 2))
            parts.append(torch.view_as_real(pairs * torch.exp(1j * place[:, None] * speed)).flatten(1))
        return torch.cat([*parts, y[:, 3 * axis :]], 1)

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(y, (dim,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    for i in range(4):
        b = f"blocks.{i}."
        q, k, v = (norm(x, b + "norm1") @ w[b + "attn.qkv.weight"].T + w[b + "attn.qkv.bias"]).split(dim, 1)
        out = []
        for n in range(heads):
            mine = slice(n * head, (n + 1) * head)
            out.append((turn(q[:, mine]) @ turn(k[:, mine]).T / head**0.5).softmax(1) @ v[:, mine])
        x = x + torch.cat(out, 1) @ w[b + "attn.proj.weight"].T + w[b + "attn.proj.bias"]
        hidden = F.gelu(norm(x, b + "norm2") @ w[b + "mlp.fc1.weight"].T + w[b + "mlp.fc1.bias"])
        x = x + hidden @ w[b + "mlp.fc2.weight"].T + w[b + "mlp.fc2.bias"]
    return norm(x, "norms_block.3")[None]


@pytest.mark.parametrize("frames", [1, 4])
def test_encoder_of_2_1_by_the_book(frames: int) -> None:
    torch.manual_seed(0)
    encoder, video = newer_encoder(), torch.randn(1, 3, frames, 48, 80)
    wanted = by_the_book(encoder.state_dict(), video, 2, frames == 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(video), wanted, **CLOSE)


def test_hugging_face_layout_gives_what_transformers_computes(tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        patch_size=16, crop_size=64, frames_per_clip=4, tubelet_size=2, hidden_size=48, num_attention_heads=2,
        num_hidden_layers=2, mlp_ratio=2.0, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=2,
        pred_num_mask_tokens=3, pred_mlp_ratio=2.0,
    )  # fmt: skip
    theirs = transformers.VJEPA2Model(config).eval()
    for p in theirs.parameters():
        p.data += 0.05 * torch.randn_like(p)
    theirs.save_pretrained(tmp_path)
    ours = load_vjepa2(tmp_path, heads=2, predictor_heads=2, image_size=64)
    video = torch.randn(2, 3, 4, 64, 64)
    seen, hidden = torch.arange(0, 20).expand(2, -1), torch.arange(20, 32).expand(2, -1)
    with torch.no_grad():
        out = theirs(video.transpose(1, 2), context_mask=[seen], target_mask=[hidden])
        torch.testing.assert_close(ours.encoder(video), out.last_hidden_state, **CLOSE)
        predicted, _ = ours.predictor(out.last_hidden_state[:, :20], seen, hidden, (2, 4, 4), kind=1)
    torch.testing.assert_close(predicted, out.predictor_output.last_hidden_state, **CLOSE)


def test_hugging_face_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"bert.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"bert\.weight: not a tensor of V-JEPA 2"):
        load_vjepa2(tmp_path / "model.safetensors")


def test_a_loaded_ac_model_imagines(ac_file: Path) -> None:
    model = load_vjepa2(ac_file, **HEADS)
    assert isinstance(model.predictor, TokenPredictor)
    with torch.no_grad():
        latents = model.encode(torch.randint(0, 256, (1, 1, 64, 64, 3), dtype=torch.uint8))
        memory = Memory(latents=latents[:, None], poses=torch.zeros(1, 1, 7), actions=torch.zeros(1, 0, 7))
        out = model.imagine(memory, torch.zeros(1, 3, 2, 7))
    assert out.latents.shape == (1, 3, 2, 16, 48)
    assert model.conventions.image_size == 64


_LOAD = """
import sys, threading, psutil, torch
from world_model import load_vjepa2
me, seen, done = psutil.Process(), [0], threading.Event()
def watch():
    while not done.wait(0.002):
        seen.append(me.memory_info().rss)
before = me.memory_info().rss
watcher = threading.Thread(target=watch)
watcher.start()
model = load_vjepa2(sys.argv[1], dtype=getattr(torch, sys.argv[2], None))
done.set()
watcher.join()
print(max(seen) - before, sum(p.numel() for p in model.parameters()))
"""


@pytest.mark.slow
def test_loading_needs_a_part_of_the_file_in_memory(tmp_path: Path, house: Path) -> None:
    """A file of the real widths with a tenth of the blocks: two encoders, the predictor and Adam's two moments."""
    with torch.device("meta"):
        encoder = VisionTransformer(ViTConfig(dim=1408, depth=4, heads=22, hidden=6144))
        predictor = TokenPredictor(TokenPredictorConfig(latent_dim=1408, depth=2))
    content = {
        part: {f"module.{k}": torch.zeros(v.shape) for k, v in module.state_dict().items()}
        for part, module in [("encoder", encoder), ("target_encoder", encoder), ("predictor", predictor)]
    }
    moments = [{"exp_avg": v.clone(), "exp_avg_sq": v.clone()} for v in content["predictor"].values()]
    path = tmp_path / "real_widths.pt"
    torch.save({**content, "opt": {"state": dict(enumerate(moments))}, "epoch": 1}, path)
    del content, moments
    size = path.stat().st_size
    shares = {}
    for dtype in ("none", "bfloat16"):
        out = subprocess.run(
            [sys.executable, "-c", _LOAD, str(path), dtype],
            capture_output=True,
            text=True,
            check=True,
            cwd=house,
        ).stdout.split()
        shares[dtype] = int(out[0]) / size
        assert int(out[1]) == sum(p.numel() for m in (encoder, predictor) for p in m.parameters())
    assert shares["none"] < 0.1  # mapped: read when used
    assert shares["bfloat16"] < 0.75  # what is used, as it is in the file (0.45) and converted (0.22)
