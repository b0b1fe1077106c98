"""What can go wrong in training, each told in one sentence that says what was kept and what to do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from tensordict import TensorDict
from torch import Tensor

from world_model.train import state


class TrainingStopped(RuntimeError):
    """Training cannot go on; the message says why, what was kept and what to do."""


@contextmanager
def interrupts(say: Callable[[str], None]) -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM so that a step is finished and saved first; a second one is not waited for."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # whoever is keeps the signals
        yield caught
        return

    def note(number: int, _frame: object) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt
        say("stopping: this step is finished and saved first (Ctrl-C again to stop at once)")

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    watchdog = signal.set_wakeup_fd(-1)  # the command line's ends the process before a large model is saved
    try:
        yield caught
    finally:
        signal.set_wakeup_fd(watchdog)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def writing(out: Path, step: int) -> Iterator[None]:
    """Turn a full disk into a sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainingStopped(
            f"step {step} could not be written to {out}: {error}. The last whole checkpoint is "
            f"{state.follow(out, 'last')}; free some space, then go on with resume=last"
        ) from error


@contextmanager
def reading(out: Path, step: int) -> Iterator[None]:
    """Turn data that went away into a sentence."""
    try:
        yield
    except OSError as error:
        raise TrainingStopped(
            f"the data could not be read at step {step}: {error}. The last checkpoint is "
            f"{state.follow(out, 'last')}; bring the data back, then go on with resume=last"
        ) from error


def keep_broken(
    out: Path, clip: TensorDict, step: int, loss: float, norm: float, rank: int
) -> TrainingStopped:
    """Write the batch that broke a step and say where it is."""
    kept = out / f"broken-batch-{step:06d}-rank{rank}.safetensors"
    flat = clip.flatten_keys(".")
    state.save_tensors(kept, {str(name): value for name, value in flat.items() if isinstance(value, Tensor)})
    return TrainingStopped(
        f"step {step}: the loss is {loss}, the gradient's norm {norm}; stopped before it touched the weights. "
        f"The batch is in {kept}, the last good step in {state.follow(out, 'last')}; "
        "look at the batch, or lower the learning rate, then go on with resume=last"
    )
