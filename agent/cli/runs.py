"""A run: its folder under outputs/, its log, and results.json that says what it was and how it ended."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import datetime
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

from agent.cli.schemas import UsageError

VERSIONS_OF = ("forearm", "torch", "numpy", "mujoco", "pybullet", "hydra-core", "rerun-sdk", "av", "h5py")
HOUSE = Path(__file__).resolve().parents[2]


class Run:
    """What a command gets beside its config.

    `dir` is the run's folder; `say` prints a line and logs it; what is put into `results` is written to
    results.json, also when the command fails or is stopped; `resumed` tells that `dir` held an earlier part.
    Under torchrun all processes share the folder, and only the first one speaks and writes results.
    """

    def __init__(
        self, command: str, path: Path | None, *, facts: dict[str, Any] | None = None, resumed: bool = False
    ) -> None:
        self.command = command
        self.resumed = resumed
        self.results: dict[str, Any] = {}
        self.log = logging.getLogger(f"forearm.{command}")
        self._path = path
        self._facts = facts or {}
        self._started = time.time()
        self._spent_s = spent_s(path) if resumed and path is not None else 0.0
        self.first = rank() == 0

    @property
    def dir(self) -> Path:
        assert self._path is not None, f"{self.command} keeps no run (KEEPS_RUN = False)"
        return self._path

    @property
    def keeps(self) -> bool:
        return self._path is not None

    def say(self, text: str = "") -> None:
        if self.first:
            print(text, flush=True)
        self.log.info(text, extra={"said": True})

    def save(self, status: str = "running", error: str | None = None) -> None:
        """Write results.json as things stand; a command may call it whenever there is something to keep."""
        if self._path is None or not self.first:
            return
        now = {
            "status": status,
            **({"error": error} if error else {}),
            "seconds": round(self._spent_s + time.time() - self._started, 3),
            "earlier_seconds": round(self._spent_s, 3),
        }
        write_json(
            self._path / "results.json", {"command": self.command, **now, **self._facts, **self.results}
        )


def rank() -> int:
    """This process's number under torchrun; 0 otherwise."""
    return int(os.environ.get("RANK", 0))


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """What JSON can hold: arrays and tensors become lists, paths text, enums names, NaN and infinity null.

    Of a dataclass its settings, without what it keeps for itself.
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if not f.name.startswith("_")]
        return {name: plain(getattr(value, name)) for name in names}
    to_list = getattr(value, "tolist", None)  # numpy and torch
    if to_list is not None:
        return plain(to_list())
    return str(value)


def facts_of(config: Any, overrides: list[str]) -> dict[str, Any]:
    """What a reader of results.json needs to do it again: versions, commit, seed, machine."""
    versions = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "overrides": overrides,
        "seed": getattr(config, "seed", None),
        "commit": commit(),
        "versions": versions,
        "hardware": hardware(),
    }


def commit() -> str | None:
    """The commit of the checkout that runs, with '+' when files differ from it; None outside a checkout."""
    if not (HOUSE / ".git").exists() or shutil.which("git") is None:
        return None
    try:
        words = ["git", "-C", str(HOUSE), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
        out = subprocess.run(words, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.stdout.strip() or None


def hardware() -> dict[str, Any]:
    import psutil

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "cpu": name,
        "cores": usable,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
    }
    torch = sys.modules.get("torch")  # a command that has not needed torch is not made to wait for it
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


# Where a run lives ----------------------------------------------------------------------------------------


def is_run(path: Path, command: str) -> bool:
    """Whether a folder holds a run of this command."""
    try:
        return json.loads((path / "results.json").read_text()).get("command") == command
    except (OSError, ValueError, AttributeError):
        return False


def runs_of(command: str, root: Path = Path("outputs")) -> list[Path]:
    """Runs of a command below `root`, oldest first."""
    return sorted(p.parent for p in (root / command).glob("*/*/results.json") if is_run(p.parent, command))


def refused(path: Path) -> bool:
    """A run that failed before it had anything to keep: what was typed was wrong."""
    failed = json.loads((path / "results.json").read_text()).get("status") == "failed"
    return failed and {p.name for p in path.iterdir()} <= {"config.yaml", "log.txt", "results.json"}


def find_run(command: str, where: str, out: str | None = None) -> Path:
    """The run that `resume=` means: true (with out=), `last`, a run folder, or something inside one."""
    if where.lower() == "true":
        if out is None:
            raise UsageError("resume=true needs out=DIR; or say resume=last or resume=DIR")
        where = out
    if where == "last":
        runs = runs_of(command)
        if not runs:
            raise UsageError(f"resume=last: there is no run of {command} under {Path('outputs').resolve()}")
        return next((run for run in reversed(runs) if not refused(run)), runs[-1])
    path = Path(where).expanduser()
    for folder in (path, *path.resolve().parents):
        if is_run(folder, command):
            return folder
    known = ", ".join(str(p) for p in runs_of(command)[-3:]) or "none under outputs/"
    what = "is not a run" if path.exists() else "does not exist, so it is no run"
    raise UsageError(f"resume={where}: {path.resolve()} {what} of {command}; runs found: {known}")


def spent_s(path: Path) -> float:
    """How long the parts of a run took until now; one that was killed took until its log's last line."""
    before = json.loads((path / "results.json").read_text())
    seconds, log = float(before.get("seconds", 0.0)), path / "log.txt"
    if before.get("status") != "running" or "started" not in before or not log.is_file():
        return seconds
    last_part_s = log.stat().st_mtime - datetime.fromisoformat(before["started"]).timestamp()
    return max(seconds, float(before.get("earlier_seconds", 0.0)) + last_part_s)


def earlier_overrides(path: Path) -> list[str]:
    return list(json.loads((path / "results.json").read_text()).get("overrides", []))


def make_folder(command: str, *, out: str | None, name: str, overwrite: bool, resumed: bool) -> Path:
    """Choose and make the folder; an existing run is refused, resumed or deleted as the user said."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if out is None:
            raise UsageError(
                "under torchrun name the folder, so that all processes share it: out=DIR or resume=DIR"
            )
        if rank() > 0:  # the first process makes it, before they all meet in the process group
            return Path(out).expanduser()
    if out is None:
        now = datetime.now()
        parent = Path("outputs") / command / now.strftime("%Y-%m-%d")
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            suffix = f"-{number}" if number > 1 else ""
            path = parent / f"{now.strftime('%H%M%S')}-{name}{suffix}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
        raise UsageError(f"a thousand runs called {name} began this second in {parent}")
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise UsageError(f"out={out}: {path.resolve()} is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and not resumed:
        if not overwrite:
            how = "resume=true goes on with it, " if is_run(path, command) else ""
            raise UsageError(
                f"out={out}: {path.resolve()} exists and is not empty; {how}overwrite=true deletes it first"
            )
        if not (path / "results.json").exists():
            # overwrite=true must never delete a home or a data set because of a wrong out=.
            raise UsageError(
                f"out={out} overwrite=true: {path.resolve()} does not look like a run (no results.json), "
                "so it is not deleted; remove it by hand or choose another folder"
            )
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    return path
