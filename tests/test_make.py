"""What `make` does on machines that this one is not: no rendering, no rights, another package index."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent


class Machine:
    """A folder with the Makefile, and a PATH on which programs only write down how they were called."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin, self.calls = root, root / "bin", root / "calls"
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(HOUSE / name, root / name)
        self.bin.mkdir()
        for name in ("sh", "env", "cat", "touch", "tail", "sed", "expand", "make", "nproc", "echo"):
            (self.bin / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        self.program("apt-get", "")

    def program(self, name: str, body: str, folder: Path | None = None) -> None:
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{body}\n')
        path.chmod(0o755)

    def environment(self, *, renders: str) -> None:
        """A .venv whose python fails to render until the condition of the shell holds."""
        self.program(
            "python", f'case "$*" in *rendering*) {renders};; esac', folder=self.root / ".venv" / "bin"
        )

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": str(self.bin), "HOME": str(self.root), **environment}
        return subprocess.run(["make", *words], cwd=self.root, env=clean, capture_output=True, text=True)

    def called(self) -> str:
        return self.calls.read_text() if self.calls.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


PACKAGES = "install --yes --quiet --no-install-recommends libegl1 libopengl0 libgl1-mesa-dri"


def test_without_rights_the_line_to_run_is_printed(machine: Machine) -> None:
    machine.environment(renders="exit 1")
    machine.program("id", "echo 1000")
    machine.program("sudo", "exit 1")
    done = machine.make(".venv/.gl")
    assert done.returncode != 0
    assert f"    sudo apt-get {PACKAGES}\n" in done.stdout
    assert "apt-get " not in machine.called().replace("sudo", "")
    assert not (machine.root / ".venv" / ".gl").exists(), "the next call must look again"


@pytest.mark.parametrize("right", ["root", "sudo"])
def test_with_rights_the_packages_are_installed(machine: Machine, right: str) -> None:
    machine.environment(renders=f"test -e {machine.root}/installed; exit $?")
    machine.program("id", f"echo {0 if right == 'root' else 1000}")
    machine.program("sudo", '[ "$1" = -n ] && shift; [ "$1" = true ] || "$@"')
    machine.program("apt-get", f'[ "$1" = install ] && touch {machine.root}/installed || true')
    done = machine.make(".venv/.gl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "apt-get update" in machine.called()
    assert f"apt-get {PACKAGES}" in machine.called()
    assert (machine.root / ".venv" / ".gl").exists()


def test_where_rendering_works_nothing_is_installed(machine: Machine) -> None:
    machine.environment(renders="exit 0")
    assert machine.make(".venv/.gl").returncode == 0
    assert "apt-get" not in machine.called()


def test_an_old_python_is_refused_in_words(machine: Machine) -> None:
    machine.program("python3", "exit 1")
    done = machine.make(".venv/bin/python")
    assert done.returncode != 0
    assert "no Python 3.11 or newer" in done.stdout


def test_torch_comes_from_the_index_that_is_named(machine: Machine) -> None:
    machine.environment(renders="exit 0")
    assert machine.make("setup", TORCH_INDEX="https://torch.example/cpu").returncode == 0
    calls = [line for line in machine.called().splitlines() if "pip install" in line]
    assert "--index-url https://torch.example/cpu torch" in calls[0]
    assert all("--constraint constraints.txt" in call for call in calls)
    assert "torch.example" not in " ".join(calls[1:]), "the rest comes from the usual index"
    assert calls[1].endswith("--editable .")
    assert calls[2].endswith("--editable .[test,dev,ros,sweep]")


def test_the_second_call_starts_at_once(machine: Machine) -> None:
    machine.environment(renders="exit 0")
    machine.program("forearm", "", folder=machine.root / ".venv" / "bin")
    assert machine.make("demo").returncode == 0
    before = machine.called()
    done = machine.make("demo", "ARGS=seed=3")
    assert done.returncode == 0, done.stderr
    assert machine.called().removeprefix(before) == "forearm demo seed=3\n"


def test_every_target_is_explained() -> None:
    said = subprocess.run(["make", "help"], cwd=HOUSE, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "test-all", "bench", "check", "format", "setup", "build", "clean"):
        assert f"make {target} " in said


def test_ci_ends_with_the_tests() -> None:
    lines = (HOUSE / ".ci" / "run").read_text().splitlines()
    assert lines[-2:] == ["make check", "make test"]
    assert os.access(HOUSE / ".ci" / "run", os.X_OK)
