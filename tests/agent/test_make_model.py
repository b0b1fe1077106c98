"""Claims: one line makes a model from nothing; killed on the way it goes on, and it never mixes two settings."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.make_model import Options, keep_to, options_from, stages
from agent.stages import done
from world_model.checkpoint import describe, load_heads, load_model, read_card

TINY = ("scale=0.001", "workers=1", "--", "model=compact_small", "recipe.batch_size=6")


def test_every_stage_says_its_seed_and_the_scale_changes_counts_alone():
    whole, small = stages(Options()), stages(Options(scale=0.01))
    for (name, command, words), (_, _, fewer) in zip(whole, small, strict=True):
        assert any(word.startswith("seed=") for word in words), f"{name}: forearm {command} without a seed"
        differing = {a.partition("=")[0] for a, b in zip(words, fewer, strict=True) if a != b}
        assert differing <= {"episodes", "recipe.steps", "head_steps", "surprise_episodes"}
    assert whole[0][2][:2] == ["episodes=4000", "seed=100000"]
    assert small[0][2][:2] == ["episodes=40", "seed=100000"]


def test_a_folder_begun_with_other_settings_is_refused(tmp_path):
    options = Options(out=tmp_path, scale=0.01)
    keep_to(stages(options), tmp_path / "stages.json")
    keep_to(stages(options), tmp_path / "stages.json")
    with pytest.raises(ValueError, match="1-play is asked for with episodes=80 instead of episodes=40"):
        keep_to(stages(replace(options, scale=0.02)), tmp_path / "stages.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scael=1"], "'scael=1' is not understood; there are out, scale, workers"),
        (["scale=0"], "scale is 0.0; it is more than 0"),
    ],
)
def test_what_is_not_understood_is_said(words, said):
    with pytest.raises(ValueError, match=said):
        options_from(words)


def test_words_after_two_dashes_go_to_the_training():
    options = options_from(["scale=0.5", "out=there", "--", "recipe.batch_size=8"])
    assert options == Options(out=Path("there"), scale=0.5, train=["recipe.batch_size=8"])
    assert stages(options)[1][2][-1] == "recipe.batch_size=8"


def start(folder: Path, *words: str) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "agent.make_model", f"out={folder / 'made'}", *words],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_from_nothing_to_a_model_with_a_kill_in_between(tmp_path):
    made = tmp_path / "made"
    child = start(tmp_path, *TINY)
    deadline = time.monotonic() + 1500
    while not (made / "2-world" / "world" / "last").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()[0]
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    collected = (made / "1-play" / "results.json").read_bytes()
    assert done(made / "2-world") is None

    child = start(tmp_path, *TINY)
    output, _ = child.communicate(timeout=2400)
    assert child.returncode == 0, output
    assert (made / "1-play" / "results.json").read_bytes() == collected, "what was done was done again"
    commands = [line for line in output.splitlines() if line.startswith("--- forearm")]
    assert commands[0] == f"--- forearm train resume={made / '2-world'}"
    assert [line.split()[2] for line in commands] == [
        "train",
        "collect",
        "train",
        "calibrate",
        "imagine",
        "evaluate",
    ]
    model = made / "4-heads" / "model"
    assert f"use it   forearm demo model={model}" in output
    load_model(model)
    assert set(load_heads(model)) == {"policy", "critic", "body", "decoder"}
    assert {"latent", "strong"} <= set(describe(model).normalisation["surprise"])
    card = read_card(model)
    assert len(card["how"]) == 7
    assert "seed=300000" in card["how"][2]
    assert card["success"]["pick_place, final, both"].endswith("of 1")
    assert json.loads((made / "4-heads" / "results.json").read_text())["heads"].keys() == card["heads"].keys()

    child = start(tmp_path, *TINY)
    output, _ = child.communicate(timeout=300)
    assert child.returncode == 0, output
    assert "--- forearm" not in output
