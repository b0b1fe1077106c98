"""The operator's stop by itself, without an arm."""

from __future__ import annotations

import os
import pty
import subprocess
import sys


def test_a_key_in_a_terminal_stops() -> None:
    code = (
        "import time; from envs.franka.stop import OperatorStop; s = OperatorStop(keys=True); "
        "s.on_press(lambda: print('HELD', flush=True)); print('READY', flush=True); time.sleep(3)"
    )
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=child, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "READY"
    os.write(parent, b"x")  # one key, no Enter
    assert process.stdout.readline().strip() == "HELD"
    process.kill()
    process.wait()
    os.close(parent)
    os.close(child)


def test_a_terminal_that_goes_away_stops() -> None:
    """Whoever has lost sight of the run cannot press a key any more; and nobody waits busily for one."""
    code = (
        "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from envs.franka.stop import OperatorStop; s = OperatorStop(keys=True)\n"
        "print('READY', flush=True); deadline = time.monotonic() + 30\n"
        "while not s.pressed and time.monotonic() < deadline: time.sleep(0.02)\n"
        "time.sleep(0.3); used = time.process_time(); time.sleep(0.5)\n"
        "print(s._reason, time.process_time() - used < 0.2, flush=True)"
    )
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=child, stdout=subprocess.PIPE, text=True)
    os.close(child)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "READY"
    os.close(parent)
    assert process.stdout.readline().strip() == "the terminal is gone True"
    assert process.wait() == 0
