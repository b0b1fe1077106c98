"""Values over time that wait and are sent column by column: a tenth of the work of sending each by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rerun as rr

HOLD_S = 20.0  # so much of a run is lost at most when its process is killed
Columns = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(kw_only=True)
class _Waiting:
    columns: Columns
    times: list[dict[str, int | float]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


class Rows:
    """`at` says when it is, `add` keeps a value for then, `send` sends what waits; so does `at`, every `hold_s` seconds."""

    def __init__(self, recording: rr.RecordingStream, *, hold_s: float = HOLD_S) -> None:
        self._recording, self._hold_s = recording, hold_s
        self._now: dict[str, int | float] = {}
        self._waiting: dict[tuple[str, ...], _Waiting] = {}
        self._since = time.monotonic()

    def at(self, **times: int | float) -> None:
        """A whole number is a step, another one seconds."""
        if time.monotonic() - self._since > self._hold_s:
            self.send()
        self._now = times

    def add(self, entity: str, columns: Columns, value: Any, **times: int | float) -> None:
        """`columns` makes Rerun's columns of all values of the entity; `times` go beside those of `at`."""
        when = self._now | times
        found = self._waiting.setdefault((entity, *when), _Waiting(columns=columns))
        found.times.append(when)
        found.values.append(value)

    def send(self) -> None:
        waiting, self._waiting, self._since = self._waiting, {}, time.monotonic()
        for (entity, *names), found in waiting.items():
            index = [_timeline(name, [when[name] for when in found.times]) for name in names]
            self._recording.send_columns(entity, index, found.columns(found.values))


def _timeline(name: str, values: list[int | float]) -> rr.TimeColumn:
    if isinstance(values[0], int):
        return rr.TimeColumn(name, sequence=np.array(values, np.int64))
    return rr.TimeColumn(name, duration=values)


def scalars(values: Sequence[np.ndarray]) -> Iterable[Any]:
    """Each [n]: a value of n curves."""
    flat = np.concatenate(values)
    return rr.Scalars.columns(scalars=flat).partition([len(v) for v in values])


def transforms(values: Sequence[np.ndarray]) -> Iterable[Any]:
    """Each [7]: a place, and a turn as xyzw."""
    stacked = np.stack(values).astype(np.float32)
    return rr.Transform3D.columns(translation=stacked[:, :3], quaternion=stacked[:, 3:])


def strips(values: Sequence[np.ndarray]) -> Iterable[Any]:
    """Each [n, 3]: a line."""
    return rr.LineStrips3D.columns(strips=list(values))


def points(values: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterable[Any]:
    """Each points [n, 3] and their colours uint8 [n, 3 or 4]."""
    lengths = [len(place) for place, _ in values]
    columns = rr.Points3D.columns(
        positions=np.concatenate([place for place, _ in values]),
        colors=np.concatenate([colour for _, colour in values]),
    )
    return columns.partition(lengths)
