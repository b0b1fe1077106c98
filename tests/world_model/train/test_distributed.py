"""Claims: two processes learn what one learns from the whole batch; what N wrote, M can open."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from world_model.train import state
from world_model.train.distributed import Group, blocks, checkpoint_activations, reduce_batch_norm, spread

STEPS = 30
PATIENCE_S = 800  # on a machine with much else to do
pytestmark = pytest.mark.timeout(1000)


def torchrun(toy, processes: int, *arguments: str) -> str:
    """Start the toy as torchrun would, without its launcher's seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank),
               "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        command = [sys.executable, toy.__file__, *arguments]
        children.append(
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    try:
        outputs = [c.communicate(timeout=PATIENCE_S)[0] for c in children]
    finally:
        for c in children:
            c.kill()
    assert all(c.returncode == 0 for c in children), "\n".join(outputs)
    return outputs[0]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(toy, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    toy.run(out, steps=STEPS, recipe=toy.ToyRecipe(dropout=0.0))
    return out


@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_follow_the_curve_of_one(toy, alone, tmp_path, parallel):
    torchrun(toy, 2, str(tmp_path), str(STEPS), "none", parallel)
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-4)
    assert losses(alone)[-1] < 0.8 * losses(alone)[0], "the toy does not learn: the comparison says nothing"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fsdp2", "none"),
        pytest.param("none", "fsdp2", marks=pytest.mark.slow),
        pytest.param("ddp", "fsdp2", marks=pytest.mark.slow),
        pytest.param("fsdp2", "ddp", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_opens_on_another_number_of_processes(toy, alone, tmp_path, before, after):
    """Interrupt half way, go on with the other number, and end on the same curve."""

    def go(how: str, resume: str | None) -> None:
        if how == "none":
            toy.run(tmp_path, steps=STEPS, resume=resume, recipe=toy.ToyRecipe(dropout=0.0))
        else:
            torchrun(toy, 2, str(tmp_path), str(STEPS), resume or "none", how)

    go(before, None)
    state.write_text(tmp_path / "last", "step-000025")
    go(after, "last")
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-4)


def test_many_processes_that_would_train_apart_are_refused():
    with pytest.raises(
        ValueError, match="torchrun started 2 processes: they would train as many separate models"
    ):
        spread(nn.Linear(1, 1), Group(size=2), parallel="none")


@pytest.mark.parametrize("shape", [(16, 6), (4, 6, 5), (3, 6, 4, 4)])
def test_reduced_batch_norm_is_batch_norm(shape):
    theirs = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](6)
    nn.init.normal_(theirs.weight)
    ours = type(theirs)(6)
    ours.load_state_dict(theirs.state_dict())
    reduce_batch_norm(ours)
    x = torch.randn(shape, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    a, b = theirs(x), ours(y)
    (a * a.detach().sin()).sum().backward()
    (b * b.detach().sin()).sum().backward()
    torch.testing.assert_close(b, a)
    torch.testing.assert_close(y.grad, x.grad)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(y), theirs.eval()(x))


def test_recomputed_activations_change_nothing_but_memory(toy):
    def gradients(save_memory: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = toy.ToyModel(dropout=0.0)
        if save_memory:
            assert checkpoint_activations(model) == 2
        clip = next(iter(toy.ToyLoader()))
        loss, _ = toy.ToyRecipe().loss(model, clip, 0, torch.Generator().manual_seed(0))
        loss.backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(a, b)


def test_blocks_are_the_innermost_members_of_module_lists():
    inner = nn.ModuleList([nn.Linear(2, 2)])
    model = nn.ModuleDict({"outer": nn.ModuleList([nn.ModuleDict({"inner": inner}), nn.Linear(3, 3)])})
    assert blocks(model) == [model["outer"][1], inner[0]]
