"""Log in DROID's layout whatever an arm sees and is told, whoever drives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.types import Camera, Observation
from data.writers.droid import DroidWriter
from envs.arm import Arm, ArmError, Limits, Outcome


class RecordingArm:
    """An arm that keeps each observation with the pose that was commanded from there; `finish` completes the episode.

    Without `finish` (a crash, an episode thrown away) nothing is left behind.
    """

    def __init__(
        self, arm: Arm, out: Path, *, task: str, lab: str = "LAB", robot: str = "franka", tool: str = "tcp"
    ) -> None:
        if not arm.cameras:
            raise ArmError("a log needs pictures, and this arm has no cameras: env.camera_addresses.NAME=...")
        self._arm, self._out = arm, Path(out)
        self.period_s: float = arm.period_s
        self.limits: Limits = arm.limits
        self._writer = DroidWriter(
            out,
            lab=lab,
            task=task,
            cameras=list(arm.cameras.values()),
            hz=1.0 / arm.period_s,
            robot=robot,
            tool=tool,
        )
        self._seen: Observation | None = None
        self._last_s = -np.inf

    def __len__(self) -> int:
        return len(self._writer)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._arm.cameras

    def observe(self) -> Observation:
        self._seen = self._arm.observe()
        return self._seen

    def act(self, action: np.ndarray, *, blocking: bool = True) -> Outcome:
        seen = self._seen if self._seen is not None else self._arm.observe()
        outcome = self._arm.act(action, blocking=blocking)
        self.keep(seen, outcome.commanded)
        return outcome

    def keep(self, observation: Observation, commanded: np.ndarray) -> None:
        """One row: also for hands that move the arm without telling it.  What was seen already is no new row."""
        if observation.time_s > self._last_s:
            self._writer.add(observation, commanded)
            self._last_s = observation.time_s
        self._seen = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Observation:
        self._seen = self._arm.reset(seed=seed, options=options)
        return self._seen

    def stop(self) -> None:
        self._arm.stop()

    def close(self) -> None:
        self._arm.close()

    def finish(self, *, success: bool, about: Mapping[str, Any] | None = None) -> Path | None:
        """Complete the episode with the last observation; None when nothing was done."""
        if not len(self._writer):
            self._writer.abort()
            return None
        if self._seen is not None:  # where the last step led
            self.keep(self._seen, self._seen.commanded)
        return self._writer.finish(success=success, extra_meta=about)

    def abandon(self) -> None:
        """Throw the episode away."""
        self._writer.abort()
