"""Claims: several processes train what one does, from logs to a model's folder, and leave it whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from world_model.checkpoint import load_heads, load_model

QUICK = ("model=compact_small", "view.image_size=64", "recipe.batch_size=4", "recipe.steps=4", "save_every_steps=2",
         "health_every_steps=0", "heads=[policy]", "head_steps.policy=4", "validation=0.5", "precision=fp32",
         "play_tasks=[]")  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    done = together(
        folder,
        1,
        "collect",
        "episodes=4",
        "steps=12",
        "env.image_size_px=32",
        "to=logs",
        "workers=1",
        "out=collected",
    )
    assert done[0].returncode == 0, done[0].stdout
    return folder


def together(folder: Path, processes: int, *words: str) -> list[subprocess.CompletedProcess[str]]:
    """`forearm` in several processes, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line, children = [sys.executable, "-P", "-m", "agent.cli.main", *words], []
    for rank in range(processes):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank),
               "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        children.append(
            subprocess.Popen(
                line, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        said = [child.communicate(timeout=250)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    return [
        subprocess.CompletedProcess(line, c.returncode, text) for c, text in zip(children, said, strict=True)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_leave_a_model_with_its_heads(lab, how):
    done = together(lab, 2, "train", "data=logs", f"distributed={how}", *QUICK, f"out={how}")
    assert [child.returncode for child in done] == [0, 0], "\n".join(child.stdout for child in done)
    assert f"model    {how}/model" in done[0].stdout
    assert json.loads((lab / how / "results.json").read_text())["status"] == "done"
    model = lab / how / "model"
    load_model(model)
    assert set(load_heads(model)) == {"policy"}
    # What they left goes on alone, and a finished model gets its heads from one process, however many were started.
    alone = together(lab, 1, "train", f"resume={how}")
    assert alone[0].returncode == 0, alone[0].stdout
    assert "already at step 4 of 4" in alone[0].stdout
    words = (
        "train",
        f"from={how}/model",
        "only_heads=true",
        "heads=[body]",
        "head_steps.body=4",
        "data=logs",
    )
    done = together(lab, 2, *words, "validation=0.5", f"out={how}-body")
    assert [child.returncode for child in done] == [0, 0], "\n".join(child.stdout for child in done)
    assert set(load_heads(lab / f"{how}-body" / "model")) == {"policy", "body"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_video_to_actions_on_two_processes(lab):
    small = (
        "model=vit_tiny",
        "view.image_size=64",
        "recipe.batch_size=2",
        "recipe.steps=3",
        "validation=0.5",
    )
    done = together(lab, 2, "pretrain", "data=logs", *small, "out=seeing")
    assert [child.returncode for child in done] == [0, 0], "\n".join(child.stdout for child in done)
    words = (
        "train",
        "from=seeing/model",
        "recipe=vjepa2_ac",
        "data=logs",
        "heads=[]",
        "health_every_steps=0",
    )
    refused = together(lab, 1, *words, "validation=0.5", "out=nothing")
    assert refused[0].returncode == 2
    assert "say model= as when it was pretrained, for instance model=vit_small" in refused[0].stdout
    done = together(lab, 2, *words, *small, "distributed=fsdp2", "out=acting")
    assert [child.returncode for child in done] == [0, 0], "\n".join(child.stdout for child in done)
    assert "step 3/3" in done[0].stdout  # as many as recipe.steps says: its predictor is new
    assert load_model(lab / "acting" / "model").predictor is not None
