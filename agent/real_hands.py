"""People move a real arm: guiding it by hand or by keyboard, for logs in DROID's layout and for goal pictures.

Guiding needs nothing from us but looking: the arm is opened dry, and is moved with the buttons at its own hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data.types import Observation
from envs.arm import Stopped
from envs.keyboard import HELP, Finished, KeyboardHand, ThrownAway, terminal_keys

from .arms import begin_real, open_arm, require_motion
from .build import load_mind
from .make_goals import Checked, check
from .recording_arm import RecordingArm
from .settings import EnvConfig
from .task import Goal

ReadKey = Callable[[], str]
GUIDE = "Enter begins and ends an episode   x throws it away (before one begins: leaves)"


@contextlib.contextmanager
def keys_of_this_terminal() -> Iterator[ReadKey]:
    """One key at a time; where the input is no terminal, one character of it."""
    if sys.stdin.isatty():
        with terminal_keys() as keys:
            yield keys
    else:
        yield lambda: sys.stdin.read(1)


def guide_to_goal(
    env: EnvConfig, model: str, *, read_key: ReadKey, say: Callable[[str], None] = print, cameras: Any = None
) -> Checked:
    """Wait until a person has put hand and object where they should be and presses Enter; look, and check."""
    mind = load_mind(model)
    arm, _ = open_arm(_dry(env), say=say, keys=False, cameras=cameras)
    try:
        now = arm.reset(options={"stay": True})
        say(
            "lay the object out, guide the hand with the buttons on it, step aside, and press Enter (x leaves)"
        )
        while (key := read_key()) not in ("\r", "\n"):
            if key in ("", "x", "\x03", "\x1b"):
                raise Stopped("no goal was taken")
        seen = arm.observe()
        return check(Goal(frames=seen.frames, pose=seen.pose, name="goal"), now, arm, mind)
    finally:
        arm.close()


def record_guided(
    out: Path,
    env: EnvConfig,
    *,
    episodes: int,
    steps: int,
    task: str,
    read_key: ReadKey,
    say: Callable[[str], None] = print,
    cameras: Any = None,
) -> list[Path]:
    """Log what the arm does while a person guides it; what was commanded is where it was taken."""
    arm, _ = open_arm(_dry(env), say=say, keys=False, cameras=cameras)
    keys: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_pass_on, args=(read_key, keys), daemon=True).start()
    kept: list[Path] = []
    try:
        while len(kept) < episodes:
            say(f"episode {len(kept) + 1} of {episodes}.  {GUIDE}")
            if not _await_enter(keys):
                break
            recorder = RecordingArm(arm, out, task=task, robot=env.robot)
            try:
                good = _follow(recorder, keys, steps)
                path = recorder.finish(success=True, about={"hand": "guided"}) if good else None
            finally:
                recorder.abandon()
            if path is not None:
                kept.append(path)
            say(f"kept: {path}" if path is not None else "thrown away")
    finally:
        arm.close()
    return kept


def record_by_keyboard(
    out: Path,
    env: EnvConfig,
    *,
    episodes: int,
    steps: int,
    task: str,
    read_key: ReadKey,
    say: Callable[[str], None] = print,
    cameras: Any = None,
) -> list[Path]:
    """Drive by keys, one model step a key, and log it."""
    require_motion(env, "driving by keyboard")
    env = dataclasses.replace(env, max_plan_age_s=float("inf"))  # a person looks for as long as it takes
    arm, _ = open_arm(
        env, say=say, keys=False, cameras=cameras
    )  # keys drive here; file and signal still stop
    kept: list[Path] = []
    try:
        while len(kept) < episodes:
            begin_real(arm, env)
            env = dataclasses.replace(env, recover=False)  # once, when a person asked
            recorder, hand = RecordingArm(arm, out, task=task, robot=env.robot), KeyboardHand(read_key)
            say(f"episode {len(kept) + 1} of {episodes}\n{HELP}")
            try:
                good = _drive(recorder, hand, steps, say)
                path = recorder.finish(success=True, about={"hand": "keyboard"}) if good else None
            finally:
                recorder.abandon()
            if path is not None:
                kept.append(path)
                say(f"kept: {path}")
            elif not len(recorder):  # at once, without a move: the person wants to leave
                break
    finally:
        arm.close()
    return kept


def _dry(env: EnvConfig) -> EnvConfig:
    """Whatever was typed: hands on the arm and motors of ours do not mix."""
    return dataclasses.replace(env, dry_run=True, confirm=False)


def _pass_on(read_key: ReadKey, keys: queue.SimpleQueue[str]) -> None:
    while key := read_key():
        keys.put(key)
    keys.put("")


def _await_enter(keys: queue.SimpleQueue[str]) -> bool:
    while (key := keys.get()) not in ("\r", "\n"):
        if key in ("", "x", "\x03", "\x1b"):
            keys.put(key)
            return False
    return True


def _follow(recorder: RecordingArm, keys: queue.SimpleQueue[str], steps: int) -> bool:
    """A row each period until Enter or `steps` rows; False when it is to be thrown away."""
    due, before = time.monotonic(), None
    for _ in range(steps):
        seen = recorder.observe()
        if before is None or seen.time_s > before.time_s:  # the same reading twice is one row
            if before is not None:
                recorder.keep(before, seen.pose)
            before = seen
        due += recorder.period_s
        with contextlib.suppress(queue.Empty):
            key = keys.get(timeout=max(0.0, due - time.monotonic()))
            if key in ("\r", "\n", ""):
                break
            if key in ("x", "\x03", "\x1b"):
                return False
            time.sleep(max(0.0, due - time.monotonic()))
    if before is not None:
        recorder.keep(before, before.pose)
    return True


def _drive(recorder: RecordingArm, hand: KeyboardHand, steps: int, say: Callable[[str], None]) -> bool:
    seen: Observation = recorder.observe()
    for _ in range(steps):
        x, y, z = seen.pose[:3]
        say(
            f"tool {x:.2f} {y:+.2f} {z:.2f} m   closed {seen.pose[6]:.0%}   step {hand.step_m * 100:.0f} cm   "
        )
        try:
            action = hand.act(seen.pose, seen.commanded, {})
        except Finished:
            break
        except ThrownAway:
            return False
        recorder.act(action)
        seen = recorder.observe()
    return len(recorder) > 0
