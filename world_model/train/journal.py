"""How a run tells what it is doing: metrics.jsonl, TensorBoard where installed, one line for a person."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from world_model.train.state import write_text


class Journal:
    """Writes the figures of a run's steps; a resumed run forgets the lines after the step it resumes from."""

    def __init__(
        self,
        out: Path,
        *,
        first_step: int,
        steps: int,
        say: Callable[[str], None],
        line_every_s: float = 15.0,
    ) -> None:
        self.steps, self.say, self.line_every_s = steps, say, line_every_s
        self.terminal = say is print and sys.stdout.isatty()
        path = out / "metrics.jsonl"
        if path.is_file():
            kept = (
                line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) < first_step
            )
            write_text(path, "".join(line + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")
        self.board = _tensorboard(out, first_step)
        self.started = self.spoken = time.perf_counter()
        self.first_step = first_step
        self.waited_s = self.worked_s = 0.0

    def step(self, step: int, figures: Mapping[str, float], *, waited_s: float, took_s: float) -> None:
        """Note the step `step` (counted from 0): `waited_s` of its `took_s` went to waiting for data."""
        self.waited_s += waited_s
        self.worked_s += took_s
        self._write(step, {**figures, "waited_s": round(waited_s, 5), "took_s": round(took_s, 5)})
        now = time.perf_counter()
        if now - self.spoken >= (0.25 if self.terminal else self.line_every_s) or step + 1 == self.steps:
            self.spoken = now
            self._speak(step, figures)

    def health(self, step: int, figures: Mapping[str, float], warnings: Iterable[str]) -> None:
        """Note figures of the representation, and say in words what is wrong with them."""
        self._write(step, {f"health/{name}": value for name, value in figures.items()})
        for warning in warnings:
            self._print(f"step {step + 1}: warning: {warning}")

    def close(self) -> None:
        if self.terminal:
            print()
        self.file.close()
        if self.board is not None:
            self.board.close()

    def _write(self, step: int, figures: Mapping[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **figures}) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(name, value, step)

    def _speak(self, step: int, figures: Mapping[str, float]) -> None:
        rate = (step + 1 - self.first_step) / max(time.perf_counter() - self.started, 1e-9)
        wait = self.waited_s / max(self.worked_s, 1e-9)
        parts = "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "loss")
        line = (
            f"step {step + 1}/{self.steps}  loss {figures['loss']:.4f}  {rate:.2f} steps/s  "
            f"data wait {wait:.0%}  ETA {_clock((self.steps - step - 1) / rate)}  {parts}"
        )
        if self.terminal:
            print(f"\r\x1b[2K{line[:200]}", end="", flush=True)
        else:
            self.say(line)

    def _print(self, text: str) -> None:
        if self.terminal:
            print("\r\x1b[2K", end="")
        self.say(text)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # the last line of a killed process may be cut short
        return float("inf")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _tensorboard(out: Path, first_step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=first_step)
