"""Latents encoded once: what a frozen encoder makes of a cache, on disk, for predictors and heads to train on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from data.cache import FrameCache
from data.clips import ClipDataset
from data.locks import locked
from world_model.train.state import write_text


@dataclass(kw_only=True)
class Latents:
    """One row per model step.  Episode e holds rows first[e] .. first[e] + rows[e] - 1."""

    latents: Tensor  # [N, tokens, D]
    poses: Tensor  # [N, 7]
    actions: Tensor  # [N, 7] to the next row, gripper part as in clips; not-a-number in an episode's last row
    first: np.ndarray  # [E]
    rows: np.ndarray  # [E]
    frames: Tensor | None = None  # uint8 [N, V, H, W, 3], for a decoder
    weights: np.ndarray | None = (
        None  # [E] what the chance of an episode's rows is multiplied by; none: all alike
    )

    def episodes(self, numbers: Sequence[int] | np.ndarray) -> Latents:
        """The same rows with only these episodes to draw from."""
        chosen = np.asarray(numbers, dtype=np.int64)
        return Latents(
            latents=self.latents, poses=self.poses, actions=self.actions, frames=self.frames,
            first=self.first[chosen], rows=self.rows[chosen],
            weights=None if self.weights is None else self.weights[chosen],
        )  # fmt: skip


def joined(parts: Sequence[Latents]) -> Latents:
    """Several as one, their episodes in order."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(len(part.latents) for part in parts)])
    weights: list[Any] = [part.weights for part in parts]
    return Latents(
        latents=torch.cat([part.latents for part in parts]),
        poses=torch.cat([part.poses for part in parts]),
        actions=torch.cat([part.actions for part in parts]),
        first=np.concatenate([part.first + rows for part, rows in zip(parts, before, strict=False)]),
        rows=np.concatenate([part.rows for part in parts]),
        weights=None if any(w is None for w in weights) else np.concatenate(weights),
    )


def encode_once(
    world: Any,
    cache: FrameCache | SomeEpisodes,
    out: Path,
    *,
    batch: int = 128,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    say: Callable[[str], None] = print,
) -> Latents:
    """Encode every row of a cache into `out`, or open what was encoded before by the same encoder.

    Kept at half precision.  Killed on the way, it goes on where it was; of several processes one encodes, and the
    others wait.
    """
    out.mkdir(parents=True, exist_ok=True)
    identity = {"encoder": _fingerprint(world), "cache": _cache_identity(cache), "precision": precision}
    world = world.to(device).eval()
    count, shape = len(cache), tuple(_encode(world, cache, 0, 1, device, precision).shape[1:])
    file, note = out / "latents.f16", out / "latents.json"
    with locked(out):
        before = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        done = before["done"] if before.get("identity") == identity and file.is_file() else 0
        if not done:
            _reserve(file, 2 * count * int(np.prod(shape)))
        held = np.memmap(file, np.float16, "r+", shape=(count, *shape))
        if done < count:
            say(f"encoding {count - done} rows once ({held.nbytes / 2**20:.1f} MiB in {file})")
        for start in range(done, count, batch):
            stop = min(start + batch, count)
            held[start:stop] = _encode(world, cache, start, stop, device, precision).half().cpu().numpy()
            if stop == count or (start // batch) % 64 == 63:
                held.flush()
                write_text(note, json.dumps({"identity": identity, "done": stop, "shape": list(shape)}))
    return Latents(
        latents=torch.from_numpy(np.memmap(file, np.float16, "c", shape=(count, *shape))),
        poses=cache.poses, actions=cache.actions, frames=cache.frames,
        first=cache.episode_offsets, rows=cache.episode_lengths,
    )  # fmt: skip


def _reserve(file: Path, size: int) -> None:
    """Take the whole of a file's room now: a full disk met through a memory map kills the process without a word."""
    try:
        with file.open("wb") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
            else:
                stream.truncate(size)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise OSError(
            f"no room for {size / 2**20:.1f} MiB of latents in {file}: {error}; free some space, then go on with resume=last"
        ) from error


class LatentClips:
    """The clips of a dataset with latents instead of frames (implements `data.clips.Clips`)."""

    def __init__(self, dataset: ClipDataset, latents: Latents) -> None:
        self.dataset, self.latents = dataset, latents

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: np.ndarray, epochs: np.ndarray) -> TensorDict:
        rows = self.dataset.starts[torch.as_tensor(indices)][:, None] + torch.arange(self.dataset.length)
        held = self.latents
        return TensorDict(
            {"latents": held.latents[rows], "poses": held.poses[rows], "actions": held.actions[rows[:, :-1]]},
            [len(indices)],
        )


@torch.no_grad()
def _encode(
    world: Any,
    cache: FrameCache | SomeEpisodes,
    start: int,
    stop: int,
    device: torch.device | str,
    precision: str,
) -> Tensor:
    frames = cache.frames[start:stop].to(device)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
        return world.encode(frames).float()


def _fingerprint(world: nn.Module) -> str:
    """Of everything but the predictor, which encoding does not use."""
    digest = hashlib.sha256()
    for name, tensor in sorted(world.state_dict().items()):
        if not name.startswith("predictor."):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _cache_identity(cache: FrameCache | SomeEpisodes) -> list[list[int]]:
    return [[e.first, e.rows, e.crc] for e in cache.episodes]


class SomeEpisodes:
    """A share of a cache's episodes, as `encode_once` takes a cache: enough for a head that needs few."""

    def __init__(self, cache: FrameCache, numbers: Sequence[int]) -> None:
        lengths = cache.episode_lengths[np.asarray(numbers, np.int64)]
        self.episodes = [cache.episodes[n] for n in numbers]
        self.episode_lengths, self.episode_offsets = lengths, np.cumsum(lengths) - lengths
        spans = [np.arange(e.first, e.first + e.rows) for e in self.episodes]
        rows = torch.from_numpy(np.concatenate(spans))
        self.poses, self.actions = cache.poses[rows], cache.actions[rows]
        self.frames: Any = _Picked(cache.frames, rows)

    def __len__(self) -> int:
        return int(self.episode_lengths.sum())


class _Picked:
    """Rows of a memory map, read when they are asked for."""

    def __init__(self, frames: Tensor, rows: Tensor) -> None:
        self._frames, self._rows = frames, rows
        self.shape = torch.Size([len(rows), *frames.shape[1:]])

    def __getitem__(self, wanted: slice | Tensor) -> Tensor:
        return self._frames[self._rows[wanted]]
