"""The pictures of one roll-out, with a model of tokens and a latent variable, and with one of a single vector."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image
from rerun.chunk import RrdReader

from agent.build import Mind
from agent.imagine_report import report_imagination
from agent.imagining import encode, imagine_from, roll_outs
from agent.recorded import longest_stretch
from agent.seeing import figures as draw
from agent.seeing import imagination as look
from agent.seeing.imagery import framed
from agent.seeing.imagination_recording import record_imagination
from data.source import open_log
from data.types import Conventions
from world_model.checkpoint import save_model
from world_model.compact import CompactModel
from world_model.dense import DenseModel, dense_config
from world_model.heads.body import Body
from world_model.heads.decoder import Decoder

SEES = Conventions(image_size=32)
HORIZON = 4
START = 3


def dense(z_dim):
    torch.manual_seed(0)
    config = dense_config(SEES, width=32, depth=1, heads=2, z_dim=z_dim)
    config["encoder"] |= {"dim": 32, "depth": 1, "heads": 2}
    config["predictor"] |= {"latent_dim": 32}
    model = DenseModel(SEES, **config).eval()
    for weights in model.predictor.parameters():
        weights.data += 0.02 * torch.randn_like(weights)
    return Mind(model=model, heads={}, normalisation={"latent_scale": 2.0}, path=None)


def compact():
    torch.manual_seed(0)
    config = {
        "dim": 16,
        "channels": (8, 8, 16),
        "shrinks": (1, 2),
        "view_width": 16,
        "width": 32,
        "depth": 1,
        "heads": 2,
    }
    heads = {"decoder": Decoder(dim=16, views=2, size=16, width=32).eval(), "body": Body(dim=16).eval()}
    return Mind(model=CompactModel(SEES, **config).eval(), heads=heads, normalisation={}, path=None)


@pytest.fixture(scope="module")
def stretches(collected):
    log = open_log(collected)
    return [longest_stretch(log.open(key), SEES) for key in log.keys]


def closely(mind, stretches):
    found = [encode(mind.model, s) for s in stretches]
    imagined = imagine_from(mind.model, found[0], START, HORIZON)
    return found, look.look_closely(mind, found, found[0], START, *imagined)


def test_the_nearest_frames_are_of_other_episodes(stretches):
    mind = compact()
    found, shown = closely(mind, stretches)
    assert all(near.where.split(",")[0] != "episode 0" for near in shown.near)
    bank = torch.cat([e.latents[0] for e in found[1:]])
    for latent, near in zip(shown.latents, shown.near, strict=True):
        assert near.distance == pytest.approx(
            float((bank - latent).square().mean((1, 2)).min()) / 2.0, rel=1e-4
        )
    alone = look.look_closely(mind, found[:1], found[0], START, shown.latents, shown.poses)
    assert all(int(near.where.split()[-1]) <= START for near in alone.near), (
        "memory knows nothing of what is to come"
    )
    np.testing.assert_array_equal(shown.frames[0], stretches[0].frames[START + 1].numpy())


@pytest.mark.parametrize("make", [compact, lambda: dense(0)], ids=["vector", "tokens"])
def test_each_picture_shows_something(stretches, make, tmp_path):
    mind = make()
    found, shown = closely(mind, stretches)
    made = [
        look.film(shown, SEES.cameras, tmp_path / "film.jpg"),
        look.features(mind, shown, tmp_path / "features.png"),
        look.components(found, shown, tmp_path / "components.png"),
        look.differences(mind, shown, tmp_path / "differences.jpg"),
    ]
    for path in made:
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100, path
    assert look.futures(mind, shown, tmp_path / "futures.png", context=3) is None


def test_tokens_imagined_are_coloured_in_the_basis_of_the_real_ones(stretches, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(draw, "features_figure", lambda rows, columns, path: drawn.update(rows=rows) or path)
    mind = dense(0)
    _, shown = closely(mind, stretches)
    shown.latents[:] = shown.encoded.latents[0, START + 1 : START + 1 + HORIZON]  # imagined without an error
    look.features(mind, shown, tmp_path / "f.png")
    assert [label for label, _ in drawn["rows"]] == [
        "exterior_left\ncame",
        "imagined",
        "wrist\ncame",
        "imagined",
    ]
    for real, dreamt in (drawn["rows"][:2], drawn["rows"][2:]):
        np.testing.assert_array_equal(np.stack(real[1]), np.stack(dreamt[1]))


def test_several_z_are_several_futures(stretches, tmp_path):
    mind = dense(3)
    _, shown = closely(mind, stretches)
    path, spread = look.futures(mind, shown, tmp_path / "futures.png", context=3)
    assert path.stat().st_size > 5000
    assert len(spread) == HORIZON
    assert min(spread) > 1e-4


@pytest.mark.parametrize("z_dim", [0, 3])
def test_the_page_shows_several_futures_or_says_why_there_is_one(collected, tmp_path, read_page, z_dim):
    config = dense_config(SEES, width=32, depth=1, heads=2, z_dim=z_dim)
    config["encoder"] |= {"dim": 32, "depth": 1, "heads": 2}
    config["predictor"] |= {"latent_dim": 32}
    folder = save_model(tmp_path / "model", dense(z_dim).model, kind="dense", config=config, conventions=SEES)
    looked = report_imagination(collected, str(folder), tmp_path, episodes=3, horizon=HORIZON, start=-1)
    page = read_page(looked.files["report"])
    said = " ".join(page.words)
    assert "Several futures" in said
    assert ("no latent variable z" in said) == (z_dim == 0)
    assert ("several draws of the latent variable z" in said) == (z_dim > 0)
    assert ("no latent variable z" in looked.words[-1]) == (z_dim == 0)
    assert (looked.figures["futures_disagree"] is None) == (z_dim == 0)


def test_the_recording_of_a_roll_out(stretches, tmp_path):
    mind = compact()
    found, shown = closely(mind, stretches)
    rolled = roll_outs(mind.model, found, horizon=HORIZON)
    path = record_imagination(shown, rolled, SEES.cameras, tmp_path / "recording.rrd")
    reader = RrdReader(path)
    assert len(reader.recordings()) == len(reader.blueprints()) == 1
    rows = defaultdict(int)
    for chunk in reader.stream():
        if not chunk.is_static:
            rows[str(chunk.entity_path)] += chunk.num_rows
    for entity in ("came", "imagined", "nearest", "world/came", "world/imagined"):
        assert rows[f"/{entity}"] == HORIZON, entity
    assert path.stat().st_size < 300_000


def test_the_hands_error_is_that_of_what_was_imagined(stretches, tmp_path, curve):
    """It used to be that of the pose that the actions tell: 0.02 mm, which says nothing."""
    mind = compact()
    found, shown = closely(mind, stretches)
    rolled = roll_outs(mind.model, found, horizon=HORIZON)
    path = record_imagination(shown, rolled, SEES.cameras, tmp_path / "recording.rrd")
    came = stretches[0].poses[START + 1 : START + 1 + HORIZON, :3]
    latents = {"imagined": shown.latents, "came": found[0].latents[0, START + 1 : START + 1 + HORIZON]}
    for kind, seen in latents.items():
        wanted = 1000 * (mind.heads["body"](seen)[0] - came).norm(dim=-1).detach()
        np.testing.assert_allclose(curve(path, f"/plots/hand_error_mm/{kind}"), wanted, rtol=1e-4)
        assert wanted.min() > 1, "a head that learned nothing cannot be right"
    mind.heads.pop("body")
    _, told = closely(mind, stretches)
    path = record_imagination(told, rolled, SEES.cameras, tmp_path / "told.rrd")
    wanted = 1000 * (told.poses[:, :3] - came).norm(dim=-1)
    np.testing.assert_allclose(curve(path, "/plots/hand_error_mm/imagined"), wanted, rtol=1e-3, atol=1e-3)
    assert curve(path, "/plots/hand_error_mm/came") == []


def test_a_frame_says_what_is_real():
    picture = np.zeros((20, 20, 3), np.uint8)
    marked = framed(picture, (1, 2, 3))
    assert (marked[0] == (1, 2, 3)).all()
    assert (marked[10, 10] == 0).all()
    assert (picture == 0).all(), "the picture itself was painted over"
