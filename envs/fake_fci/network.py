"""Sockets of the fake controller, with the faults that a network has: lost, late, silent, cut."""

from __future__ import annotations

import heapq
import itertools
import random
import socket
import struct
import time


class FaultyUdp:
    """The state and command channel.  Faults act on both directions, from a seed."""

    def __init__(self, host: str, seed: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self._random = random.Random(seed)
        self._late: list[tuple[float, int, bytes, tuple[str, int]]] = []
        self._ticket = itertools.count()
        self.loss = 0.0
        self.late = 0.0
        self.late_s = 0.0
        self.silent = False

    def set_faults(self, *, loss: float = 0.0, late: float = 0.0, late_ms: float = 0.0) -> None:
        for name, value in (("loss", loss), ("late", late)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is a share of the packets, 0 to 1; got {value}")
        self.loss, self.late, self.late_s = loss, late, late_ms / 1000

    def send(self, packet: bytes, to: tuple[str, int]) -> None:
        if self.silent or self._random.random() < self.loss:
            return
        if self._random.random() < self.late:
            due = time.monotonic() + self._random.random() * self.late_s
            heapq.heappush(self._late, (due, next(self._ticket), packet, to))
        else:
            self._socket.sendto(packet, to)

    def flush(self) -> None:
        """Send what was held back and is due."""
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, packet, to = heapq.heappop(self._late)
            if not self.silent:
                self._socket.sendto(packet, to)

    def receive(self, size: int) -> bytes | None:
        """The next command waiting, or None."""
        while True:
            try:
                packet = self._socket.recv(4096)
            except (BlockingIOError, ConnectionRefusedError):
                return None
            if len(packet) == size and not self.silent and self._random.random() >= self.loss:
                return packet

    def wait(self, seconds: float) -> None:
        """Sleep until a command comes, at most `seconds`."""
        self._socket.settimeout(max(seconds, 1e-5))
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (TimeoutError, ConnectionRefusedError):
            pass
        finally:
            self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()


class Requests:
    """A TCP port that serves one client at a time: framed requests in, replies out."""

    def __init__(self, host: str, port: int, header: struct.Struct) -> None:
        self._listener = socket.create_server((host, port))
        self._listener.setblocking(False)
        self._header = header
        self._client: socket.socket | None = None
        self._buffer = b""
        self.peer = ""
        self.silent = False

    @property
    def connected(self) -> bool:
        return self._client is not None

    def accept(self) -> bool:
        """Take a waiting client; a second one is turned away.  True when a new one came."""
        try:
            client, address = self._listener.accept()
        except BlockingIOError:
            return False
        if self._client is not None:
            client.close()
            return False
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client, self.peer, self._buffer = client, address[0], b""
        return True

    def receive(self) -> list[tuple[int, int, bytes]] | None:
        """Complete requests (command, id, payload); None when the client has gone."""
        if self._client is None or self.silent:
            return []
        try:
            data = self._client.recv(65536)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"":
            self.drop()
            return None
        self._buffer += data or b""
        requests = []
        while len(self._buffer) >= self._header.size:
            command, identity, size = self._header.unpack_from(self._buffer)
            if len(self._buffer) < max(size, self._header.size):
                break
            requests.append((command, identity, self._buffer[self._header.size : size]))
            self._buffer = self._buffer[max(size, self._header.size) :]
        return requests

    def reply(self, command: int, identity: int, payload: bytes) -> None:
        if self._client is None or self.silent:
            return
        message = self._header.pack(command, identity, self._header.size + len(payload)) + payload
        try:
            self._client.setblocking(True)
            self._client.sendall(message)
            self._client.setblocking(False)
        except OSError:
            self.drop()

    def drop(self, *, abruptly: bool = False) -> None:
        """Close the connection; abruptly: with a reset, as when the other side has crashed."""
        if self._client is not None:
            if abruptly:
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._client.close()
            self._client = None

    def close(self) -> None:
        self.drop()
        self._listener.close()
