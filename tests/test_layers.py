"""Decisions that a reader of the code may rely on, held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("agent", "configs", "data", "envs", "planners", "world_model")
# Imports run downward: a room may import itself and these.
MAY_IMPORT = {
    "configs": (),
    "data": (),
    "envs": ("data",),
    "world_model": ("data",),
    "planners": ("data",),
    "agent": ("data", "envs", "world_model", "planners", "configs"),
}
AGENT_ONLY = {"hydra", "omegaconf", "rerun"}
# Readers that break between versions, need system libraries, or drag in half the world; see docs/architecture.md.
NOBODY = {"torchvision", "torchaudio", "torchcodec", "decord", "lerobot", "tensorflow", "tensorflow_datasets"}
MAX_LINES = 350
LONGER: dict[str, str] = {}  # path -> why one file is better than two


def python_files(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((HOUSE / room).rglob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every absolute import, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]


def found(rooms: tuple[str, ...], unwanted: set[str]) -> list[str]:
    return [
        f"{path.relative_to(HOUSE)}:{line} imports {name}"
        for path in python_files(*rooms)
        for line, name in imports_of(path)
        if name in unwanted
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downward(room: str) -> None:
    above = set(ROOMS) - {room, *MAY_IMPORT[room]}
    assert found((room,), above | {"tests", "benchmarks"}) == []


def test_relative_imports_stay_in_their_room() -> None:
    wrong = []
    for path in python_files(*ROOMS):
        depth = len(path.relative_to(HOUSE).parts) - 1
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level > depth:
                wrong.append(f"{path.relative_to(HOUSE)}:{node.lineno}")
    assert wrong == []


def test_only_the_agent_knows_hydra_and_rerun() -> None:
    assert found(tuple(r for r in ROOMS if r != "agent"), AGENT_ONLY) == []


def test_nobody_imports_the_fragile_readers() -> None:
    assert found(ROOMS, NOBODY) == []


def test_no_file_is_longer_than_a_sitting() -> None:
    lengths = {
        str(p.relative_to(HOUSE)): len(p.read_text(encoding="utf-8").splitlines())
        for p in python_files(*ROOMS, "tests", "benchmarks")
    }
    assert {p: n for p, n in lengths.items() if n > MAX_LINES and p not in LONGER} == {}
    assert [p for p in LONGER if lengths.get(p, 0) <= MAX_LINES] == [], "a reason that is no longer needed"


def test_modules_of_the_command_line_import_nothing_heavy() -> None:
    """`forearm --help` answers at once because torch, mujoco and Hydra wait until a command runs."""
    code = (
        "import sys, pkgutil, importlib, agent.cli.main, agent.cli.help, agent.cli.complete, agent.cli.commands as c\n"
        "for m in pkgutil.iter_modules(c.__path__): importlib.import_module(f'agent.cli.commands.{m.name}')\n"
        "heavy = {'torch', 'mujoco', 'pybullet', 'rerun', 'hydra', 'matplotlib', 'av', 'h5py', 'pyarrow', 'gymnasium'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_a_room_sets_nothing_up() -> None:
    """No environment variables, no logging, no seeds at import (the command line and conftest do that)."""
    code = (
        "import os, logging, importlib\n"
        "before = dict(os.environ)\n"
        f"for room in {ROOMS!r}: importlib.import_module(room)\n"
        "assert dict(os.environ) == before\n"
        "assert logging.getLogger().handlers == []"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def sets_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return any(
            isinstance(t, ast.Subscript) and ast.unparse(t.value) == "os.environ" for t in node.targets
        )
    calls = ("os.environ.setdefault", "os.environ.update", "os.putenv")
    return isinstance(node, ast.Call) and ast.unparse(node.func) in calls


def test_the_environment_is_set_only_where_a_process_begins() -> None:
    edges = {"agent/cli/main.py", "agent/probes.py", "agent/evaluate.py"}  # a process or a worker
    wrong = [
        f"{path.relative_to(HOUSE)}:{getattr(node, 'lineno', 0)}"
        for path in python_files(*ROOMS)
        if str(path.relative_to(HOUSE)) not in edges
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if sets_environment(node)
    ]
    assert wrong == []


def test_the_commands_are_these() -> None:
    """Names that people have typed into scripts; a change here is a change of the interface."""
    from agent.cli.help import CHAPTERS
    from agent.cli.schemas import COMMANDS, RUN_KEYS

    names = "calibrate collect convert demo doctor evaluate goal imagine inspect plan pretrain train"
    assert sorted(COMMANDS) == names.split()
    assert sorted(n for chapter in CHAPTERS.values() for n in chapter) == names.split()
    assert sorted(RUN_KEYS) == ["name", "out", "overwrite", "resume"]


def test_every_room_is_typed() -> None:
    assert [r for r in ROOMS if not (HOUSE / r / "py.typed").exists()] == []
