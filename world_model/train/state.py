"""The state of a training run on disk: written whole or not at all, read back bit for bit.

A run's folder holds `step-000500/` with model.safetensors, optimizer.safetensors and state.json, a text file
`last` that names the newest one and `best` that names the one with the lowest score.  A model that is sharded over
processes writes `shards/` instead (torch's distributed checkpoint); each opens on any number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.distributed.tensor import DTensor, distribute_tensor

from world_model.train.distributed import Group


@dataclass(kw_only=True)
class Progress:
    """What a run knows beside its weights."""

    step: int = 0  # optimiser steps done
    loss: float | None = None  # mean of the last 50 steps
    score: float | None = None  # the health figures' own, lower is better
    best: float | None = None
    loader: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def sync(path: Path) -> None:
    """Make what was written to a file or folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a small file whole."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def write_folder(path: Path, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write into a temporary folder, then give it its name; a crash leaves no half folder behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fill(temporary)
        for file in temporary.rglob("*"):
            sync(file)
        sync(temporary)
        if path.exists():
            remove_folder(path)
        os.rename(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return path


def remove_folder(path: Path) -> None:
    """Delete a folder; it loses its name first, so that nobody meets it half deleted."""
    trash = path.with_name(f".tmp-removed-{path.name}-{os.getpid()}")
    os.rename(path, trash)
    shutil.rmtree(trash)


def clean(out: Path) -> None:
    """Remove what a killed process left half written."""
    for left in out.glob(".tmp-*"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors; storage that two names share is written twice, as the format has no aliases."""
    seen: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    save_file(plain, path)
    mask = os.umask(0o077)
    os.umask(mask)
    path.chmod(0o666 & ~mask)  # safetensors writes for its owner alone; colleagues share models


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state under the parameters' names: `<parameter>/<key>`."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        f"{names[id(p)]}/{key}": torch.as_tensor(value)
        for p, entry in optimizer.state.items()
        for key, value in entry.items()
    }


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for full, value in tensors.items():
        name, key = full.rsplit("/", 1)
        if name not in parameters:
            raise ValueError(f"the optimiser's state is of another model: it has no parameter {name!r}")
        parameter = parameters[name]
        # Adam keeps its step counter on the host, whatever the device of the moments.
        on_host = key == "step" and not optimizer.defaults.get("fused")
        optimizer.state[parameter][key] = (
            value if on_host else _as_held(value.to(parameter.device), parameter)
        )


def save(
    out: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    group: Group,
    *,
    keep: int = 2,
    buffers: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write one checkpoint, point `last` at it, drop the oldest beyond `keep` (never the best).

    `buffers` stand for the model's own, which a step at work may have changed.  All processes call it together; the
    first one writes, unless the model is sharded.
    """
    path = out / f"step-{progress.step:06d}"
    value = progress.score if progress.score is not None else progress.loss
    # A score that was measured before an earlier checkpoint is that one's, not this one's.
    better = value is not None and (progress.best is None or value < progress.best)
    progress.best = value if better else progress.best
    sharded = any(isinstance(p, DTensor) for p in model.parameters())
    shards = out / ".tmp-shards"
    if sharded:
        tensors = {"model": model.state_dict(), "optimizer": optimizer_tensors(model, optimizer)}
        save_shards(tensors, checkpoint_id=str(shards))
        group.barrier()

    def fill(folder: Path) -> None:
        if sharded:
            os.rename(shards, folder / "shards")
        else:
            save_tensors(folder / "model.safetensors", {**model.state_dict(), **(buffers or {})})
            save_tensors(folder / "optimizer.safetensors", optimizer_tensors(model, optimizer))
        (folder / "state.json").write_text(json.dumps(vars(progress), indent=1), encoding="utf-8")

    if group.main:
        write_folder(path, fill)
        write_text(out / "last", path.name)
        if better:
            write_text(out / "best", path.name)
        prune(out, keep=keep)
    group.barrier()
    return path


def prune(out: Path, *, keep: int) -> None:
    spared = {pointed.name for name in ("last", "best") if (pointed := follow(out, name))}
    for old in sorted(out.glob("step-*"), key=lambda p: int(p.name[5:]))[:-keep]:
        if old.name not in spared:
            remove_folder(old)


def follow(out: Path, pointer: str) -> Path | None:
    """The checkpoint that `last` or `best` names, if there is one."""
    file = out / pointer
    folder = out / file.read_text(encoding="utf-8").strip() if file.is_file() else None
    return folder if folder is not None and (folder / "state.json").is_file() else None


def find(resume: str | Path, out: Path) -> Path | None:
    """The checkpoint to go on from: `last` in `out` (None when there is none yet), a run's folder, or a checkpoint."""
    if str(resume) == "last":
        return follow(out, "last")
    path = Path(resume)
    if (path / "state.json").is_file():
        return path
    found = follow(path, "last")
    if found is None:
        there = sorted(p.name for p in path.glob("step-*")) or "nothing"
        raise ValueError(
            f"resume={resume}: no checkpoint there (found {there}); give a run's folder, a step-* folder or last"
        )
    return found


def read_progress(path: Path) -> Progress:
    return Progress(**json.loads((path / "state.json").read_text(encoding="utf-8")))


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a checkpoint back into a model and its optimiser, whatever number of processes wrote it."""
    if (path / "shards").is_dir():
        held = model.state_dict()
        stored = FileSystemReader(str(path / "shards")).read_metadata().state_dict_metadata
        parameters = dict(model.named_parameters())
        names = [n.removeprefix("optimizer.") for n in stored if n.startswith("optimizer.")]
        moments = {n: _room_for(n, parameters) for n in names}
        load_shards({"model": held, "optimizer": moments}, checkpoint_id=str(path / "shards"))
        model.load_state_dict(held)
        load_optimizer(model, optimizer, moments)
        return read_progress(path)
    own = model.state_dict()
    stored = load_file(path / "model.safetensors", device=str(next(model.parameters()).device))
    model.load_state_dict({name: _as_held(t, own.get(name)) for name, t in stored.items()})
    load_optimizer(model, optimizer, load_file(path / "optimizer.safetensors"))
    return read_progress(path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Only the weights of a checkpoint, into a model that is not sharded."""
    if (path / "shards").is_dir():
        held = model.state_dict()
        load_shards({"model": held}, checkpoint_id=str(path / "shards"))
        model.load_state_dict(held)
    else:
        model.load_state_dict(load_file(path / "model.safetensors"))


def _room_for(name: str, parameters: Mapping[str, nn.Parameter]) -> Tensor:
    parameter, _, key = name.rpartition("/")
    if parameter not in parameters:
        raise ValueError(f"the optimiser's state is of another model: it has no parameter {parameter!r}")
    return torch.zeros(()) if key == "step" else torch.empty_like(parameters[parameter]).detach()


def _as_held(tensor: Tensor, held: Any) -> Tensor:
    """A whole tensor, split as the one it replaces."""
    if isinstance(held, DTensor) and not isinstance(tensor, DTensor) and tensor.ndim:
        return distribute_tensor(tensor.to(held.device), held.device_mesh, held.placements)
    return tensor
