"""The agent's end of the line to a servant process: orders out, the newest reading in, signs of life in between."""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..arm import ArmError, Refused
from .client import Settings

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 30.0
_FINGERS_MOVE_M = 1e-4
log = logging.getLogger(__name__)

EXTRAS = {"franky": "fr3", "pylibfranka": "fr3", "panda": "panda", "droid": "droid"}


class Link:
    """One servant.  `python` is the interpreter that has the client library; None means this one."""

    def __init__(self, client: str, settings: Settings, *, python: str | None = None) -> None:
        if client not in EXTRAS and ":" not in client:
            raise ArmError(
                f"no robot client {client!r}; there are {', '.join(EXTRAS)}, or module:Class of your own"
            )
        self._client, self._settings = client, settings
        ours, theirs = socket.socketpair()
        paths = [str(_ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [python or sys.executable, "-m", "envs.franka.servant", str(theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                [*command, json.dumps(settings.as_dict()), client],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # the keyboard's interrupt is the agent's to handle: it holds, then ends this
            )
        except OSError as error:
            ours.close()
            raise ArmError(
                f"env.python={command[0]} does not start: {error.strerror}; it takes the path of a Python that has "
                f"the {client} client, such as /path/to/venv/bin/python"
            ) from error
        finally:
            theirs.close()
        self._line = ours
        self._lines = ours.makefile("r")
        self._send_lock = threading.Lock()
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self.newest: dict[str, Any] = {}
        self._closed = False
        self._await_ready()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def order(self, do: str, **arguments: Any) -> None:
        """Give an order and wait until it is taken (not until it is done)."""
        identity = next(self._ids)
        self._send({"id": identity, "do": do, **arguments})
        deadline = time.monotonic() + max(1.0, 5 * self._settings.patience_s)
        with self._changed:
            while identity not in self._answers:
                left = deadline - time.monotonic()
                if self._closed or left <= 0 or not self._changed.wait(left):
                    raise ArmError(f"the {self._client} client does not answer {do!r}. {self._last_words()}")
            answer = self._answers.pop(identity)
        if not answer["ok"]:
            raise Refused(answer["error"])

    def wait(self, seconds: float) -> None:
        """Until something new is known, at most this long."""
        with self._changed:
            self._changed.wait(seconds)

    def await_fingers(self, watch: Callable[[], None], *, still_s: float) -> None:
        """Until the fingers are done, which for a hand takes four model steps; looks out by `watch` meanwhile.

        Fingers that move are waited for however long they take; those that stand still without being done, `still_s`.
        """
        width_m, deadline = -1.0, time.monotonic() + still_s
        while self.newest.get("fingers_busy"):
            watch()
            now_m = (self.newest.get("reading") or {}).get("width_m", width_m)
            if abs(now_m - width_m) > _FINGERS_MOVE_M:
                width_m, deadline = now_m, time.monotonic() + still_s
            elif time.monotonic() > deadline:
                return
            self.wait(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None and not self._closed

    def close(self) -> None:
        """Hold, let go of the robot and end the process."""
        if self._closed:
            return
        self._closed = True
        self._line.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._line.close()

    def _await_ready(self) -> None:
        self._line.settimeout(_START_S)
        try:
            text = self._lines.readline()
        except TimeoutError:
            text = ""
        self._line.settimeout(None)
        message: dict[str, Any] = json.loads(text) if text else {"failed": self._silence()}
        if "failed" in message:
            self.close()
            reason = message["failed"]
            if "ModuleNotFoundError" in reason and self._client in EXTRAS:
                extra = EXTRAS[self._client]
                reason += f". Install it: pip install 'forearm[{extra}]', or name a Python that has it: env.python=..."
            raise ArmError(f"the {self._client} client for {self._settings.host} did not start: {reason}")
        self.versions: dict[str, str] = message.get("versions", {})

    def _silence(self) -> str:
        host = self._settings.host
        try:
            code = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return f"no answer within {_START_S:.0f} s. Is {host} the robot's address, is the cable in, is the robot on?"
        return f"its process ended with {code} before it said anything; what it printed stands above"

    def _listen(self) -> None:
        try:
            for text in self._lines:
                message = json.loads(text)
                with self._changed:
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        if message["error"] and message["error"] != self.newest.get("error"):
                            log.error("the robot stopped: %s", message["error"])
                        self.newest = message
                    self._changed.notify_all()
        except (OSError, ValueError):
            pass
        with self._changed:
            self._changed.notify_all()

    def _beat(self) -> None:
        while not self._closed:
            try:
                self._send({"do": "beat"})
            except ArmError:
                return
            time.sleep(self._settings.patience_s / 5)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            with self._send_lock:
                self._line.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise ArmError(
                f"the line to the {self._client} client is closed. {self._last_words()}"
            ) from error

    def _last_words(self) -> str:
        code = self._process.poll()
        ended = "It is still running" if code is None else f"It ended with {code}"
        return f"{ended}; the last it said: {self.newest.get('error') or 'nothing wrong'}"
