"""What can go wrong in training, each told in one sentence that says what was kept and what to do."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from tensordict import TensorDict
from torch import Tensor

from world_model.train import state

STEP_S = 0.7  # that a step has after Ctrl-C, before what it began from is saved in its place


class TrainingStopped(RuntimeError):
    """Training cannot go on; the message says why, what was kept and what to do."""


class Stop:
    """Who asked the run to end, and how it does so in time: after the step, or in the middle of a long one.

    What a step begins from is kept until it changes the weights, so that another thread can save it while a step
    that takes long goes on, in C code that no signal interrupts.  That thread then hands the end to the one who
    listened to signals before (the command line); where nobody did, the step is finished.
    """

    def __init__(self, say: Callable[[str], None], listener: int = -1) -> None:
        self.signals: list[int] = []
        self._say, self._listener = say, listener
        self._rescue: Callable[[], None] | None = None
        self._lock, self._changing = threading.Lock(), False
        self._over = threading.Event()

    def begin(self, rescue: Callable[[], None] | None) -> None:
        """A step begins; `rescue` saves what it begins from."""
        self._rescue = rescue
        self._stand_still()

    def change(self) -> None:
        """From here to the next step the weights belong to who calls this."""
        self._lock.acquire()
        self._changing = True

    def end(self) -> None:
        self._rescue = None
        self._over.set()
        self._stand_still()

    def _stand_still(self) -> None:
        if self._changing:
            self._changing = False
            self._lock.release()

    def wait_for(self, signals: socket.socket) -> None:
        """In a thread: from the first signal on a step has `STEP_S`."""
        with signals:
            if not signals.recv(1):
                return
        self._say("stopping: what is done is saved first (Ctrl-C again to stop at once)")
        if self._over.wait(STEP_S):
            return
        with self._lock:
            if self._rescue is None:
                return
            try:
                self._rescue()
            except Exception as error:
                self._say(f"what the step began from could not be saved: {error}")
            os.write(self._listener, bytes([signal.SIGINT, signal.SIGINT]))
            self._over.wait()  # the weights stay as they were saved until the process ends


@contextmanager
def interrupts(say: Callable[[str], None]) -> Iterator[Stop]:
    """Collect Ctrl-C and SIGTERM so that a step is finished or saved first; a second one is not waited for."""
    if threading.current_thread() is not threading.main_thread():  # whoever is keeps the signals
        yield Stop(say)
        return

    def note(number: int, _frame: object) -> None:
        stop.signals.append(number)
        if len(stop.signals) > 1:
            raise KeyboardInterrupt
        if listener < 0:
            say("stopping: this step is finished and saved first (Ctrl-C again to stop at once)")

    heard, told = socket.socketpair()
    told.setblocking(False)
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    # The command line's own watch would end the process before a large model is saved.
    listener = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    stop = Stop(say, listener)
    if listener >= 0:
        threading.Thread(target=stop.wait_for, args=(heard,), name="stop", daemon=True).start()
    try:
        yield stop
    finally:
        stop.end()
        signal.set_wakeup_fd(listener)
        told.close()
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
