"""Opens files that nobody vouches for in a child process: one that crashes or hangs a library takes the child only.

Damaged HDF5 files do crash or hang their library, about every tenth one, so a death must be cheap: the child that
has imported everything opens nothing, and forks another that answers questions (`data.survey.answer`) until it dies.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.checks import Damaged

LIMIT_S = 5.0
_START_S = 60.0  # of work: importing takes a few, and many more of the clock on a busy machine
_PATIENCE = 12  # times the limit, if little of it was spent working
_IDLE_S = 60.0  # a child that is asked nothing for so long goes away
_MEMORY_BYTES = 16 << 30  # address space: a damaged header may ask for terabytes
_HEAD = struct.Struct("<Q")
_STATUS = struct.Struct("<i")
_TURNS = (
    "examine",
)  # questions about poses: torch, which listing does without, is imported before the first
_MORE = 77  # exit status of a worker that wants the next one to find torch imported
_CODE = "import sys; sys.path[:0] = {path!r}; from data.sandbox import serve; serve({status})"


class _Left(RuntimeError):
    """The child is not there; this is nobody's fault, unless it happens twice."""


class Sandbox:
    """A child that opens files."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.deaths = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._status = -1  # where the child tells of deaths
        self._turns = False  # whether the child has imported torch
        self._asked = 0  # questions, whose numbers the answers carry
        self._lock = threading.Lock()

    def ask(self, *question: Any, file: Path | str, limit_s: float | None = None) -> Any:
        """The answer of `data.survey.answer(*question)`, or `Damaged` if it crashed or took too long over it."""
        limit_s = limit_s or self.limit_s
        with self._lock:
            try:
                kind, answer = self._answer(question, file, limit_s)
            except _Left:  # it had been asked nothing for long, and was on its way out
                kind, answer = self._answer(question, file, limit_s, again=True)
        if kind == "error":
            raise answer
        return answer

    def _answer(
        self, question: tuple[Any, ...], file: Path | str, limit_s: float, again: bool = False
    ) -> tuple[str, Any]:
        child = self._child if self._child is not None and self._child.poll() is None else self._start()
        if question[0] in _TURNS and not self._turns:
            _send(_descriptor(child.stdin), None)
            self._started()
            self._turns = True
        answers = _descriptor(child.stdout)
        while select.select([self._status], [], [], 0)[0] and os.read(self._status, _STATUS.size):
            pass  # somebody killed it while it had nothing to do
        self._asked += 1
        _send(_descriptor(child.stdin), (self._asked, question))
        try:
            while True:
                self._wait(answers, limit_s)
                number, *answer = _receive(answers, _PATIENCE * limit_s, stop=self._status)
                if number == self._asked:  # not what the next one makes of a question that one died before
                    return answer[0], answer[1]
        except TimeoutError:
            self._bury(answers, kill=True)
            raise Damaged(
                "takes too long",
                file=file,
                value=f"more than {limit_s:g} s",
                remedy="The file makes its library hang: copy it again from the original, or delete it.",
            ) from None
        except EOFError:
            code = self._bury(answers, kill=False)
            if code == 0 and not again:
                self.deaths -= 1
                raise _Left from None
            raise Damaged(
                "crashes its reader",
                file=file,
                value=f"signal {-code}" if code < 0 else f"exit status {code}",
                remedy="The file kills its library: copy it again from the original, or delete it.",
            ) from None

    def _wait(self, answers: int, limit_s: float, starting: bool = False) -> None:
        """Until there is an answer or a death; TimeoutError after `limit_s` of work, or much longer without any.

        Work is counted in time of the processor: on a busy machine a sound file must not look like one that hangs.
        """
        begun, before = time.monotonic(), self._worked_s(starting)
        while not select.select([answers, self._status], [], [], limit_s / 4)[0]:
            waited = time.monotonic() - begun
            worked = self._worked_s(starting)
            known = before is not None and worked is not None
            if waited > _PATIENCE * limit_s or (worked - before if known else waited) >= limit_s:  # type: ignore[operator]
                raise TimeoutError

    def _worked_s(self, starting: bool = False) -> float | None:
        """Processor time of the one that answers, or of the one that starts, where the system tells."""
        try:
            pid = self._child.pid if self._child is not None else 0
            forked = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            worker = pid if starting else forked[0]
            fields = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return None

    def _bury(self, answers: int, *, kill: bool) -> int:
        """After a death: what it died of, and nothing of its last words left in the pipe."""
        self.deaths += 1
        child = self._child
        assert child is not None
        try:
            if kill:
                child.send_signal(signal.SIGUSR1)
            code = _STATUS.unpack(_read(self._status, _STATUS.size, time.monotonic() + 10))[0]
        except (TimeoutError, EOFError):  # the one that forks is gone too
            self._stop()
            return child.returncode or 0
        while select.select([answers], [], [], 0)[0]:
            if not os.read(answers, 1 << 20):
                break
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        self._stop()
        self._status, status = os.pipe()
        self._child = child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE.format(path=[str(Path(__file__).parents[1])], status=status)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the libraries complain about every damaged file
            pass_fds=(status,),
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        os.close(status)
        self._turns = False
        self._started()
        return child

    def _started(self) -> None:
        """Wait until the child has imported what it needs."""
        assert self._child is not None
        answers = _descriptor(self._child.stdout)
        try:
            self._wait(answers, _START_S, starting=True)
            _receive(answers, _START_S, stop=self._status)
        except (TimeoutError, EOFError) as error:
            self._stop()
            raise _Left(
                f"the child process that opens files did not start ({type(error).__name__}); "
                f"try: {sys.executable} -c 'import data.survey, data.poses'"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        child.terminate()  # it takes its own child along
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        os.close(self._status)

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


def _descriptor(pipe: Any) -> int:
    return pipe.fileno()


def _send(pipe: int, value: Any) -> None:
    content = pickle.dumps(value)
    content = _HEAD.pack(len(content)) + content
    try:
        while content:
            content = content[os.write(pipe, content) :]
    except BrokenPipeError:
        return  # the answer will not come, which `_receive` says


def _read(pipe: int, size: int, until: float, stop: int | None = None) -> bytes:
    """Exactly `size` bytes; EOFError if the pipe ends or something is said on `stop`."""
    found = b""
    while len(found) < size:
        watched = [pipe] if stop is None else [pipe, stop]
        ready, _, _ = select.select(watched, [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise TimeoutError
        if pipe not in ready:
            raise EOFError
        part = os.read(pipe, min(size - len(found), 1 << 20))
        if not part:
            raise EOFError
        found += part
    return found


def _receive(pipe: int, limit_s: float, stop: int | None = None) -> Any:
    until = time.monotonic() + limit_s
    size = _HEAD.unpack(_read(pipe, _HEAD.size, until, stop))[0]
    return pickle.loads(_read(pipe, size, until, stop))


def serve(status: int) -> None:
    """What the child does: fork one that answers, tell when it dies, fork the next."""
    from data.survey import answer

    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # a library that prints must not write into the answers
    worker = 0

    def kill_worker(number: int, _: object) -> None:
        if worker:
            os.kill(worker, signal.SIGKILL)
        if number == signal.SIGTERM:
            os._exit(0)

    signal.signal(signal.SIGUSR1, kill_worker)
    signal.signal(signal.SIGTERM, kill_worker)
    news = True
    while True:
        worker = os.fork()
        if worker == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                if news:
                    _send(answers, ("ready", None))
                _work(requests, answers, answer)
            except BaseException:  # a mistake of ours, or of a library outside what `answer` guards
                os._exit(1)
            os._exit(0)
        _, code = os.waitpid(worker, 0)
        worker = 0
        if code == 0:
            return
        news = os.waitstatus_to_exitcode(code) == _MORE
        if news:
            import data.poses  # noqa: F401

            continue
        os.write(status, _STATUS.pack(os.waitstatus_to_exitcode(code)))


def _work(requests: int, answers: int, answer: Callable[..., Any]) -> None:
    """Answer until the parent goes away or asks nothing more."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > _MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    while True:
        try:
            question = _receive(requests, _IDLE_S)
        except (TimeoutError, EOFError):
            return
        if question is None:
            os._exit(_MORE)
        number, about = question
        try:
            reply: tuple[int, str, Any] = (number, "answer", answer(*about))
        except Damaged as damage:
            reply = (number, "error", damage)
        _send(answers, reply)
