"""The curves of a run: what each looks like, and its value at a step.  Blue is imagined, green is real."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import rerun as rr
import torch
from torch import Tensor

from agent.agent import Step

from .imagery import DREAM, REAL
from .rows import Rows, scalars

WARN = (200, 85, 61)
# The terms of an energy, in order; neither blue nor green.
OTHERS = ((214, 149, 46), (156, 104, 190), (200, 85, 61), (110, 170, 175), (150, 150, 150), (190, 130, 110))
AXES = "xyz"
Reads = Callable[[Tensor], tuple[Tensor, Tensor]]


class Plots:
    """Adds one value a curve and step to the rows."""

    def __init__(self, recording: rr.RecordingStream, rows: Rows, body: Reads | None = None) -> None:
        """`body` reads the hand's place off a latent."""
        self._recording, self._rows, self._body = recording, rows, body
        self._dreamt: np.ndarray | None = None  # [3], where the hand was imagined to be seen at the next step
        self._expected: np.ndarray | None = None  # [7], the pose that was imagined for the next step
        self._terms: list[str] = []
        self._look("pose/real", REAL, *AXES)
        self._look("pose/imagined", DREAM, *(f"{axis}, imagined" for axis in AXES))
        self._look("gripper/real", REAL, "real")
        self._look("gripper/imagined", DREAM, "imagined")
        self._look("hand_miss_mm/told", OTHERS[4], "from where it was sent")
        self._look("hand_miss_mm/imagined", DREAM, "from where it was imagined")
        self._look("steps_to_go", OTHERS[0], "steps to go")
        self._look("latent_distance", OTHERS[1], "latent distance")
        self._look("surprise/felt", OTHERS[0], "surprise")
        self._look("surprise/limit", WARN, "Mode 2 thinks", width=1.0)
        self._look("milliseconds/perceive", OTHERS[3], "perceive")
        self._look("milliseconds/plan", OTHERS[0], "plan")

    def show(self, step: Step) -> None:
        pose, expected = step.percept.observation.pose, self._expected
        self._log("pose/real", pose[:3])
        self._log("gripper/real", pose[6])
        if expected is not None:
            self._log("pose/imagined", expected[:3])
            self._log("gripper/imagined", expected[6])
            self._log("hand_miss_mm/told", 1000 * np.linalg.norm(pose[:3] - expected[:3]))
        if self._dreamt is not None:
            self._log("hand_miss_mm/imagined", 1000 * np.linalg.norm(pose[:3] - self._dreamt))
        self._log("steps_to_go", step.steps_to_go)
        self._log("latent_distance", step.distance)
        if step.surprise is not None:
            self._log("surprise/felt", step.surprise)
            self._log("surprise/limit", 1.0)
        if step.decision is None:
            return
        imagined = step.decision.plan.imagined
        self._expected = imagined.poses[0, 0, 0].numpy()
        if self._body is not None:
            with torch.no_grad():
                self._dreamt = self._body(imagined.latents[0, 0, 0])[0].numpy()
        for name in ("perceive", "plan"):
            self._log(f"milliseconds/{name}", step.milliseconds[name])
        terms = step.decision.plan.terms
        self._know(terms)
        for name, value in terms.items():
            self._log(f"energy/{name}", float(value[0]))

    def _know(self, terms: Iterable[str]) -> None:
        for name in terms:
            if name not in self._terms:
                self._look(f"energy/{name}", OTHERS[len(self._terms) % len(OTHERS)], name)
                self._terms.append(name)

    def _look(self, name: str, colour: tuple[int, int, int], *labels: str, width: float = 2.0) -> None:
        many = len(labels)
        line = rr.SeriesLines(colors=[colour] * many, names=labels, widths=[width] * many)
        self._recording.log(f"plots/{name}", line, static=True)

    def _log(self, name: str, value: Any) -> None:
        self._rows.add(f"plots/{name}", scalars, np.atleast_1d(np.asarray(value, np.float64)))
