"""Claims: from logs to a model's folder by the command, killed on the way, adapted afterwards; nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from world_model.checkpoint import load_heads

pytestmark = pytest.mark.slow

QUICK = ("model=compact_small", "view.image_size=64", "recipe.batch_size=6", "recipe.steps=24", "save_every_steps=4",
         "health_every_steps=12", "heads=[policy,critic]", "head_steps.policy=30", "head_steps.critic=30",
         "validation=0.3", "precision=fp32")  # fmt: skip


def forearm(folder: Path, *words: str, wait: bool = True, status: int = 0) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-P", "-m", "agent.cli.main", *words]
    child = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if wait:
        output, _ = child.communicate(timeout=280)
        assert child.returncode == status, output
        child.output = output  # type: ignore[attr-defined]
    return child


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """A folder with a small log, and a run trained on it without harm."""
    folder = tmp_path_factory.mktemp("lab")
    forearm(folder, "collect", "episodes=12", "steps=16", "to=logs", "workers=1", "out=collected")
    forearm(folder, "train", "data=logs", *QUICK, "out=whole")
    return folder


def test_a_run_leaves_what_it_says(lab):
    run = lab / "whole"
    results = json.loads((run / "results.json").read_text())
    assert results["status"] == "done"
    assert results["heads"]["policy"]["move_error_mm"] > 0
    assert {p.name for p in (run / "model").iterdir()} == {
        "config.json", "card.json", "model.safetensors", "policy.safetensors", "critic.safetensors"
    }  # fmt: skip
    assert list((run / "pictures").glob("*-landscapes.png"))
    described = json.loads((run / "model" / "config.json").read_text())
    assert described["normalisation"]["latent_scale"] > 0
    assert described["conventions"]["image_size"] == 64


@pytest.mark.timeout(600)
def test_killed_and_resumed_the_model_is_the_same(lab):
    child = forearm(lab, "train", "data=logs", *QUICK, "out=killed", wait=False)
    deadline = time.monotonic() + 200
    while not (lab / "killed" / "world" / "last").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    forearm(lab, "train", "resume=killed")
    for name in ("model", "policy", "critic"):
        whole, again = (load_file(lab / run / "model" / f"{name}.safetensors") for run in ("whole", "killed"))
        assert all((whole[k] == again[k]).all() for k in whole), name


@pytest.mark.timeout(600)
def test_an_adapted_model_is_scored_before_and_after(lab):
    child = forearm(
        lab,
        "train",
        "from=whole/model",
        "data=logs",
        *QUICK,
        "recipe.post_steps=4",
        "heads=[]",
        "out=adapted",
    )
    assert "better than whole/model on these logs" in child.output  # type: ignore[attr-defined]
    results = json.loads((lab / "adapted" / "results.json").read_text())
    assert results["score_before"]["still_m"] == results["score"]["still_m"]


@pytest.mark.timeout(600)
def test_a_finished_model_gets_a_head_and_keeps_the_rest(lab):
    asked = (
        "from=whole/model",
        "only_heads=true",
        "heads=[decoder]",
        "data=logs",
        "validation=0.3",
    )
    forearm(lab, "train", *asked, "head_steps={decoder:6}", "out=seeing")
    for name in ("model", "policy", "critic"):
        before, after = (
            load_file(lab / run / "model" / f"{name}.safetensors") for run in ("whole", "seeing")
        )
        assert all((before[k] == after[k]).all() for k in before), name
    decoder = load_heads(lab / "seeing" / "model", names=["decoder"])["decoder"]
    assert sum(p.numel() for p in decoder.parameters()) * 2 < 3e6, "half precision would not fit into 3 MB"
    forearm(lab, "train", "resume=seeing")
    again = load_heads(lab / "seeing" / "model", names=["decoder"])["decoder"]
    assert all((a == b).all() for a, b in zip(decoder.parameters(), again.parameters(), strict=True))


@pytest.mark.timeout(900)
def test_pretrained_eyes_learn_to_predict_with_actions(lab):
    small = ("view=exterior", "view.image_size=32", "model.kind=dense", "recipe.batch_size=2", "validation=0.3",
             "+model.config.patch=8", "model.config.depth=1", "precision=fp32")  # fmt: skip
    forearm(
        lab,
        "pretrain",
        "data=logs",
        "model=vit_tiny",
        *small,
        "recipe.steps=3",
        "recipe.warmup_steps=1",
        "out=eyes",
    )
    forearm(lab, "train", "data=logs", "model=vit_tiny", *small, "recipe=vjepa2_ac", "from=eyes/model", "heads=[]",
            "recipe.post_steps=3", "out=acting")  # fmt: skip
    eyes, acting = (load_file(lab / run / "model" / "model.safetensors") for run in ("eyes", "acting"))
    assert all((eyes[name] == acting[name]).all() for name in eyes), "the frozen encoder moved"
    assert any(name.startswith("predictor.") for name in acting)


@pytest.mark.timeout(600)
def test_heads_alone_learn_from_several_logs_and_leave_the_world_model_as_it_is(lab):
    forearm(lab, "collect", "episodes=4", "seed=50", "steps=16", "to=more", "workers=1", "out=collected-more")
    asked = (
        "from=whole/model",
        "data=[logs,more]",
        "weights=[1,3]",
        "only_heads=true",
        "heads=[policy]",
        "validation=0.3",
    )
    forearm(lab, "train", *asked, "head_steps={policy:6}", "out=taught")
    for name, same in (("model", True), ("critic", True), ("policy", False)):
        before, after = (
            load_file(lab / run / "model" / f"{name}.safetensors") for run in ("whole", "taught")
        )
        assert all((before[k] == after[k]).all() for k in before) == same, name
    described = [json.loads((lab / run / "model" / "config.json").read_text()) for run in ("whole", "taught")]
    assert described[0]["normalisation"] == described[1]["normalisation"]
    refused = forearm(lab, "train", *asked[:2], "recipe.post_steps=0", "out=nothing", status=2)
    assert "only_heads=true trains heads alone" in refused.output  # type: ignore[attr-defined]
