"""The fake controller's clock and its back door: `python -m envs.fake_fci.server --version 10 --host 127.0.0.2`.

The back door takes one JSON object a line: {"do": "reflex", "error": "joint_reflex"}, and so on (`Server.obey`), at
standard input, whose end is the server's end, and at port 1339.  `--alone`: the port only, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from ..scenes import SceneConfig, draw_scene
from .doors import Door, LoopbackDoor, StandardDoor
from .gripper import Gripper
from .guiding import Guide
from .physics import STEP_S, Physics
from .robot import Robot
from .wire import DIALECTS

RELAXED_S = 0.02  # how long the robot's time may stand still for a late command
NOBODY_S = 0.005  # between the milliseconds while no client is there: other processes need the processor
_TRACE = 120_000  # milliseconds kept


class Server:
    """Robot and gripper on one clock.  Relaxed: robot time slows down on a machine without real time."""

    def __init__(
        self,
        *,
        host: str,
        version: int,
        seed: int = 0,
        split: str = "train",
        relaxed_s: float = RELAXED_S,
        model_library: Path | None = None,
    ) -> None:
        self.seed, self.split = seed, split
        self.scene = draw_scene(SceneConfig(), seed, split)
        self.physics = Physics(self.scene)
        library = model_library.read_bytes() if model_library else None
        self.robot = Robot(host, DIALECTS[version], self.physics, model_library=library)
        self.gripper = Gripper(host, self.physics)
        self.guide = Guide(self.robot, self.physics)
        self.relaxed_s = self._relaxed_s = relaxed_s
        self.trace: deque[tuple[float, ...]] = deque(maxlen=_TRACE)
        self._due = time.monotonic()
        self._started = self._due
        self.open = True

    def cycle(self) -> None:
        """One robot millisecond."""
        self.robot.serve()
        self.robot.send()
        patience = time.monotonic() + max(self.relaxed_s, 0.0)
        self.robot.receive(lambda: self._wait_for_command(max(patience, self._due + STEP_S)))
        self.gripper.cycle()
        self.guide.cycle()
        self.physics.step()
        self.robot.watch()
        tool = self.physics.tool()[:3, 3]
        self.trace.append((time.monotonic(), self.robot.number, *tool, float(self.robot.moving)))
        self._due += STEP_S
        ahead = self._due - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        elif ahead < -self.relaxed_s:
            self._due = time.monotonic()

    def _wait_for_command(self, until: float) -> bool:
        left = until - time.monotonic()
        if left <= 0:
            return False
        self.robot.udp.flush()
        self.robot.udp.wait(min(left, 0.001))
        return True

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order of the back door."""
        do = order.pop("do", None)
        answers = {
            "state": self._state,
            "trace": self._trace,
            "reflex": lambda error: self.robot.reflex(error),
            "user_stop": lambda on: self.robot.user_stop(on),
            "network": self.robot.udp.set_faults,
            "cut": self._cut,
            "silence": self._silence,
            "gripper": lambda refuses: setattr(self.gripper, "refuses", refuses),
            "guide": self.guide.begin,
            "push": lambda force: self.physics.push(np.array(force)),
            "relax": lambda seconds: setattr(self, "relaxed_s", seconds),
            "objects": self._objects,
            "save": lambda: {"state": self.physics.save().tolist()},
            "reset": self._reset,
            "quit": lambda: setattr(self, "open", False),
        }
        if do not in answers:
            raise ValueError(f"no order {do!r}; there are {', '.join(answers)}")
        return answers[do](**order) or {}

    def _state(self) -> dict[str, Any]:
        robot, physics = self.robot, self.physics
        return {
            "version": robot.dialect.version,
            "seed": self.seed,
            "split": self.split,
            "mode": robot.mode,
            "moving": robot.moving,
            "guided": self.guide.guiding,
            "generator": robot.generator,
            "controller": robot.controller,
            "errors": sorted(robot.errors),
            "connected": robot.requests.connected,
            "q": physics.q.tolist(),
            "speed": float(np.abs(physics.dq).max()),
            "tool_speed": self._tool_speed(),
            "tool": physics.tool()[:3, 3].tolist(),
            "frame": physics.tool().tolist(),
            "width": physics.width,
            "is_grasped": self.gripper.is_grasped,
            "grasps": self.gripper.grasps,
            "force": physics.felt_force.tolist(),
            "milliseconds": robot.number,
            "lost": robot.lost,
            "asked": robot.asked,
            "rate_hz": robot.number / (time.monotonic() - self._started),
            "monotonic_s": time.monotonic(),
        }

    def _tool_speed(self) -> float:
        """m/s over the last 20 ms."""
        if len(self.trace) < 21:
            return 0.0
        return float(np.linalg.norm(np.subtract(self.trace[-1][2:5], self.trace[-21][2:5]))) / 0.02

    def _trace(self, since: float = 0.0, every: int = 1) -> dict[str, Any]:
        return {"trace": [row for row in self.trace if row[0] >= since][::every]}

    def _objects(self) -> dict[str, Any]:
        """Where the things on the table are, [3] m each."""
        data = self.physics.data
        return {"objects": {o.name: data.body(o.name).xpos.tolist() for o in self.scene.objects}}

    def _reset(self) -> None:
        """As after switching on: at the start, no errors, no faults, no clients."""
        self._silence(False)
        self._cut()
        self.robot.udp.set_faults()
        self.robot.forget()
        self.gripper.forget()
        self.physics.push(np.zeros(3))
        self.physics.place()
        self.relaxed_s = self._relaxed_s
        self.trace.clear()

    def _cut(self) -> None:
        self.robot.cut()
        self.gripper.cut()

    def _silence(self, on: bool) -> None:
        self.robot.silence(on)
        self.gripper.silence(on)

    def close(self) -> None:
        self.robot.close()
        self.gripper.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to serve on")
    parser.add_argument("--version", type=int, default=10, choices=sorted(DIALECTS))
    parser.add_argument("--seed", type=int, default=0, help="seed of the scene on the table")
    parser.add_argument("--split", default="train")
    parser.add_argument("--relaxed-s", type=float, default=RELAXED_S)
    parser.add_argument(
        "--model-library", type=Path, default=None, help="compiled model that version 5 serves"
    )
    parser.add_argument("--alone", action="store_true", help="do not end with standard input, but at Ctrl-C")
    arguments = vars(parser.parse_args())
    alone = arguments.pop("alone")
    server = Server(**arguments)
    doors: list[Door] = [LoopbackDoor(arguments["host"], server.obey)]
    doors += [] if alone else [StandardDoor(server.obey)]
    print(json.dumps({"ready": True, "host": arguments["host"]}), flush=True)
    with contextlib.closing(server), contextlib.closing(doors[0]), contextlib.suppress(KeyboardInterrupt):
        while server.open and not doors[-1].ended:
            server.cycle()
            if not server.robot.requests.connected:
                time.sleep(NOBODY_S)
            if server.robot.number % 5 == 0 or not server.robot.requests.connected:
                for door in doors:
                    door.serve()


if __name__ == "__main__":
    sys.exit(main())
