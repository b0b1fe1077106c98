"""Frames that lie in HDF5 files or are single encoded pictures, read when asked for."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from data.checks import Damaged

MAX_OPEN = 16
_handles: OrderedDict[tuple[int, str], Any] = OrderedDict()


def hdf5_handle(file: Path) -> Any:
    """An open file of this process; the few last used stay open."""
    key = (os.getpid(), str(file))
    handle = _handles.get(key)
    if handle is None or not handle.id.valid:
        handle = _handles[key] = h5py.File(file, "r")
        while len(_handles) > MAX_OPEN:
            owner, old = _handles.popitem(last=False)
            if owner[0] == key[0]:  # a parent's handle belongs to the parent
                old.close()
    _handles.move_to_end(key)
    return handle


def close_hdf5() -> None:
    """Close the HDF5 files of this process (before they are moved or deleted)."""
    for key in [k for k in _handles if k[0] == os.getpid()]:
        _handles.pop(key).close()


def upright(frames: np.ndarray, flip: str) -> np.ndarray:
    """Turn pictures [N, H, W, 3] as `LogOptions.flip` says."""
    if flip == "vertical":
        return np.ascontiguousarray(frames[:, ::-1])
    if flip == "rotate":
        return np.ascontiguousarray(frames[:, ::-1, ::-1])
    return frames


def decode(content: bytes) -> np.ndarray:
    """An encoded picture (JPEG, PNG) -> uint8 RGB [H, W, 3]."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


@dataclass(slots=True)
class EncodedFrames:
    """Pictures held as the bytes of their files, decoded when read."""

    contents: Sequence[bytes]
    flip: str = "none"
    bgr: bool = False  # whether whoever encoded them had the channels the other way round

    def __len__(self) -> int:
        return len(self.contents)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        frames = np.stack([decode(self.contents[int(i)]) for i in indices])
        return upright(frames[..., ::-1] if self.bgr else frames, self.flip)


@dataclass(slots=True)
class PictureFiles:
    """One picture file per frame."""

    files: Sequence[Path]
    flip: str = "none"

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return upright(np.stack([decode(self.files[int(i)].read_bytes()) for i in indices]), self.flip)


@dataclass(slots=True)
class Hdf5Frames:
    """Pictures in an HDF5 dataset: [T, H, W, 3], or one encoded picture per row."""

    file: Path
    name: str
    length: int
    flip: str = "none"
    bgr: bool = False
    encoded: bool = field(default=False)

    @classmethod
    def of(cls, file: Path, dataset: Any, *, flip: str = "none", bgr: bool = False) -> Hdf5Frames:
        """Frames of an open dataset, whose shape says what they are."""
        shape = dataset.shape
        raw = len(shape) == 4 and shape[3] in (1, 3) and dataset.dtype == np.uint8
        encoded = len(shape) == 1 or (len(shape) == 2 and dataset.dtype == np.uint8)
        if not (raw or encoded) or (raw and int(np.prod(shape[1:])) > 1 << 28):
            raise Damaged(
                "wrong shape",
                file=file,
                value=f"{dataset.name} is {dataset.dtype} {list(shape)}",
                remedy="Pictures are uint8 [T, H, W, 3], or one JPEG per row; name them in key_map.camera.NAME.",
            )
        return cls(file, dataset.name, shape[0], flip, bgr, encoded)

    def __len__(self) -> int:
        return self.length

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if not self.encoded:
            return tuple(hdf5_handle(self.file)[self.name].shape[1:3])
        return self.read([0]).shape[1:3]

    def read(self, indices: Sequence[int]) -> np.ndarray:
        dataset = hdf5_handle(self.file)[self.name]
        rows, back = np.unique(np.asarray(indices, np.int64), return_inverse=True)
        if self.encoded:
            frames = np.stack([decode(np.asarray(dataset[row]).tobytes()) for row in rows.tolist()])
        else:
            frames = np.asarray(dataset[rows])
        if frames.shape[-1] == 1:
            frames = np.repeat(frames, 3, -1)
        if self.bgr:
            frames = frames[..., ::-1]
        return np.ascontiguousarray(upright(frames, self.flip)[back])
