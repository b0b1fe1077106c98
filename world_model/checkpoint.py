"""A model as a folder: weights, heads, config, conventions, normalisation, card; nothing in it can run code.

config.json          what to build, what the model takes for granted, a checksum of each file
model.safetensors    the world model
policy.safetensors   a head, and so on for critic, body, ensemble, decoder
card.json            data, recipe, time, hardware, figures, limits
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from data.types import Conventions
from world_model.train.state import save_tensors, sync, write_folder, write_text

FORMAT = 1
SHIPPED = Path(__file__).parent / "shipped"
MODELS = {"compact": "world_model.compact:CompactModel", "dense": "world_model.dense:DenseModel"}
HEADS = {
    "policy": "world_model.heads.policy:Policy",
    "critic": "world_model.heads.critic:Critic",
    "body": "world_model.heads.body:Body",
    "ensemble": "world_model.heads.ensemble:Ensemble",
    "decoder": "world_model.heads.decoder:Decoder",
}


@dataclass(kw_only=True)
class Description:
    """What a model's folder says of itself."""

    kind: str
    config: dict[str, Any]
    conventions: Conventions
    normalisation: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def save_model(
    path: Path,
    model: nn.Module,
    *,
    kind: str,
    config: Mapping[str, Any],
    conventions: Conventions,
    normalisation: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a model's folder, whole or not at all; `dtype` float16 or bfloat16 halves its size."""
    _known(kind, MODELS, "model")
    described = Description(
        kind=kind, config=dict(config), conventions=conventions, normalisation=dict(normalisation or {})
    )

    def fill(folder: Path) -> None:
        described.sha256["model"] = _write_weights(folder / "model.safetensors", model, dtype)
        (folder / "config.json").write_text(_dump(described), encoding="utf-8")
        (folder / "card.json").write_text(json.dumps(dict(card or {}), indent=1), encoding="utf-8")

    return write_folder(path, fill)


def save_head(
    path: Path, name: str, head: nn.Module, *, config: Mapping[str, Any], dtype: torch.dtype | None = None
) -> Path:
    """Add a head to a model's folder, or replace it."""
    _known(name, HEADS, "head")
    described = describe(path)
    temporary = path / f".tmp-{name}.safetensors"
    described.sha256[name] = _write_weights(temporary, head, dtype)
    described.heads[name] = dict(config)
    sync(temporary)
    temporary.replace(path / f"{name}.safetensors")
    write_text(path / "config.json", _dump(described))
    return path


def set_normalisation(path: Path, **values: Any) -> Path:
    """Change what a model's folder says of normal numbers: what is named, and nothing else."""
    described = describe(path)
    described.normalisation |= values
    write_text(path / "config.json", _dump(described))
    return path


def describe(path: Path | str) -> Description:
    """Read what a model's folder says of itself, without its weights."""
    folder = resolve(path)
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        stored["conventions"]["cameras"] = tuple(stored["conventions"]["cameras"])
        described = Description(**{**stored, "conventions": Conventions(**stored["conventions"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not a model description of ours: {error}") from error
    if described.format > FORMAT:
        raise ValueError(
            f"{folder} has format {described.format}, this version reads up to {FORMAT}: update forearm"
        )
    return described


def read_card(path: Path | str) -> dict[str, Any]:
    return json.loads((resolve(path) / "card.json").read_text(encoding="utf-8"))


def load_model(path: Path | str, device: torch.device | str = "cpu", *, check: bool = True) -> nn.Module:
    """Build the model that a folder describes, in eval mode, with `conventions` as an attribute."""
    folder, described = resolve(path), describe(path)
    model = build(described.kind, described.config, described.conventions)
    _read_weights(folder, "model", model, described, check=check)
    return model.to(device).eval()


def load_heads(
    path: Path | str,
    device: torch.device | str = "cpu",
    *,
    names: Iterable[str] | None = None,
    check: bool = True,
) -> dict[str, nn.Module]:
    """The heads in a model's folder, in eval mode: all of them, or the named ones."""
    folder, described = resolve(path), describe(path)
    heads: dict[str, nn.Module] = {}
    for name in described.heads if names is None else names:
        if name not in described.heads:
            raise ValueError(
                f"{folder} has no head {name!r}; it has {sorted(described.heads) or 'none'}; forearm train heads={name} makes one"
            )
        heads[name] = make_head(name, described.heads[name])
        _read_weights(folder, name, heads[name], described, check=check)
        heads[name].to(device).eval()
    return heads


def build(kind: str, config: Mapping[str, Any], conventions: Conventions) -> nn.Module:
    """A fresh model of a registered kind: its class is called with its config and the conventions."""
    return _locate(_known(kind, MODELS, "model"))(conventions=conventions, **config)


def make_head(name: str, config: Mapping[str, Any]) -> nn.Module:
    """A fresh head of a registered kind."""
    return _locate(_known(name, HEADS, "head"))(**config)


def check_conventions(model: Conventions, other: Conventions, *, whose: str) -> None:
    """Refuse to join a model and an arm (or a log) that take different things for granted."""
    differences = model.differences(other)
    if differences:
        raise ValueError(
            f"the model and {whose} do not agree: {'; '.join(differences)} (here the model, there {whose}; "
            "env.image_size_px, env.crop and env.period_s say what an arm shows and does)"
        )


def resolve(path: Path | str) -> Path:
    """A model's folder from its path, or from the name of a shipped model."""
    for folder in (Path(path), SHIPPED / path):
        if (folder / "config.json").is_file():
            return folder
    shipped = sorted(p.parent.name for p in SHIPPED.glob("*/config.json")) or "none"
    raise FileNotFoundError(
        f"no model at {path}: neither a folder with config.json nor a shipped model (shipped: {shipped})"
    )


def _write_weights(file: Path, module: nn.Module, dtype: torch.dtype | None) -> str:
    tensors = {
        name: t.to(dtype) if dtype is not None and t.is_floating_point() else t
        for name, t in module.state_dict().items()
    }
    save_tensors(file, tensors)
    return _sha256(file)


def _read_weights(folder: Path, name: str, module: nn.Module, described: Description, *, check: bool) -> None:
    file = folder / f"{name}.safetensors"
    if check and (found := _sha256(file)) != described.sha256.get(name):
        raise ValueError(
            f"{file} is damaged or was replaced: its sha256 is {found[:12]}..., config.json says "
            f"{str(described.sha256.get(name))[:12]}...; copy the folder again"
        )
    try:
        module.load_state_dict(load_file(file))
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit the {name} that config.json describes: {error}") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _dump(described: Description) -> str:
    return json.dumps(asdict(described), indent=1)


def _known(name: str, registry: Mapping[str, str], what: str) -> str:
    if name not in registry:
        raise ValueError(f"{what} kind {name!r} is not known; there are {sorted(registry)}")
    return registry[name]


def _locate(where: str) -> Any:
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)
