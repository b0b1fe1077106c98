"""Claims: whatever kills a run, what is on disk is whole, and going on ends where an unharmed run ends."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from world_model.train import state
from world_model.train.guard import TrainingStopped

STEPS = 240
PATIENCE_S = 800  # on a machine with much else to do
pytestmark = pytest.mark.timeout(1000)


def weights(out: Path) -> dict[str, torch.Tensor]:
    last = state.follow(out, "last")
    assert last is not None
    return {**load_file(last / "model.safetensors"), **load_file(last / "optimizer.safetensors")}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f"not bit-equal: {different}"


def child(
    toy, out: Path, steps: int = STEPS, resume: str = "last", *more: str, **options
) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, toy.__file__, str(out), str(steps), resume, *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unharmed(toy, tmp_path_factory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("unharmed")
    torch.set_num_threads(1)
    toy.run(out, steps=STEPS)
    return weights(out)


def test_a_run_resumed_in_the_middle_is_the_run_that_was_not(toy, unharmed, tmp_path):
    toy.run(tmp_path, steps=STEPS, on_health=lambda model, step: ({}, []), save_every_steps=70, keep=9)
    state.remove_folder(tmp_path / "step-000240")
    state.write_text(tmp_path / "last", "step-000140")
    result = toy.run(tmp_path, steps=STEPS, resume="last")
    assert result.step == STEPS
    assert_same(weights(tmp_path), unharmed)


def test_killed_at_random_moments_it_ends_with_the_same_weights(toy, unharmed, tmp_path):
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for _ in range(4):
        process = child(toy, tmp_path)
        assert process.stdout is not None
        process.stdout.readline()  # it has begun: "no checkpoint yet" or "resumed from"
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.communicate()
    process = child(toy, tmp_path)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert_same(weights(tmp_path), unharmed)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(STEPS)), f"metrics have gaps or repeats (moments seeded by {seed})"
    assert not list(tmp_path.glob(".tmp-*"))


def test_killed_while_writing_a_checkpoint_the_last_one_stays(toy, unharmed, tmp_path, monkeypatch):
    """Every write of a checkpoint is cut off once, at each of its files, renames and pointers in turn."""
    calls = {"left": 10**9}

    def dying(real):
        def call(*args, **kwargs):
            calls["left"] -= 1
            if calls["left"] < 0:
                raise MemoryError("killed here")
            return real(*args, **kwargs)

        return call

    for name in ("save_tensors", "sync"):
        monkeypatch.setattr(state, name, dying(getattr(state, name)))
    monkeypatch.setattr(state.os, "rename", dying(os.rename))
    monkeypatch.setattr(state.os, "replace", dying(os.replace))
    with pytest.raises(TrainingStopped):
        toy.run(tmp_path, steps=STEPS, loader=toy.ToyLoader(fail_at=5))
    for left in range(12):
        calls["left"] = left
        with pytest.raises(MemoryError):
            toy.run(tmp_path, steps=STEPS, resume="last", save_every_steps=10)
        last = state.follow(tmp_path, "last")
        assert last is not None
        load_file(last / "model.safetensors")
    calls["left"] = 10**9
    toy.run(tmp_path, steps=STEPS, resume="last")
    assert_same(weights(tmp_path), unharmed)


def test_nan_stops_before_the_weights_and_keeps_the_batch(toy, tmp_path):
    with pytest.raises(TrainingStopped, match=r"step 12: the loss is nan.*last good step.*step-000010"):
        toy.run(tmp_path, steps=STEPS, loader=toy.ToyLoader(nan_at=12))
    batch = load_file(next(tmp_path.glob("broken-batch-000012-*.safetensors")))
    assert batch["actions"][3, 1, 2].isnan()
    assert batch["frames"].dtype == torch.uint8
    assert all(t.isfinite().all() for t in weights(tmp_path).values())


def test_data_that_vanishes_is_one_sentence_and_the_run_goes_on_when_it_is_back(toy, unharmed, tmp_path):
    with pytest.raises(
        TrainingStopped, match=r"could not be read at step 17: .*episode_7.h5.*step-000015.*resume=last"
    ):
        toy.run(tmp_path, steps=STEPS, loader=toy.ToyLoader(fail_at=17))
    toy.run(tmp_path, steps=STEPS, resume="last")
    assert_same(weights(tmp_path), unharmed)


def test_a_full_disk_is_one_sentence_and_harms_no_checkpoint(toy, tmp_path):
    """A file size limit makes the kernel refuse the write, as a full disk does."""
    toy.run(tmp_path, steps=5)
    before = weights(tmp_path)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    process = child(toy, tmp_path, preexec_fn=limit)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert "TrainingStopped: step 9 could not be written" in output
    assert "free some space, then go on with resume=last" in output
    assert_same(weights(tmp_path), before)
    assert not list(tmp_path.glob(".tmp-*"))


def test_ctrl_c_finishes_the_step_saves_and_says_so(toy, tmp_path):
    process = child(toy, tmp_path, steps=1_000_000)
    while not (tmp_path / "last").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "go on with resume=last" in output
    assert "Traceback" not in output
    last = state.follow(tmp_path, "last")
    assert last is not None
    done = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    assert state.read_progress(last).step == done


def test_a_folder_with_a_run_is_not_overwritten(toy, tmp_path):
    toy.run(tmp_path, steps=5)
    with pytest.raises(ValueError, match=r"already holds a run: give resume=last .* or another out="):
        toy.run(tmp_path, steps=5)


def test_the_newest_two_and_the_best_are_kept(toy, tmp_path):
    scores = {4: 3.0, 9: 1.0, 14: 2.0, 19: 2.5, 24: 2.2}
    toy.run(tmp_path, steps=25, health_every_steps=5, on_health=lambda m, step: ({"score": scores[step]}, []))
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000010", "step-000020", "step-000025"]
    assert state.follow(tmp_path, "best") == tmp_path / "step-000010"


def test_resume_says_what_it_found_instead(tmp_path):
    (tmp_path / "step-000005").mkdir()
    with pytest.raises(ValueError, match=r"no checkpoint there \(found \['step-000005'\]\)"):
        state.find(tmp_path, tmp_path)


def test_ctrl_c_in_a_long_step_saves_what_it_began_from_and_that_step_is_done_again(toy, unharmed, tmp_path):
    process = child(toy, tmp_path, STEPS, "last", "slow", "33")
    assert process.stdout is not None
    while "slow" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert "interrupted in step 34: 33 are saved" in output
    assert state.read_progress(tmp_path / "step-000033").step == 33
    toy.run(tmp_path, steps=STEPS, resume="last")
    assert_same(weights(tmp_path), unharmed)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(STEPS))
