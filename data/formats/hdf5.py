"""HDF5 files as plain arrays: what is absent is None, what is damaged says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.checks import Damaged

MAX_BYTES = 1 << 30  # no column of an episode is larger: a damaged header may claim anything


class Hdf5:
    """An open file, or a group of one."""

    def __init__(self, file: Path, group: Any) -> None:
        self.file = file
        self.group = group

    @classmethod
    def open(cls, file: Path) -> Hdf5:
        try:
            return cls(file, h5py.File(file, "r"))
        except OSError as error:
            raise Damaged(
                "no file" if not file.exists() else "truncated hdf5",
                file=file,
                value=error,
                remedy="Copy the file again from the original, or delete it.",
            ) from error

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        # Asking a file for its file opens it once more.
        (self.group if isinstance(self.group, h5py.File) else self.group.file).close()

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def __iter__(self) -> Any:
        """Names of all datasets below, as paths."""
        names: list[str] = []
        self.group.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        return iter(names)

    def children(self, name: str = "/") -> list[str]:
        """Names directly in a group, or none if there is no such group."""
        group = self.group if name == "/" else self.group.get(name)
        return list(group) if isinstance(group, h5py.Group) else []

    def below(self, name: str) -> Hdf5:
        group = self.group.get(name)
        if not isinstance(group, h5py.Group):
            raise Damaged("missing group", file=self.file, value=name, remedy="Copy the file again.")
        return Hdf5(self.file, group)

    def attribute(self, name: str) -> Any:
        """An attribute as a Python value (bytes as text), or None."""
        value = self.group.attrs.get(name)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value.item() if isinstance(value, np.generic) else value

    def dataset(self, name: str) -> Any:
        """The h5py dataset, for lazy reading, or None."""
        item = self.group.get(name)
        return item if isinstance(item, h5py.Dataset) and item.shape else None

    def array(self, name: str, rows: slice | int | None = None) -> np.ndarray | None:
        """A dataset, or some of its rows, in memory; None where there is none."""
        dataset = self.dataset(name)
        if dataset is None:
            return None
        if dataset.nbytes > MAX_BYTES and rows is None:
            raise Damaged(
                "sizes make no sense",
                file=self.file,
                value=f"{name} claims {dataset.shape}",
                remedy="Copy the file again from the original.",
            )
        try:
            return np.asarray(dataset[()] if rows is None else dataset[rows])
        except (OSError, RuntimeError) as error:
            raise Damaged(
                "damaged hdf5",
                file=self.file,
                value=f"{name}: {error}",
                remedy="Copy the file again from the original.",
            ) from error

    def numbers(self, name: str, width: int | None = None) -> np.ndarray:
        """A column of numbers that must be there: float64 [T] or [T, width]."""
        values = self.array(name)
        if values is None:
            raise Damaged("missing column", file=self.file, value=name, remedy="Record the episode again.")
        values = values.astype(np.float64).reshape(len(values), -1)
        if (width is None and values.shape[1] != 1) or (width is not None and values.shape[1] != width):
            raise Damaged(
                "wrong shape",
                file=self.file,
                value=f"{name} has {values.shape[1]} numbers a row, {width or 1} are needed",
                remedy="Name the right column in key_map.",
            )
        return values if width is not None else values[:, 0]
