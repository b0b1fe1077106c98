"""The fake controller's back doors: one JSON order a line in, one answer a line out.

Whoever started the server uses its standard input and output; anybody else on this machine its third port.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from ..arm import ArmError

DOOR_PORT = 1339
Obey = Callable[[dict[str, Any]], dict[str, Any]]


class Door(Protocol):
    """A way in; `ended` when it is the server's time to go."""

    ended: bool

    def serve(self) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """Orders of one visitor, answered as they become complete."""

    def __init__(self, obey: Obey) -> None:
        self._obey, self._buffer = obey, bytearray()

    def feed(self, data: bytes) -> bytes:
        self._buffer.extend(data)
        answers = []
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            try:
                answer = {"ok": True, **self._obey(json.loads(line))}
            except (ValueError, TypeError, KeyError) as error:
                answer = {"ok": False, "error": str(error)}
            answers.append(json.dumps(answer).encode() + b"\n")
        return b"".join(answers)


class StandardDoor:
    """Standard input and output; `ended` when the other side has gone."""

    def __init__(self, obey: Obey) -> None:
        self._lines, self.ended = _Lines(obey), False
        os.set_blocking(0, False)

    def serve(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(0, 65536)
            self.ended = not data
            print(self._lines.feed(data).decode(), end="", flush=True)

    def close(self) -> None:
        pass


class LoopbackDoor:
    """A port on the controller's own address, for cameras that look at its table and for the curious."""

    def __init__(self, host: str, obey: Obey) -> None:
        self._obey, self.ended = obey, False
        self._listener = socket.create_server((host, DOOR_PORT))
        self._listener.setblocking(False)
        self._visitors: dict[socket.socket, _Lines] = {}

    def serve(self) -> None:
        with contextlib.suppress(BlockingIOError):
            visitor, _ = self._listener.accept()
            visitor.settimeout(0)
            self._visitors[visitor] = _Lines(self._obey)
        for visitor, lines in list(self._visitors.items()):
            try:
                data = visitor.recv(65536)
                if not data:
                    raise ConnectionError
                if answer := lines.feed(data):
                    visitor.settimeout(1.0)
                    visitor.sendall(answer)
                    visitor.settimeout(0)
            except BlockingIOError:
                continue
            except OSError:
                visitor.close()
                del self._visitors[visitor]

    def close(self) -> None:
        for visitor in self._visitors:
            visitor.close()
        self._listener.close()


class Visitor:
    """The other end of a `LoopbackDoor`."""

    def __init__(self, host: str) -> None:
        try:
            self._line = socket.create_connection((host, DOOR_PORT), timeout=10)
        except OSError as error:
            raise ArmError(
                f"no fake controller has its door open at {host}:{DOOR_PORT} ({error}); "
                f"start one: python -m envs.fake_fci.server --alone --host {host}"
            ) from error
        self._answers = self._line.makefile("r")

    def do(self, order: str, **arguments: Any) -> dict[str, Any]:
        """Give an order (see `server.Server.obey`) and return the answer."""
        self._line.sendall(json.dumps({"do": order, **arguments}).encode() + b"\n")
        text = self._answers.readline()
        if not text:
            raise ArmError("the fake controller has ended; its output says why")
        answer = json.loads(text)
        if not answer.pop("ok"):
            raise ValueError(answer["error"])
        return answer

    def close(self) -> None:
        self._line.close()
