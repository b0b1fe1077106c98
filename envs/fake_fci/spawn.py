"""A fake controller in a process of its own, on a loopback address of its own."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..arm import ArmError
from .doors import DOOR_PORT
from .wire import GRIPPER_PORT, ROBOT_PORT

_ROOT = Path(__file__).resolve().parents[2]


class FakeFranka:
    """Start with `with FakeFranka(version=10) as robot:` and point a client at `robot.host`."""

    def __init__(
        self,
        *,
        version: int = 10,
        seed: int = 0,
        split: str = "train",
        relaxed_s: float | None = None,
        model_library: Path | None = None,
    ) -> None:
        self.version = version
        self.host = free_loopback_address()
        self.seed, self.split = seed, split
        self._lock = threading.Lock()
        command = [sys.executable, "-m", "envs.fake_fci.server", "--host", self.host]
        command += ["--version", str(version), "--seed", str(seed), "--split", split]
        if relaxed_s is not None:
            command += ["--relaxed-s", str(relaxed_s)]
        if model_library is not None:
            command += ["--model-library", str(model_library)]
        self._process = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C at the agent is not the robot's to obey; its standard input's end is
        )
        self._read()

    def do(self, order: str, **arguments: Any) -> dict[str, Any]:
        """Give an order through the back door (see `server.Server.obey`) and return the answer."""
        assert self._process.stdin is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps({"do": order, **arguments}) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError as error:
                raise ArmError(
                    f"the fake controller on {self.host} has ended; its output says why"
                ) from error
            answer = self._read()
        if not answer.pop("ok"):
            raise ValueError(answer["error"])
        return answer

    def state(self) -> dict[str, Any]:
        return self.do("state")

    def trace(self, since: float = 0.0, every: int = 1) -> np.ndarray:
        """[T, 6]: monotonic seconds, robot milliseconds, tool x y z, moving."""
        return np.array(self.do("trace", since=since, every=every)["trace"]).reshape(-1, 6)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ArmError(f"the fake controller on {self.host} ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> FakeFranka:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def free_loopback_address() -> str:
    """An address in 127.0.0.0/8 whose robot ports are free: clients cannot be told another port."""
    draw = random.SystemRandom()  # others look for an address at the same moment: nobody takes the next one
    for _ in range(100):
        host = f"127.{draw.randrange(1, 255)}.{draw.randrange(256)}.{draw.randrange(1, 255)}"
        probes = []
        try:
            for port in (ROBOT_PORT, GRIPPER_PORT, DOOR_PORT):
                probe = socket.socket()
                probes.append(probe)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
            return host
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise ArmError(
        f"no loopback address has ports {ROBOT_PORT} to {DOOR_PORT} free; end old fake controllers"
    )
