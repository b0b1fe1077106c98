"""Opens files that nobody vouches for in a child process: one that crashes or hangs a library takes the child only.

The child answers what `data.survey.answer` can, one question at a time, and is started again when it dies.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from data.checks import Damaged

LIMIT_S = 5.0
_START_S = 120.0  # importing takes seconds on a busy machine
_IDLE_S = 60.0  # a child that is asked nothing for so long goes away
_MEMORY_BYTES = 16 << 30  # address space: a damaged header may ask for terabytes
_HEAD = struct.Struct("<Q")
_CODE = "import sys; sys.path[:0] = {path!r}; from data.sandbox import serve; serve()"


class Sandbox:
    """A child that opens files."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.deaths = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, *question: Any, file: Path | str, limit_s: float | None = None) -> Any:
        """The answer of `data.survey.answer(*question)`, or `Damaged` if the child died or took too long over it."""
        with self._lock:
            child = self._child if self._child is not None and self._child.poll() is None else self._start()
            _send(child.stdin, question)
            limit_s = limit_s or self.limit_s
            try:
                kind, answer = _receive(child.stdout, limit_s)
            except TimeoutError:
                self._stop()
                raise Damaged(
                    "takes too long",
                    file=file,
                    value=f"more than {limit_s:g} s",
                    remedy="The file makes its library hang: copy it again from the original, or delete it.",
                ) from None
            except EOFError:
                code = child.wait()
                self._stop()
                self.deaths += 1
                raise Damaged(
                    "crashes its reader",
                    file=file,
                    value=f"signal {-code}" if code < 0 else f"exit status {code}",
                    remedy="The file kills its library: copy it again from the original, or delete it.",
                ) from None
        if kind == "error":
            raise answer
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        self._stop()
        path = [str(Path(__file__).parents[1])]
        self._child = child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE.format(path=path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the libraries complain about every damaged file
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            _receive(child.stdout, _START_S)
        except (TimeoutError, EOFError) as error:
            self._stop()
            raise RuntimeError(
                f"the child process that checks files did not start ({type(error).__name__}); "
                f"try: {sys.executable} -c 'import data.survey'"
            ) from error
        return child

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_shared: tuple[int, Sandbox] | None = None


def shared() -> Sandbox:
    """The sandbox of this process; its child starts when first asked and leaves when idle."""
    global _shared
    if _shared is None or _shared[0] != os.getpid():  # a forked process must not talk to its parent's child
        _shared = (os.getpid(), Sandbox())
        atexit.register(_shared[1].close)
    return _shared[1]


def _send(pipe: IO[bytes] | None, value: Any) -> None:
    assert pipe is not None
    content = pickle.dumps(value)
    try:
        pipe.write(_HEAD.pack(len(content)) + content)
        pipe.flush()
    except BrokenPipeError:
        return  # the answer will not come, which `_receive` says


def _receive(pipe: IO[bytes] | None, limit_s: float) -> Any:
    assert pipe is not None
    until = time.monotonic() + limit_s

    def read(size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = os.read(pipe.fileno(), min(size - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return parts

    return pickle.loads(read(_HEAD.unpack(read(_HEAD.size))[0]))


def serve() -> None:
    """What the child does: answer until its parent goes away, or asks nothing more."""
    import resource

    from data.survey import answer

    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not write into the answers
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > _MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _send(answers, ("ready", None))
    while True:
        try:
            question = _receive(requests, _IDLE_S)
        except (TimeoutError, EOFError):
            return
        try:
            reply: tuple[str, Any] = ("answer", answer(*question))
        except Damaged as damage:
            reply = ("error", damage)
        _send(answers, reply)
