"""A command of our own behind the real command line: real processes, real Hydra, other furniture."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SITE = """
import sys
here = {here!r}
sys.path[:] = [p for p in sys.path if p != here]
import agent.cli.commands
agent.cli.commands.__path__.insert(0, here + "/commands")
sys.path.insert(0, here)  # so that `configs` is ours
"""

COMMAND = '''
from __future__ import annotations
import os, sys, time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

class Engine(Enum):
    mujoco = "mujoco"
    pybullet = "pybullet"

@dataclass(kw_only=True)
class World:
    """Where."""
    engine: Engine = Engine.mujoco
    """Which physics."""
    period_s: float = 0.2
    """One model step."""

@dataclass(kw_only=True)
class Config:
    """Count episodes."""
    from_: Path
    """Folder to read."""
    episodes: int = 3
    """How many to count."""
    tasks: list[str] = field(default_factory=lambda: ["reach"])
    """Which tasks."""
    cameras: tuple[str, ...] = ("left", "wrist")
    """Which cameras."""
    env: World = field(default_factory=World)
    planner: dict[str, Any] = field(default_factory=dict)
    seed: int | None = 0
    """Of everything."""
    fail: str = ""
    """How to go wrong."""

EXAMPLES = ("forearm train from=logs", "forearm train from=logs episodes=5", "forearm train from=logs env=small")
RESUMES = True

class OwnError(Exception):
    pass
OwnError.__module__ = "envs.arm"

def run(config, run):
    from omegaconf import OmegaConf
    run.say(f"counting {config.episodes} of {config.from_} with {config.planner}")
    run.results["resumed"] = run.resumed
    run.results["figure"] = float("nan")
    assert isinstance(config.cameras, tuple) and isinstance(config.tasks, list)
    if config.fail == "bug":
        raise RuntimeError("a screw is loose")
    if config.fail == "user":
        raise ValueError("there is no camera 'wirst'; there is: wrist")
    if config.fail == "own":
        raise OwnError("the arm is not there")
    if config.fail == "sleep":
        print("sleeping", flush=True)
        for _ in range(300):
            time.sleep(0.1)
    if config.fail == "turned":  # as an extension that is being imported
        print("sleeping", flush=True)
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            raise ImportError("initialization failed")
    if config.fail == "stubborn":  # as a library in C that cannot be interrupted
        print("sleeping", flush=True)
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
    return 0
'''


class Shell:
    """Runs `forearm` as a user would, from a folder of its own."""

    def __init__(self, site: Path, cwd: Path) -> None:
        self.cwd = cwd
        # One thread and no colours: what is tested is the words.
        self.environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "110", "NO_COLOR": "1"}
        self.forearm = str(Path(sys.executable).with_name("forearm"))

    def __call__(self, *words: str, timeout: float = 250) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.forearm, *words],
            capture_output=True, text=True, cwd=self.cwd, env=self.environment, timeout=timeout,
        )  # fmt: skip

    def python(self, code: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-c", code, *words],
            capture_output=True, text=True, cwd=self.cwd, env=self.environment, timeout=250,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.forearm, *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.cwd, env=self.environment,
        )  # fmt: skip


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("site")
    files = {
        "sitecustomize.py": SITE.format(here=str(here)),
        "commands/train.py": COMMAND,
        "configs/__init__.py": "",
        "configs/train.yaml": "defaults:\n  - env: large\n  - planner: cem\nepisodes: 4\n",
        "configs/env/large.yaml": "period_s: 0.25\n",
        "configs/env/small.yaml": "period_s: 0.1\nengine: pybullet\n",
        "configs/planner/cem.yaml": "candidates: 300  # action sequences looked at\n",
        "configs/planner/mppi.yaml": "temperature: 0.5\n",
    }
    for name, text in files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
    return here


@pytest.fixture
def shell(site: Path, tmp_path: Path) -> Shell:
    return Shell(site, tmp_path)


@pytest.fixture
def user(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as it is shipped."""
    empty = tmp_path / "nothing"
    empty.mkdir()
    return Shell(empty, tmp_path)
